"""Whether an image is rectified or kept as it came, and why: limits on what a theta may do, and on its confidence.

Everything here is NumPy over a batch; what a confidence rests on is in ``stn_core.confidence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stn_core.errors import InvalidInput, brief, shortened
from stn_core.geometry import Size, affine_fits, invert
from stn_core.motion import MIDDLE, Motion, motion_of
from stn_core.recipes import Recipe, draw, known_theta
from stn_core.transforms import identity_like, map_points

DRAWS = 4096
SCALE_MARGIN, TURN_MARGIN_DEG, SHEAR_MARGIN_DEG = 1.25, 15.0, 10.0
MAX_CONTENT_LOST = 0.2
MIN_MOTION_PX = 0.25

Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0, le=1e6)]


class Reason(IntEnum):
    """Why an image was rectified (``OK``) or kept: the first that applies, in this order."""

    OK = 0
    SINGULAR = 1
    MIRRORED = 2
    SCALE = 3
    TURN = 4
    SHEAR = 5
    CONTENT_LOST = 6
    ALREADY_STRAIGHT = 7
    LOW_CONFIDENCE = 8


REASONS = tuple(reason.name.lower().replace("_", "-") for reason in Reason)
"""The words for reasons, by their code: ``ok``, ``singular``, ... ``low-confidence``."""


class Limits(BaseModel):
    """What a rectification may do to an image, else the image is kept. Without arguments nothing is limited.

    ``min_scale``, ``max_scale``: how large what was 1 px may be shown, in px; ``max_turn_deg``, ``max_shear_deg``: the
    angles of ``motion.Motion``; ``may_mirror``: whether it may show the mirror image; ``max_content_lost``: the share
    of the image's mass that may end outside; ``min_motion_px``: less than this is no motion, and the image straight
    already; ``min_confidence``: the least confidence. A theta that is singular is never applied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    min_scale: Scale = 0.0
    max_scale: Scale = 1e6
    max_turn_deg: Annotated[float, Field(ge=0, le=180)] = 180.0
    max_shear_deg: Annotated[float, Field(ge=0, le=90)] = 90.0
    may_mirror: bool = True
    max_content_lost: Share = 1.0
    min_motion_px: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    min_confidence: Share = 0.0

    def changed(self, changes: Mapping[str, Any]) -> Limits:
        """These limits with some of them set anew; InvalidInput says which is unknown or out of range."""
        try:
            return Limits.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = shortened(".".join(map(str, first["loc"])), 40)
            raise InvalidInput(f"limits: {place}: {first['msg']}, got {brief(first['input'])}") from None


def recipe_limits(recipe: Recipe, original_size: Size, input_size: Size, rectified_size: Size) -> Limits:
    """The limits of what undoes ``recipe``: the range of the thetas that straighten its images, and a margin.

    The margins are a factor 1.25 of scale either way, 15 degrees of turn and 10 of shear. A fifth of the content may be
    lost; where the recipe has a canvas any share, as there may be clutter on it. Images of ``original_size`` become,
    by the recipe, of ``input_size``, and are shown at ``rectified_size``.
    """
    drawn = draw(recipe, 0, np.arange(DRAWS, dtype=np.uint64))
    theta_true = known_theta(recipe, drawn, original_size)[0]
    nearest = theta_true if theta_true.shape[1:] == (2, 3) else affine_fits(MIDDLE, map_points(theta_true, MIDDLE))
    found = motion_of(invert(nearest), input_size, rectified_size)
    return Limits(
        min_scale=round(float(found.scale.min()) / SCALE_MARGIN, 3),
        max_scale=round(float(found.scale.max()) * SCALE_MARGIN, 3),
        max_turn_deg=min(180.0, round(float(found.turn_deg.max()) + TURN_MARGIN_DEG, 1)),
        max_shear_deg=min(90.0, round(float(found.shear_deg.max()) + SHEAR_MARGIN_DEG, 1)),
        may_mirror=bool(found.mirrored.any()),
        max_content_lost=MAX_CONTENT_LOST if recipe.canvas is None else 1.0,
        min_motion_px=MIN_MOTION_PX,
    )


@dataclass(frozen=True)
class Decisions:
    """For each image whether it is ``rectified [N]`` (else kept), the ``reason [N]`` (codes of ``Reason``, uint8),
    and the ``confidence [N]`` float32, None where the bundle has none.
    """

    rectified: NDArray[np.bool_]
    reason: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None

    def reasons(self) -> list[str]:
        """The words for the reasons, one an image."""
        return [REASONS[code] for code in self.reason.tolist()]

    def applied(self, theta: NDArray[Any]) -> NDArray[Any]:
        """``theta [N, ...]`` where it was applied, and the identity where the image was kept."""
        straight = identity_like(theta.shape[1:]).astype(theta.dtype)
        return np.where(self.rectified[:, None, None], theta, straight)


def decide(
    motion: Motion, content_kept: NDArray[Any], confidence: NDArray[np.float32] | None, limits: Limits
) -> Decisions:
    """What becomes of each image; ``confidence`` may be None where ``limits.min_confidence`` is 0."""
    if confidence is None and limits.min_confidence > 0:
        raise ValueError("confidence: expected one for each image, as the limits ask for it")
    beyond = {
        Reason.ALREADY_STRAIGHT: motion.moved_px < limits.min_motion_px,
        Reason.CONTENT_LOST: ~(1 - content_kept <= limits.max_content_lost),
        Reason.SHEAR: motion.shear_deg > limits.max_shear_deg,
        Reason.TURN: motion.turn_deg > limits.max_turn_deg,
        Reason.SCALE: (motion.scale < limits.min_scale) | (motion.scale > limits.max_scale),
        Reason.MIRRORED: motion.mirrored & (not limits.may_mirror),
        Reason.SINGULAR: motion.singular,
    }
    if confidence is not None:
        beyond[Reason.LOW_CONFIDENCE] = ~(confidence >= limits.min_confidence)
    reason = np.zeros(len(content_kept), np.uint8)
    for why, applies in sorted(beyond.items(), reverse=True):  # the first of the enumeration has the last word
        reason[applies] = why
    return Decisions(reason == Reason.OK, reason, confidence)
