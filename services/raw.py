"""Triton's raw binary request: a body that is one image and nothing else; the model tells what its bytes mean."""

import math

import numpy as np

from services.batching import Array
from services.protocol import ModelSpec
from stn_core.errors import BadTensor
from stn_core.tensors import DTYPES
from stn_core.wire import InferRequest

_PNG, _JPEG, _END_OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"


def raw_request(body: bytes, spec: ModelSpec) -> InferRequest:
    """The request for all outputs, as binary data, of a model's one input: a batch of one image.

    A PNG or JPEG is read as such; other bytes are the pixels of an image of the model's size, UINT8 or FP32 by their
    number. BadTensor if they are neither, or the model needs more than one image.
    """
    required = [tensor.name for tensor in spec.inputs if tensor.name not in spec.parameters.get("optional_inputs", ())]
    needs = [*required, *spec.required_parameters]
    if len(needs) != 1:
        raise BadTensor(
            f"model {spec.name} needs {', '.join(needs)}, which a raw body without JSON cannot carry; send JSON before "
            "the data, and its length in Inference-Header-Content-Length"
        )
    return InferRequest({required[0]: _image(body, spec.inputs[0].shape[1:])}, None, {"binary_data_output": True})


def _image(body: bytes, shape: tuple[int, ...]) -> Array:
    values = math.prod(shape) if -1 not in shape else None
    dtype = None if values is None else {values: DTYPES["UINT8"], 4 * values: DTYPES["FP32"]}.get(len(body))
    # Pixels may begin like a JPEG by chance, but then hardly end like one.
    if body.startswith(_PNG) or (body.startswith(_JPEG) and (dtype is None or body.endswith(_END_OF_JPEG))):
        picture = np.empty(1, object)
        picture[0] = bytes(body)
        return picture
    if dtype is None:
        size = f"{values} bytes (UINT8 {list(shape)}), {4 * values} bytes (FP32), or " if values is not None else ""
        raise BadTensor(f"images: expected as a raw body {size}a PNG or JPEG file, got {len(body)} bytes")
    return np.frombuffer(body, dtype).reshape(1, *shape)
