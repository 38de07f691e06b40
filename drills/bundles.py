"""A second bundle, whose answers are not the first one's: what a change under load changes to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drills.known import Array
from stn_core.bundle import MANIFEST, find_bundle, sha256_of

_MOVED = np.array([0.02, -0.03, 0.04, 0.03, 0.02, -0.04], np.float32)
"""What is added to theta: more than any tolerance, and little enough for the digits to be read."""
_LESS_SURE = 0.25
"""What logits are multiplied with."""


def second_bundle(folder: Path, version: str = "1002", source: str = "digits") -> Path:
    """A copy of a bundle that says ``version``: theta is moved, and the classifier is less sure of all it says.

    So that an answer made of both bundles fits neither of them.
    """
    shutil.copytree(find_bundle(source), folder)
    _edit(folder / "localization.onnx", lambda bias: bias + _MOVED, lambda weights: weights)
    _edit(folder / "classifier.onnx", lambda bias: bias * _LESS_SURE, lambda weights: weights * _LESS_SURE)
    return resigned(folder, version)


def _edit(path: Path, bias_of: Callable[[Array], Array], weights_of: Callable[[Array], Array]) -> None:
    """Changes the last layer of a network: a product, and behind it a sum."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    last = next(node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    product = next(node for node in model.graph.node if node.output[0] == last.input[0])
    for name, change in ((last.input[1], bias_of), (product.input[1], weights_of)):
        tensor = next(one for one in model.graph.initializer if one.name in (name, f"{name}/half"))
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)


def resigned(folder: Path, version: str) -> Path:
    """``folder`` with a manifest that says ``version`` and has the sha256 of the files that are there."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["version"] = version
    manifest["files"] = {name: sha256_of(folder / name) for name in manifest["files"]}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return folder


def broken_bundle(folder: Path, source: Path) -> Path:
    """A copy of ``source`` whose classifier is cut short, which its sha256 tells."""
    shutil.copytree(source, folder)
    data = (folder / "classifier.onnx").read_bytes()
    (folder / "classifier.onnx").write_bytes(data[: len(data) // 2])
    return folder
