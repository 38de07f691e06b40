"""Requests that run as they are, for the OpenAPI document, and what the shipped bundle answers."""

import base64
import io
from typing import Any, NamedTuple

from services.protocol import ModelSpec
from stn_core.pictures import CHANNELS, decode_picture

DIGIT = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAtklEQVR42s2RoQ3DUAxET20GMAw0LDQMDCz0CIGFHSEjBBZ+WPhH+DDQsNCw"
    "0COUVFES/fAcOz3pfPIB5xZt3HVN7u2ji28Vyti1ovgEqNN5lzh6Ii0mkMkH2sGSGZSMMZoKAKBZICc4wGBImNfaipk8Xf+u2UKGa5/s7y67"
    "wwxG9voPpvAiBw/SiEQHbLBIdcI6eeRN5tKWeqWgYmu4tCWNTOUgVS176lGfrG1vr/d8uDPh9PoBnxM5qvXsAF4AAAAASUVORK5CYII="
)
"""A 2 of MNIST's training images, turned by 40 degrees, 28 x 28 px: a PNG as base64."""
_SHAPE, _CLASSES = (28, 28, 1), tuple("0123456789")

JsonTensor = dict[str, Any]


class Example(NamedTuple):
    """A request for one model, and the answer; None where the bundle's answer is not known here."""

    model: str
    summary: str
    request: dict[str, Any]
    answer: dict[str, Any] | None


def examples_of(specs: dict[str, ModelSpec]) -> list[Example]:
    """The examples for the models ``specs``; pictures have the size and the channels that the bundle wants."""
    predict, rectify, classify = (specs[name] for name in ("predict", "rectify", "classify"))
    examples = [_shift(specs["warp"]), _rotate(specs["augment"]), _corner(specs["map"])]
    if predict.inputs[0].shape[-1] not in CHANNELS:  # no PNG has others
        return examples
    known = _is_of_digits(predict) and _is_of_digits(classify)
    theta, best = {"name": "theta"}, {"name": "probabilities", "parameters": {"classification": 3}}
    return [
        *examples,
        _digit(predict, "Straighten and classify a picture", [{"name": "label"}, best, theta], _PREDICTED, known),
        _digit(rectify, "How a picture is to be straightened", [theta], [_THETA], known),
        _digit(classify, "Classify a picture as it is", [{"name": "label"}, best], _CLASSIFIED, known),
    ]


def _is_of_digits(spec: ModelSpec) -> bool:
    """Whether a model's tensors are as in the shipped bundle; a side of -1 takes any size."""
    fits = all(side in (-1, own) for side, own in zip(spec.inputs[0].shape[1:], _SHAPE, strict=True))
    affine = all(tensor.shape[1:] == (2, 3) for tensor in spec.outputs if tensor.name == "theta")
    return fits and affine and spec.classes_of("probabilities") == _CLASSES


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> JsonTensor:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


# What the shipped bundle says of the digit, numbers rounded: it takes the turned 2 for a 7 until it is straightened.
_THETA = _tensor("theta", "FP32", [1, 2, 3], [0.7562, 0.3643, 0.0124, -0.3642, 0.7562, -0.0543])
_PREDICTED = [
    _tensor("label", "INT64", [1], [2]),
    _tensor("probabilities", "BYTES", [1, 3], ["0.999673:2:2", "0.000144:7:7", "0.000085:3:3"]),
    _THETA,
]
_CLASSIFIED = [
    _tensor("label", "INT64", [1], [7]),
    _tensor("probabilities", "BYTES", [1, 3], ["0.795391:7:7", "0.085905:2:2", "0.057955:8:8"]),
]


def _shift(warp: ModelSpec) -> Example:
    theta = _tensor("theta", "FP32", [1, 2, 3], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    request = {"inputs": [_tensor("images", "UINT8", [1, 2, 2, 1], [10, 20, 30, 40]), theta]}
    shifted = _tensor("images", "UINT8", [1, 2, 2, 1], [20, 0, 40, 0])
    return _example(warp, "Shift an image by a pixel", request, [shifted])


def _rotate(augment: ModelSpec) -> Example:
    request = {
        "parameters": {"recipe": "rotation", "seed": 7},
        "inputs": [_tensor("images", "UINT8", [1, 3, 3, 1], [0, 0, 0, 0, 200, 200, 0, 0, 0])],
        "outputs": [{"name": "images"}, {"name": "theta"}, {"name": "exact"}],
    }
    rotated = [
        _tensor("images", "UINT8", [1, 3, 3, 1], [0, 83, 93, 16, 200, 38, 0, 16, 0]),
        _tensor("theta", "FP64", [1, 2, 3], [0.5830, -0.8125, 0.0, 0.8125, 0.5830, 0.0]),
        _tensor("exact", "BOOL", [1], [True]),
    ]
    return _example(augment, "Rotate an image at random", request, rotated)


def _corner(map_: ModelSpec) -> Example:
    inputs = [
        _tensor("points", "FP64", [1, 1, 2], [0.0, 0.0]),
        _tensor("theta", "FP64", [1, 2, 3], [0.0, -1.0, 0.0, 1.0, 0.0, 0.0]),
        _tensor("rectified_size", "INT64", [1, 2], [28, 28]),
        _tensor("source_size", "INT64", [1, 2], [300, 400]),
    ]
    mapped = [_tensor("points", "FP64", [1, 1, 2], [400.0, 0.0]), _tensor("inside", "BOOL", [1, 1], [True])]
    return _example(map_, "Where a corner of a straightened image came from", {"inputs": inputs}, mapped)


def _digit(
    spec: ModelSpec, summary: str, outputs: list[dict[str, Any]], answered: list[JsonTensor], known: bool
) -> Example:
    picture = _tensor("images", "BYTES", [1], [_picture(*spec.inputs[0].shape[1:])])
    picture["parameters"] = {"content_type": "base64"}
    request = {"id": "a digit", "inputs": [picture], "outputs": outputs}
    return _example(spec, summary, request, answered if known else None)


def _example(spec: ModelSpec, summary: str, request: dict[str, Any], answered: list[JsonTensor] | None) -> Example:
    answer = None
    if answered is not None:
        said = {"id": request["id"]} if "id" in request else {}
        answer = {"model_name": spec.name, "model_version": spec.version, **said, "outputs": answered}
    return Example(spec.name, summary, request, answer)


def _picture(height: int, width: int, channels: int) -> str:
    """The digit in this size (-1: its own), with these channels, as base64 of a PNG."""
    from PIL import Image

    size = None if -1 in (height, width) else (height, width)
    pixels = decode_picture(base64.b64decode(DIGIT), channels=channels, size=size)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
