"""Decisions for thetas that are known, limit by limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_motion import SIZE, pixels, turned

from stn_core.decision import REASONS, Decisions, Limits, Reason, decide, recipe_limits
from stn_core.errors import InvalidInput
from stn_core.geometry import identity
from stn_core.motion import motion_of
from stn_core.recipes import load_recipe, parse_recipe
from stn_core.transforms import identity_like

THETAS = {
    "nothing": identity(1),
    "a little": pixels([[1, 0], [0, 1]], (0.1, 0)),
    "turned by 30": pixels(turned(30)),
    "turned by 80": pixels(turned(80)),
    "sheared by 25": pixels([[1, np.tan(np.deg2rad(25))], [0, 1]]),
    "shown three times as large": pixels([[1 / 3, 0], [0, 1 / 3]]),
    "shown at a third": pixels([[3, 0], [0, 3]]),
    "mirrored": pixels([[-1, 0], [0, 1]]),
    "to a line": pixels([[0, 0], [0, 1]]),
    "no number": identity(1) * np.nan,
}
MOTION = motion_of(np.concatenate(list(THETAS.values())), SIZE, SIZE)
COUNT = len(THETAS)
SINGULAR = {"to a line": "singular", "no number": "singular"}


def _decide(limits: Limits, confidence: Any = None, content_kept: Any = 1.0) -> Decisions:
    given = None if confidence is None else np.full(COUNT, confidence, np.float32)
    return decide(MOTION, np.full(COUNT, content_kept), given, limits)


def _kept(decisions: Decisions) -> dict[str, str]:
    """The reason for each image that was kept."""
    assert decisions.rectified.dtype == bool
    assert decisions.reason.dtype == np.uint8
    np.testing.assert_array_equal(decisions.rectified, decisions.reason == Reason.OK)
    return {name: reason for name, reason in zip(THETAS, decisions.reasons(), strict=True) if reason != "ok"}


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({}, {}),
        ({"max_scale": 2.9}, {"shown three times as large": "scale"}),
        ({"max_scale": 3.1}, {}),
        ({"min_scale": 0.34}, {"shown at a third": "scale"}),
        ({"max_turn_deg": 79}, {"turned by 80": "turn"}),
        ({"max_turn_deg": 29, "may_mirror": False},
         {"turned by 30": "turn", "turned by 80": "turn", "mirrored": "mirrored"}),
        ({"max_shear_deg": 24}, {"sheared by 25": "shear"}),
        ({"max_shear_deg": 26}, {}),
        ({"may_mirror": False}, {"mirrored": "mirrored"}),
        ({"min_motion_px": 0.25}, {"nothing": "already-straight", "a little": "already-straight"}),
        ({"min_motion_px": 0.05}, {"nothing": "already-straight"}),
    ],
)  # fmt: skip
def test_each_limit_keeps_what_is_beyond_it_and_no_more(limits: dict[str, Any], kept: dict[str, str]) -> None:
    assert _kept(_decide(Limits(**limits))) == {**kept, **SINGULAR}


def test_content_may_be_lost_up_to_the_limit() -> None:
    assert _kept(_decide(Limits(max_content_lost=0.2), content_kept=0.8)) == SINGULAR
    lost = _kept(_decide(Limits(max_content_lost=0.2), content_kept=0.79))
    assert set(lost.values()) == {"content-lost", "singular"}
    assert len(lost) == COUNT
    assert len(_kept(_decide(Limits(max_content_lost=0.2), content_kept=np.nan))) == COUNT


def test_of_several_reasons_the_first_is_given() -> None:
    strict = Limits(max_scale=1, max_turn_deg=0, max_shear_deg=0, may_mirror=False, min_motion_px=99, min_confidence=1)
    assert _kept(_decide(strict, confidence=0.5, content_kept=0.5)) == {
        "nothing": "already-straight",
        "a little": "already-straight",
        "turned by 30": "turn",
        "turned by 80": "turn",
        "sheared by 25": "turn",
        "shown three times as large": "scale",
        "shown at a third": "already-straight",
        "mirrored": "mirrored",
        **SINGULAR,
    }


def test_a_higher_threshold_never_rectifies_more() -> None:
    random = np.random.default_rng(0)
    theta = identity(500) + random.normal(0, 0.1, (500, 2, 3))
    motion, confidence = motion_of(theta, SIZE, SIZE), random.random(500).astype(np.float32)
    before = np.ones(500, bool)
    for least in np.linspace(0, 1, 21):
        decisions = decide(motion, np.ones(500), confidence, Limits(min_confidence=least))
        np.testing.assert_array_equal(decisions.rectified, confidence >= np.float32(least))
        assert not (decisions.rectified & ~before).any()
        assert set(decisions.reasons()) <= {"ok", "low-confidence"}
        before = decisions.rectified
    assert not before.any()


def test_a_confidence_that_is_no_number_is_low_and_one_that_is_missing_cannot_be_asked_for() -> None:
    assert set(_decide(Limits(min_confidence=0.1), confidence=np.nan).reasons()) == {"low-confidence", "singular"}
    assert _decide(Limits()).confidence is None
    with pytest.raises(ValueError, match="as the limits ask for it"):
        _decide(Limits(min_confidence=0.1))


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (16, 2)])
def test_what_is_kept_is_shown_by_the_identity(shape: tuple[int, int]) -> None:
    theta = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    decisions = Decisions(np.array([True, False, True, False]), np.array([0, 3, 0, 8], np.uint8), None)
    applied = decisions.applied(theta)
    assert applied.dtype == np.float32
    np.testing.assert_array_equal(applied[[0, 2]], theta[[0, 2]])
    np.testing.assert_allclose(applied[1], identity_like(shape), atol=1e-7)
    assert decisions.reasons() == ["ok", "scale", "ok", "low-confidence"]


def test_every_code_has_its_word() -> None:
    assert REASONS == ("ok", "singular", "mirrored", "scale", "turn", "shear", "content-lost", "already-straight",
                       "low-confidence")  # fmt: skip


def test_no_image_at_all_is_no_mistake() -> None:
    decisions = decide(motion_of(identity(0), SIZE, SIZE), np.ones(0), np.ones(0, np.float32), Limits())
    assert decisions.reasons() == []
    assert decisions.applied(np.ones((0, 2, 3))).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_confidence": 1.5}, "min_confidence: .* less than or equal to 1, got 1.5"),
        ({"min_confidence": float("nan")}, "min_confidence"),
        ({"max_turn_deg": -1}, "max_turn_deg"),
        ({"max_scale": "large"}, "max_scale: .*got 'large'"),
        ({"max_speed": 1}, "max_speed: Extra inputs are not permitted"),
    ],
)
def test_limits_that_cannot_be_are_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"limits: {message}"):
        Limits().changed(changes)


def test_some_limits_are_changed_and_the_others_stay() -> None:
    limits = Limits(max_turn_deg=75, min_confidence=0.5).changed({"min_confidence": 0.9})
    assert limits == Limits(max_turn_deg=75, min_confidence=0.9)


def test_a_recipe_s_limits_are_its_range_and_a_margin() -> None:
    limits = recipe_limits(load_recipe("tutorial-mix"), (28, 28), (28, 28), (28, 28))
    # Drawn from 0.5..1.3 and -60..60: what undoes them shows 1 / 1.3 to 2 times as large, with a factor 1.25 to spare.
    assert limits.min_scale == pytest.approx(1 / 1.3 / 1.25, rel=0.01)
    assert limits.max_scale == pytest.approx(2 * 1.25, rel=0.01)
    assert limits.max_turn_deg == pytest.approx(75, abs=0.5)
    assert limits.max_shear_deg == pytest.approx(10, abs=0.1)  # imgaug's shear of both axes is nearly a turn
    assert (limits.may_mirror, limits.max_content_lost, limits.min_confidence) == (False, 0.2, 0.0)


def test_a_recipe_that_mirrors_shears_or_has_a_canvas_has_wider_limits() -> None:
    steps = [{"op": "affine", "shear_x_deg": [-20, 20]}, {"op": "sometimes", "steps": [{"op": "flip_horizontal"}]}]
    limits = recipe_limits(parse_recipe({"name": "x", "steps": steps}), (28, 28), (28, 28), (28, 28))
    sheared_deg = np.rad2deg(np.arctan(np.tanh(np.deg2rad(20))))
    assert limits.may_mirror
    assert limits.max_shear_deg == pytest.approx(sheared_deg + 10, abs=0.5)
    canvas = recipe_limits(load_recipe("translated-clutter"), (28, 28), (60, 60), (28, 28))
    assert canvas.max_content_lost == 1.0
    assert (canvas.min_scale, canvas.max_scale) == (pytest.approx(0.8), pytest.approx(1.25))
