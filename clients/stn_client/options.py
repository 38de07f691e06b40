"""What a call takes beside its own arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

import numpy as np

from stn_client.flow import Deadline
from stn_client.progress import Progress, checked_progress
from stn_client.splitting import ENOUGH_IMAGES, ENOUGH_IMAGES_TO_KEEP
from stn_core.annotations import Annotations
from stn_core.errors import InvalidInput

MOST = {
    "min_confidence": 1.0,
    "min_scale": 1e6,
    "max_scale": 1e6,
    "max_turn_deg": 180.0,
    "max_shear_deg": 90.0,
    "max_content_lost": 1.0,
    "min_motion_px": 1e4,
}
"""The largest value of each limit that is a number; the smallest is 0."""
FLAGS = ("decide", "may_mirror")


class WarpOptions(TypedDict, total=False):
    """What every call takes."""

    progress: Progress
    """True shows a bar on the terminal; a function is told ``(done, total)``, ``total`` None if it is not known."""
    deadline_s: float | None
    """Seconds after which the call ends with TimedOut, its pauses and retries included; None is no limit."""
    batch_images: int
    """The most images in one request, 512 unless said: fewer come back sooner from a source that is slow."""


class Options(WarpOptions, total=False):
    """What the calls take whose results can hold errors."""

    errors: Literal["raise", "keep"]
    """``keep``: an image that cannot be read, or is refused, has its error in the result and harms no other."""


class RectifyOptions(Options, total=False):
    """What the calls take that straighten: limits. With any of them, images that go beyond are kept as they came.

    Those that are not given, or None, are the bundle's own.
    """

    decide: bool | None
    """True has images kept that go beyond the bundle's own limits, also where none is given here."""
    min_confidence: float | None
    """Images rectified with less confidence are kept."""
    min_scale: float | None
    """The least scale that a rectification may show an image at, ..."""
    max_scale: float | None
    """... and the largest."""
    max_turn_deg: float | None
    """The largest turn, ..."""
    max_shear_deg: float | None
    """... and the largest shear."""
    max_content_lost: float | None
    """The largest share of an image's content that may end outside."""
    min_motion_px: float | None
    """Less motion than this is none: the image is straight already."""
    may_mirror: bool | None
    """Whether a rectification may mirror."""


class StraightenOptions(RectifyOptions, total=False):
    """What ``straighten`` takes."""

    canvas: Literal["crop", "fit"]
    """``crop``, unless given, shows what the network's window shows; ``fit`` the whole image."""
    size: tuple[int, int] | None
    """(height, width) of what comes out, px; the source's resolution if it is None."""
    max_side_px: int | None
    """The longer side of what comes out, at most."""
    mask: bool
    """Whether the result has the mask of what was read from inside the source."""
    pictures: bool
    """Whether images are made at all, and masks: False gives the rest alone, and far sooner."""


class AugmentOptions(Options, total=False):
    """What ``augment`` takes."""

    copies: int
    """How many distorted images to make of each, one after another in the result."""
    annotations: Iterable[Annotations | None] | None
    """What is annotated on each image, which then moves with it: one for each, or None."""


@dataclass(frozen=True)
class Chosen:
    """Options as they hold for one call."""

    progress: Progress
    deadline: Deadline | None
    batch_images: int
    keep: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], default_deadline_s: float | None, known: frozenset[str]) -> Self:
        """What is ``given`` of the ``known`` options, else what is usual; InvalidInput or TypeError if it is none."""
        unknown = given.keys() - known
        if unknown:
            raise TypeError(f"expected options of {', '.join(sorted(known))}, got {min(unknown)!r}")
        errors = given.get("errors", "raise")
        if errors not in ("raise", "keep"):
            raise InvalidInput(f"errors: expected 'raise' or 'keep', got {errors!r}")
        keep = errors == "keep"
        enough = given.get("batch_images", ENOUGH_IMAGES)
        if not isinstance(enough, int) or enough < 1:
            raise InvalidInput(f"batch_images: expected a whole number from 1, got {enough!r}")
        deadline_s = given.get("deadline_s", default_deadline_s)
        return cls(
            checked_progress(given.get("progress", False)),
            None if deadline_s is None else Deadline(deadline_s),
            min(enough, ENOUGH_IMAGES_TO_KEEP) if keep else enough,
            keep,
        )


def limits_of(given: Mapping[str, Any]) -> dict[str, float | bool]:
    """The limits among the options ``given``, as the service takes them; InvalidInput if one makes no sense."""
    limits: dict[str, float | bool] = {}
    for name, most in MOST.items():
        value = given.get(name)
        if value is None:
            continue
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= most:
            raise InvalidInput(f"{name}: expected a number from 0 to {most:g}, got {value!r}")
        limits[name] = float(value)
    limits |= {name: _flag(name, given[name]) for name in FLAGS if given.get(name) is not None}
    return limits


def canvas_of(given: Mapping[str, Any]) -> dict[str, str | int]:
    """The output that ``straighten`` is to make, as the service takes it; InvalidInput if it makes no sense."""
    canvas, size, most = given.get("canvas", "crop"), given.get("size"), given.get("max_side_px")
    if canvas not in ("crop", "fit"):
        raise InvalidInput(f"canvas: expected 'crop' or 'fit', got {canvas!r}")
    if size is not None and most is not None:
        raise InvalidInput("expected size or max_side_px, got both; leave one out")
    if most is not None:
        return {"canvas": canvas, "max_side_px": _side("max_side_px: expected", most)}
    if size is None:
        return {"canvas": canvas}
    expected = "size: expected (height, width), each"
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise InvalidInput(f"{expected} a whole number of px from 1, got {size!r}")
    return {"canvas": canvas, "height": _side(expected, size[0]), "width": _side(expected, size[1])}


def copies_of(given: Mapping[str, Any]) -> int:
    """How many images ``augment`` is to make of each; InvalidInput if it is no whole number from 1."""
    copies = given.get("copies", 1)
    if not isinstance(copies, int | np.integer) or isinstance(copies, bool) or copies < 1:
        raise InvalidInput(f"copies: expected a whole number from 1, got {copies!r}")
    return int(copies)


def mask_of(given: Mapping[str, Any]) -> bool:
    """Whether ``straighten`` is to give the mask; InvalidInput if it is neither True nor False."""
    return _flag("mask", given.get("mask", False))


def pictures_of(given: Mapping[str, Any]) -> bool:
    """Whether ``straighten`` is to make images; InvalidInput if it is neither True nor False."""
    return _flag("pictures", given.get("pictures", True))


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def _side(expected: str, value: object) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{expected} a whole number of px from 1, got {value!r}")
    return int(value)
