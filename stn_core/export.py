"""Networks as ONNX, for serving without TensorFlow: converted by tf2onnx, and checked against TensorFlow."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np

from stn_core.errors import StnError
from stn_core.localization import Shape

OPSET = 18
CHECKED_IMAGES = 16
MAX_DIFFERENCE = 1e-4


class ExportFailed(StnError):
    """A network has no equal in ONNX; the message says how far it is off, or what cannot be converted."""

    code = "export-failed"


def to_onnx(network: Any, shape: Shape, seed: int = 0) -> bytes:
    """``network`` (images float32 ``[B, H, W, C]`` to one array) as an ONNX file with the input ``images``.

    Its weights are stored in half precision where that loses nothing. ExportFailed if a layer cannot be converted, or
    if the outputs of random images differ from TensorFlow's by more than 1e-4 of the largest.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    function = tf.function(lambda images: network(images, training=False))
    signature = [tf.TensorSpec([None, *shape], tf.float32, name="images")]
    try:
        model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
        _halve_exact_weights(model)
        written: bytes = model.SerializeToString()
        # An operation that has no equal shows here: it is left in the file as it was.
        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportFailed(f"{network.name}: cannot be converted to ONNX: {str(error).splitlines()[0]}") from None
    images = np.random.default_rng(seed).random((CHECKED_IMAGES, *shape), np.float32)
    expected = np.asarray(function(tf.constant(images)))
    found = np.asarray(session.run(None, {"images": images})[0])
    off = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
    if not off <= MAX_DIFFERENCE:
        raise ExportFailed(f"{network.name}: the ONNX file's answers differ from TensorFlow's by {off:.1e}")
    return written


def _halve_exact_weights(model: Any) -> None:
    """Stores float32 weights as float16 where each of them is one, with a Cast that ONNX Runtime folds on loading."""
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    for index, initializer in enumerate(graph.initializer):
        weights = numpy_helper.to_array(initializer)
        if weights.dtype != np.float32 or weights.size < 256:
            continue
        halved = weights.astype(np.float16)
        if not np.array_equal(halved.astype(np.float32), weights):
            continue
        name = initializer.name
        graph.initializer[index].CopyFrom(numpy_helper.from_array(halved, f"{name}/half"))
        graph.node.insert(0, helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
