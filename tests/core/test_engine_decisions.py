"""The shipped bundle decides: what it keeps, why, and that a kept image is the very one that came."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_engine import _small_engine

from stn_core.augment import augment
from stn_core.bundle import find_bundle, read_manifest
from stn_core.confidence import DECISION_FILE, Calibration
from stn_core.datasets import Dataset
from stn_core.decision import Limits
from stn_core.engine import Engine
from stn_core.errors import BadBundle, InvalidInput, Unsupported
from stn_core.geometry import identity
from stn_core.recipes import load_recipe


@pytest.fixture(scope="module")
def distorted(digits: Dataset) -> np.ndarray[Any, Any]:
    """200 digits as the bundle expects them, and 200 with a camera's blur and noise, which it does not know."""
    return np.concatenate(
        [augment(digits.images[:200], load_recipe(name), 5).images for name in ("tutorial-mix", "camera")]
    )


def _old_bundle(folder: Path) -> Path:
    """The shipped bundle as it was before it had a confidence."""
    bundle = Path(shutil.copytree(find_bundle("digits"), folder / "old"))
    (bundle / DECISION_FILE).unlink()
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["files"][DECISION_FILE]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_rectified_is_rectify_s_and_what_is_kept_is_the_very_image(
    engine: Engine, distorted: np.ndarray[Any, Any], dtype: Any
) -> None:
    images = distorted if dtype == np.uint8 else distorted.astype(np.float32) / 255
    rectified, theta = engine.rectify(images)
    decided = engine.decide(images)
    chosen = decided.decisions.rectified
    assert 0 < chosen.sum() < len(images)
    assert decided.images.dtype == dtype
    np.testing.assert_array_equal(decided.images[chosen], rectified[chosen])
    np.testing.assert_array_equal(decided.images[~chosen], images[~chosen])
    np.testing.assert_array_equal(decided.theta, theta)
    np.testing.assert_array_equal(decided.theta_applied[chosen], theta[chosen])
    np.testing.assert_array_equal(decided.theta_applied[~chosen], identity(int((~chosen).sum())))


def test_it_is_sure_of_what_it_knows_and_not_of_what_it_does_not(
    engine: Engine, distorted: np.ndarray[Any, Any]
) -> None:
    confidence = engine.decide(distorted).decisions.confidence
    assert confidence is not None
    assert confidence.dtype == np.float32
    assert confidence[:200].mean() > 0.9
    assert confidence[200:].mean() < 0.5
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_straight_digits_come_back_bit_for_bit(engine: Engine, digits: Dataset) -> None:
    decided = engine.decide(digits.images[:300])
    reasons = decided.decisions.reasons()
    assert reasons.count("already-straight") > 290
    straight = np.array([reason == "already-straight" for reason in reasons])
    np.testing.assert_array_equal(decided.images[straight], digits.images[:300][straight])


def test_blank_images_and_noise_are_kept(engine: Engine) -> None:
    random = np.random.default_rng(0)
    blank = np.repeat(np.array([0, 40, 255], np.uint8), 784).reshape(3, 28, 28, 1)
    noise = random.integers(0, 256, (50, 28, 28, 1), np.uint8)
    decided = engine.decide(np.concatenate([blank, noise]))
    assert decided.decisions.rectified.mean() < 0.05
    assert not decided.decisions.rectified[:3].any()


def test_a_higher_threshold_keeps_more_and_one_changes_only_that_reason(
    engine: Engine, distorted: np.ndarray[Any, Any]
) -> None:
    before = np.ones(len(distorted), bool)
    for least in (0.0, 0.3, 0.6, 0.9, 1.0):
        decisions = engine.decide(distorted, min_confidence=least).decisions
        assert not (decisions.rectified & ~before).any()
        before = decisions.rectified
        if least == 0:
            assert "low-confidence" not in decisions.reasons()
    default = engine.decide(distorted).decisions
    same = engine.decide(distorted, min_confidence=engine.limits.min_confidence).decisions
    np.testing.assert_array_equal(default.reason, same.reason)


def test_limits_of_a_call_are_taken_in_place_of_the_bundle_s(engine: Engine, distorted: np.ndarray[Any, Any]) -> None:
    all_of_them = engine.decide(distorted, Limits()).decisions
    assert all_of_them.rectified.all()
    assert all_of_them.confidence is not None
    upright = engine.decide(distorted, Limits(max_turn_deg=5)).decisions
    assert set(upright.reasons()) == {"ok", "turn"}
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidInput, match="min_confidence"):
            engine.decide(distorted, min_confidence=bad)


def test_one_image_is_decided_as_it_is_in_company(engine: Engine, distorted: np.ndarray[Any, Any]) -> None:
    together = engine.decide(distorted[180:220]).decisions
    alone = [engine.decide(distorted[row : row + 1]).decisions for row in range(180, 220)]
    found = np.concatenate([one.confidence for one in alone])
    np.testing.assert_allclose(found, together.confidence, atol=2e-3)


def test_both_backends_decide_alike(distorted: np.ndarray[Any, Any]) -> None:
    ours, theirs = Engine.load("digits", backend="onnx"), Engine.load("digits", backend="tensorflow")
    for evidence in ("theta", "reading"):
        one, other = ours.decide(distorted, evidence=evidence), theirs.decide(distorted, evidence=evidence)
        np.testing.assert_allclose(one.decisions.confidence, other.decisions.confidence, atol=0.01)
        # Where the two are a hair from a limit, rounding may tip one of them.
        assert (one.decisions.reason == other.decisions.reason).mean() > 0.98


def test_the_classifier_s_opinion_needs_the_classifier(engine: Engine, distorted: np.ndarray[Any, Any]) -> None:
    by_reading = engine.decide(distorted, evidence="reading").decisions
    assert by_reading.confidence is not None
    assert np.abs(by_reading.confidence - engine.decide(distorted).decisions.confidence).max() > 0.05
    half = Engine.load("digits", networks=("localization",))
    np.testing.assert_array_equal(half.decide(distorted).decisions.reason, engine.decide(distorted).decisions.reason)
    with pytest.raises(Unsupported, match="without the classifier"):
        half.decide(distorted, evidence="reading")


def test_a_bundle_of_before_has_limits_and_no_confidence(tmp_path: Path, distorted: np.ndarray[Any, Any]) -> None:
    old = Engine.load(_old_bundle(tmp_path))
    assert old.calibration is None
    decisions = old.decide(distorted).decisions
    assert decisions.confidence is None
    assert "low-confidence" not in decisions.reasons()
    assert "already-straight" in decisions.reasons()
    assert set(old.decide(distorted, old.limits.changed({"max_turn_deg": 5})).decisions.reasons()) > {"ok", "turn"}
    for asked in ({"min_confidence": 0.5}, {"limits": Limits(min_confidence=0.1)}, {"evidence": "reading"}):
        with pytest.raises(Unsupported, match="bundle digits has no confidence: stn calibrate"):
            old.decide(distorted, **asked)
    # The limits of the shipped bundle are those that follow from its recipe, and a threshold.
    shipped = Engine.load("digits").limits
    assert 0 < shipped.min_confidence <= 0.5
    assert shipped.changed({"min_confidence": 0}) == old.limits


def test_a_changed_or_foreign_decision_file_is_refused(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(find_bundle("digits"), tmp_path / "changed"))
    file = bundle / DECISION_FILE
    file.write_text(file.read_text().replace('"max_turn_deg": 75.0', '"max_turn_deg": 180.0'))
    with pytest.raises(BadBundle, match=r"decision\.json is not the file the manifest describes"):
        read_manifest(bundle)
    old = _old_bundle(tmp_path)
    shutil.copy(find_bundle("digits") / DECISION_FILE, old)
    with pytest.raises(BadBundle, match=r"decision\.json is not in the manifest"):
        Engine.load(old)


def _calibration(original_size: tuple[int, int]) -> Calibration:
    """The shipped one, for images of another size."""
    shipped = Engine.load("digits").calibration
    assert shipped is not None
    return shipped.model_copy(update={"original_size": original_size})


@pytest.mark.parametrize("transform", ["homography", "tps"])
def test_every_family_decides_and_a_kept_image_is_brought_to_the_rectified_size(transform: str) -> None:
    small, _ = _small_engine(transform=transform, rectified_size=(10, 12))
    engine = Engine(small.manifest, small._backend, _calibration((20, 16)))
    images = np.random.default_rng(2).random((6, 20, 16, 1)).astype(np.float32)
    decided = engine.decide(images, min_confidence=1.0)
    assert decided.images.shape == (6, 10, 12, 1)
    assert not decided.decisions.rectified.any()
    np.testing.assert_array_equal(decided.images, engine.warp(images, identity(6), (10, 12)))
    assert decided.theta_applied.shape == decided.theta.shape
    assert engine.decide(images, Limits(), evidence="reading").decisions.rectified.all()


def test_a_second_look_at_what_was_cut_from_a_canvas_is_at_the_canvas_again(digits: Dataset) -> None:
    """A network that always cuts the middle out: seen again on its canvas, what it cut out is straight."""
    fields = {"recipe": load_recipe("rotation-scale-translation"), "input_shape": (42, 42, 1)}
    small, networks = _small_engine(rectified_size=(28, 28), **fields)
    head = networks["localization"].layers[-1]
    head.kernel.assign(np.zeros(head.kernel.shape))
    head.bias.assign(np.array([28 / 42, 0, 0, 0, 28 / 42, 0]))
    images = augment(digits.images[:20], load_recipe("rotation-scale-translation"), 1).images
    seen = small.observe(images, ("theta",), (28, 28))
    np.testing.assert_allclose(seen.features["theta"][:, 0], np.log(0.1), atol=1e-3)
    assert (seen.motion.moved_px > 3).all()
    np.testing.assert_allclose(seen.motion.scale, 1, atol=1e-5)


def test_no_image_at_all_is_decided(engine: Engine) -> None:
    decided = engine.decide(np.zeros((0, 28, 28, 1), np.uint8))
    assert decided.images.shape == (0, 28, 28, 1)
    assert decided.decisions.reasons() == []
