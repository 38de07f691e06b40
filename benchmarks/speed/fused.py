"""A bundle's two networks and the sampler between them as one ONNX graph: the plain way to serve them.

Localization, AffineGrid, GridSample, the classifier. For bundles with images of one channel, whose two layouts are the
same in memory, and that keep their size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper, version_converter

from stn_core.bundle import find_bundle
from stn_core.engine import Engine

OPSET = 20  # the first with AffineGrid
MAX_DIFFERENCE = 1e-3


def fuse(source: str) -> onnx.ModelProto:
    """The graph of the bundle ``source``: ``images [N, H, W, 1]`` to logits."""
    localization = _network(source, "localization", rename_inputs=False)
    classifier = _network(source, "classifier", rename_inputs=True)
    (images,), (theta,) = localization.graph.input, localization.graph.output
    height, width = (side.dim_value for side in images.type.tensor_type.shape.dim[1:3])
    nodes, constants = _sampler(images.name, theta.name, classifier.graph.input[0].name, height, width)
    graph = helper.make_graph(
        [*localization.graph.node, *nodes, *classifier.graph.node],
        "localize_warp_classify",
        localization.graph.input,
        classifier.graph.output,
        [*localization.graph.initializer, *constants, *classifier.graph.initializer],
    )
    model = helper.make_model(graph, opset_imports=localization.opset_import, ir_version=localization.ir_version)
    onnx.checker.check_model(model)
    return model


def _network(source: str, name: str, rename_inputs: bool) -> Any:
    """The bundle's network, its names apart from those of the other."""
    model = version_converter.convert_version(onnx.load(find_bundle(source) / f"{name}.onnx"), OPSET)
    return compose.add_prefix(model, f"{name}/", rename_inputs=rename_inputs)


def _sampler(images: str, theta: str, warped: str, height: int, width: int) -> tuple[list[Any], list[Any]]:
    """The nodes from images and theta to the warped images, and the constants that they need."""
    shapes = {
        "theta_shape": [-1, 2, 3],
        "plane": [1, height, width],
        "planes_shape": [-1, 1, height, width],
        "images_shape": [-1, height, width, 1],
    }
    nodes = [
        helper.make_node("Reshape", [theta, "theta_shape"], ["theta"]),
        helper.make_node("Shape", [images], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "plane"], ["size"], axis=0),
        helper.make_node("AffineGrid", ["theta", "size"], ["grid"], align_corners=0),
        helper.make_node("Reshape", [images, "planes_shape"], ["planes"]),
        helper.make_node(
            "GridSample", ["planes", "grid"], ["sampled"], mode="linear", padding_mode="zeros", align_corners=0
        ),
        helper.make_node("Reshape", ["sampled", "images_shape"], [warped]),
    ]
    return nodes, [numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items()]


def check(path: Path, engine: Engine, images: NDArray[np.float32]) -> float:
    """The largest difference of a probability to ours. RuntimeError if a label differs, or a probability by 0.001."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(None, {"images": images})[0])
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    labels, probabilities = engine.classify(engine.rectify(images)[0])
    off = float(np.abs(exponents / exponents.sum(axis=1, keepdims=True) - probabilities).max())
    if off > MAX_DIFFERENCE or (labels != logits.argmax(axis=1)).any():
        raise RuntimeError(f"the fused graph does not answer as the engine does: probabilities differ by {off:.1e}")
    return off
