"""Copies a folder of pictures, each with all but the disc (or ellipse) in its middle made black.

    .venv/bin/python benchmarks/own_data/cut_discs.py shapes discs

A disc looks the same however it is turned, so a network that is to turn pictures upright has nothing to look at but
what is in them; of whole pictures it looks at the black corners that turning gives them. docs/own-data.md tells more.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stn_core.datasets.folder import SUFFIXES
from stn_core.errors import StnError
from stn_core.pictures import decode_picture


def in_disc(images: NDArray[Any]) -> NDArray[Any]:
    """``images [..., H, W, C]``, black outside of the ellipse that touches the middles of their sides."""
    height, width = images.shape[-3:-1]
    y, x = ((2 * np.arange(side) + 1) / side - 1 for side in (height, width))
    inside = y[:, None] ** 2 + x**2 <= 1
    return images * inside[..., None].astype(images.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of class folders")
    parser.add_argument("target", type=Path, help="a new folder")
    arguments = parser.parse_args()
    if arguments.target.exists():
        parser.error(f"{arguments.target} exists; name a new folder")
    for file in sorted(arguments.source.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            target = arguments.target / file.relative_to(arguments.source)
            _copy(file, target.with_name(f"{file.name}.png"))  # 1.jpg and 1.png stay two


def _copy(file: Path, target: Path) -> None:
    try:
        pixels = in_disc(decode_picture(file))
    except StnError as error:
        print(f"left out: {file}: {error}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(target)


if __name__ == "__main__":
    main()
