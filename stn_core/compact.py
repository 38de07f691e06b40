"""Small files for networks: weights of half precision, compressed."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def round_weights(network: Any) -> None:
    """Rounds the kernels of ``network`` to numbers that half precision holds: 11 bits, where noise is far larger.

    The network that is measured is then the one that is stored, in half the bytes. Biases and statistics stay.
    """
    for weights in network.trainable_variables:
        if len(weights.shape) >= 2:
            weights.assign(weights.numpy().astype(np.float16).astype(np.float32))


def save_keras(network: Any, path: Path) -> None:
    """Saves ``network`` as a ``.keras`` file, which is a zip archive, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        network.save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as to:
            for name in source.namelist():
                to.writestr(name, source.read(name))
