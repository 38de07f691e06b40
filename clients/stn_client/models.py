"""The models that the service serves: their outputs, and the results made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from stn_client.options import AugmentOptions, Options, RectifyOptions, StraightenOptions
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Straightening, Warping

R = TypeVar("R")

PICTURES, MASKS, SENT_SIZES = "pictures", "masks", "sent sizes"
"""In place of a datatype: in that of the images; in UINT8; the sizes of the images that were sent, which the client
tells and not the service."""
NO_OUTPUTS: Mapping[str, str] = {}


class Model(NamedTuple, Generic[R]):
    """A served model: its outputs with their datatypes, and the result they make.

    ``result`` takes the outputs by name, the parameters that came with them, ``index`` and ``errors``.
    """

    name: str
    outputs: Mapping[str, str]
    result: Callable[..., R]
    by_choice: Mapping[str, str] = NO_OUTPUTS
    """Outputs that an answer may lack; to ask for one by name would then be an error."""
    options: frozenset[str] = Options.__optional_keys__
    """What its calls take."""
    outputs_vary: bool = False
    """Whether the outputs depend on more than the model, so that none is asked for by name."""
    of_any_size: bool = False
    """Whether images of several sizes are sent together: pictures come back as files then, where files went."""

    @property
    def named(self) -> list[str]:
        """The outputs that can be asked for by name."""
        return [name for name, kind in self.outputs.items() if kind != SENT_SIZES]

    def kind(self, output: str) -> str:
        """The datatype of an output, or one of the words in place of it."""
        return self.outputs.get(output) or self.by_choice[output]

    def datatype(self, output: str, sent_as: str) -> str:
        """The datatype that an output is to have where the images were ``sent_as`` of this one."""
        kind = self.kind(output)
        if kind not in (PICTURES, MASKS):
            return kind
        if sent_as == "BYTES":
            return "BYTES" if self.of_any_size else "UINT8"
        return sent_as if kind == PICTURES else "UINT8"


def _of(result: type[R]) -> Callable[..., R]:
    def make(outputs: Mapping[str, Any], parameters: Mapping[str, Any], **place: Any) -> R:
        return result(**outputs, **place)

    return make


def _straightening(outputs: Mapping[str, Any], parameters: Mapping[str, Any], **place: Any) -> Straightening:
    encoded: dict[str, Any] = {"encoded": outputs.get("images"), "encoded_mask": outputs.get("mask")}
    rest = {name: values for name, values in outputs.items() if name not in ("images", "mask")}
    return Straightening(**encoded, **rest, **place)


def _augmentation(outputs: Mapping[str, Any], parameters: Mapping[str, Any], **place: Any) -> Augmentation:
    by_imgaug = tuple(filter(None, str(parameters.get("by_imgaug", "")).split(",")))
    return Augmentation(**{"theta_rectifying": None, **outputs}, by_imgaug=by_imgaug, **place)


_READ = {"label": "INT64", "probabilities": "FP32"}
_STRAIGHT = {"rectified": PICTURES, "theta": "FP32", "source_size": SENT_SIZES}
_DECIDED = {"decision": "BYTES", "reason": "BYTES", "confidence": "FP32"}
_LIMITED = RectifyOptions.__optional_keys__
_APPLIED = {"theta_applied": "FP32"}
_STRAIGHT_AT_ANY_SIZE = {
    "images": PICTURES, **_READ, "theta": "FP64", "rectified_size": "INT64", "source_size": "INT64",
}  # fmt: skip

PREDICT = Model("predict", {**_READ, **_STRAIGHT}, _of(Prediction), _DECIDED | _APPLIED, _LIMITED)
RECTIFY = Model("rectify", _STRAIGHT, _of(Rectification), _DECIDED | _APPLIED, _LIMITED)
STRAIGHTEN = Model(
    "straighten",
    _STRAIGHT_AT_ANY_SIZE,
    _straightening,
    _DECIDED,
    StraightenOptions.__optional_keys__,
    of_any_size=True,
)
STRAIGHTEN_WITH_MASK = STRAIGHTEN._replace(outputs={**_STRAIGHT_AT_ANY_SIZE, "mask": MASKS})
STRAIGHTEN_WITHOUT_PICTURES = STRAIGHTEN._replace(
    outputs={name: kind for name, kind in _STRAIGHT_AT_ANY_SIZE.items() if name != "images"}
)
CLASSIFY = Model("classify", _READ, _of(Classification))
WARP = Model("warp", {"images": PICTURES}, _of(Warping))
AUGMENT = Model(
    "augment",
    {"images": PICTURES, "theta": "FP64", "exact": "BOOL", "source_size": SENT_SIZES},
    _augmentation,
    {"theta_rectifying": "FP64"},
    AugmentOptions.__optional_keys__,
    outputs_vary=True,
)
