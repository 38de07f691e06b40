"""A classifier that was trained already, taken as it is: the transformer goes in front of it."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stn_core.bundle import load_keras
from stn_core.datasets import Dataset, to_float
from stn_core.errors import BadBundle, BadData
from stn_core.geometry import Size, identity
from stn_core.sampler import warp

BATCH_SIZE = 500
MUCH_BETTER = 0.2
# Ranges that classifiers are often trained on in place of 0..1, and the layer that makes them of it.
OTHER_RANGES = {"0..255": (255.0, 0.0), "-1..1": (2.0, -1.0)}
ONLY_FOR_TRAINING = "compile_config"


@dataclass(frozen=True)
class OwnClassifier:
    """A saved network that maps images ``[B, H, W, C]`` in [0, 1] to logits or probabilities ``[B, K]``."""

    network: Any
    size: Size
    channels: int
    classes: int
    gives: Literal["logits", "probabilities"]

    def accuracy(self, data: Dataset, scale: float = 1.0, offset: float = 0.0) -> float:
        """The share of ``data`` it reads right, the images as they are, ``scale * image + offset``."""
        right = 0
        for start in range(0, len(data), BATCH_SIZE):
            rows = slice(start, start + BATCH_SIZE)
            images = to_float(data.images[rows])
            if images.shape[1:3] != self.size:
                images = warp(images, identity(len(images)), self.size)
            scores = self.network(images * scale + offset, training=False)
            right += int((np.argmax(scores, axis=1) == data.labels[rows]).sum())
        return right / len(data)


def load_classifier(path: Path) -> OwnClassifier:
    """The classifier in a ``.keras`` file; BadData or BadBundle says what is wrong with it."""
    if not path.is_file():
        raise BadData(f"{path}: expected a .keras file saved by tf_keras, but there is none")
    with _without_its_training(path) as file:
        try:
            network = load_keras(file)
        except BadBundle as error:
            raise BadBundle(str(error).replace(str(file), str(path))) from None
    came, given = (getattr(network, shape, None) for shape in ("input_shape", "output_shape"))
    if not (isinstance(came, tuple) and len(came) == 4 and all(isinstance(side, int) for side in came[1:])):
        raise BadData(f"{path}: expected one input of images [B, height, width, channels] of a fixed size, got {came}")
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], int) and given[1] >= 2):
        raise BadData(f"{path}: expected one output of classes [B, K], K at least 2, got {given}")
    return OwnClassifier(network, came[1:3], came[3], given[1], _gives(network))


def check_reading(own: OwnClassifier, data: Dataset) -> float:
    """The share of the straight images of ``data`` that ``own`` reads right; BadData if it wants another range."""
    reads = own.accuracy(data)
    for name, (scale, offset) in OTHER_RANGES.items():
        would = own.accuracy(data, scale, offset)
        if would > reads + MUCH_BETTER:
            raise BadData(
                f"the classifier reads {reads:.1%} of the straight images right, and {would:.1%} of them in {name}: it "
                "was trained on that range, and is given 0..1. Put tf_keras.layers.Rescaling"
                f"({scale:g}, offset={offset:g}) in front of it and save it again"
            )
    return reads


@contextmanager
def _without_its_training(path: Path) -> Iterator[Path]:
    """A copy without the losses and metrics a model was compiled with: they are code to import, and not needed."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError, TypeError):
        yield path  # which is then refused as what it is
        return
    if not version.startswith("2."):
        raise BadData(
            f"{path}: expected a file saved by tf_keras (Keras 2), got one saved by Keras {version}. Build the same "
            "network of tf_keras.layers, give it the weights by set_weights(model.get_weights()), and save that"
        )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as written:
            for name in archive.namelist():
                written.writestr(name, json.dumps(_stripped(config)) if name == "config.json" else archive.read(name))
        yield copy


def _stripped(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _stripped(value) for key, value in node.items() if key != ONLY_FOR_TRAINING}
    return [_stripped(value) for value in node] if isinstance(node, list) else node


def _gives(network: Any) -> Literal["logits", "probabilities"]:
    """What the last layer answers, be it in a network within the network."""
    last = network
    while hasattr(last, "layers"):
        last = last.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", type(last).__name__)
    return "probabilities" if activation.lower() in ("softmax", "sigmoid") else "logits"
