"""The models that the service serves: their outputs, and the results made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from stn_client.results import Augmentation, Classification, Prediction, Rectification, Warping

R = TypeVar("R")

# Outputs that an answer may lack; to ask for one by name would then be an error.
OPTIONAL_OUTPUTS = frozenset({"theta_rectifying"})


class Model(NamedTuple, Generic[R]):
    """A served model: its outputs with their datatypes (None: that of the images), and the result they make.

    ``result`` takes the outputs by name, the parameters that came with them, ``index`` and ``errors``.
    """

    name: str
    outputs: Mapping[str, str | None]
    result: Callable[..., R]

    @property
    def asked(self) -> list[str] | None:
        """The outputs to ask for by name; None leaves the choice to the server."""
        return None if OPTIONAL_OUTPUTS & self.outputs.keys() else list(self.outputs)


def _of(result: type[R]) -> Callable[..., R]:
    def make(outputs: Mapping[str, Any], parameters: Mapping[str, Any], **place: Any) -> R:
        return result(**outputs, **place)

    return make


def _augmentation(outputs: Mapping[str, Any], parameters: Mapping[str, Any], **place: Any) -> Augmentation:
    by_imgaug = tuple(filter(None, str(parameters.get("by_imgaug", "")).split(",")))
    return Augmentation(**{"theta_rectifying": None, **outputs}, by_imgaug=by_imgaug, **place)


PREDICT = Model(
    "predict", {"label": "INT64", "probabilities": "FP32", "theta": "FP32", "rectified": None}, _of(Prediction)
)
RECTIFY = Model("rectify", {"rectified": None, "theta": "FP32"}, _of(Rectification))
CLASSIFY = Model("classify", {"label": "INT64", "probabilities": "FP32"}, _of(Classification))
WARP = Model("warp", {"images": None}, _of(Warping))
AUGMENT = Model(
    "augment", {"images": None, "theta": "FP64", "theta_rectifying": "FP64", "exact": "BOOL"}, _augmentation
)
