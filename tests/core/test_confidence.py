"""The model of the confidence: that it finds probabilities which are known, its features, and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_core.bundle import find_bundle
from stn_core.confidence import (
    DECISION_FILE,
    FEATURES,
    LogisticModel,
    fit_model,
    parse_calibration,
    reading_features,
    theta_features,
)
from stn_core.confidence.model import PARTS
from stn_core.errors import BadBundle
from stn_core.evaluation.reliability import auc, reliability
from stn_core.geometry import identity
from stn_core.motion import motion_of

SHIPPED = find_bundle("digits") / DECISION_FILE


def _sample(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features, the probability that follows from them, and what happened by it."""
    random = np.random.default_rng(seed)
    features = random.normal([5, -1, 100], [2, 0.1, 30], (count, 3))
    a, b, c = ((features - [5, -1, 100]) / [2, 0.1, 30]).T
    probability = 1 / (1 + np.exp(-(1 + 2 * a - b * c - 0.5 * c**2)))
    return features, probability, random.random(count) < probability


def test_known_probabilities_are_found_again() -> None:
    features, _, happened = _sample(40_000, 0)
    model = fit_model(features, happened, np.arange(40_000) % PARTS)
    others, probability, theirs = _sample(5_000, 1)
    found = model.probability(others)
    assert found.dtype == np.float32
    assert np.abs(found - probability).mean() < 0.01
    assert reliability(found, theirs).error < 0.02
    assert auc(found, theirs) == pytest.approx(auc(probability, theirs), abs=0.002)


def test_features_that_tell_nothing_give_the_share_of_what_happened() -> None:
    random = np.random.default_rng(0)
    happened = random.random(20_000) < 0.3
    model = fit_model(random.normal(size=(20_000, 4)), happened, np.arange(20_000) % PARTS)
    np.testing.assert_allclose(model.probability(random.normal(size=(1000, 4))), 0.3, atol=0.05)


@pytest.mark.parametrize("always", [True, False])
def test_what_always_happened_is_all_but_sure_and_bounded(always: bool) -> None:
    features = np.random.default_rng(0).normal(size=(2_000, 3))
    model = fit_model(features, np.full(2_000, always), np.arange(2_000) % PARTS)
    found = model.probability(features)
    assert (found > 0.95).all() if always else (found < 0.05).all()
    assert np.isfinite(found).all()


def test_weights_fitted_to_chance_are_scaled_down() -> None:
    """A hundred images, five of a sort by chance: without the part that scales, the model would be sure of itself."""
    random = np.random.default_rng(3)
    features, happened = random.normal(size=(300, 8)), random.random(300) < 0.5
    model = fit_model(features, happened, np.arange(300) % PARTS)
    fresh = model.probability(random.normal(size=(1000, 8)))
    assert np.abs(fresh - 0.5).mean() < 0.25


def test_what_is_no_number_has_no_confidence_and_what_is_far_off_counts_no_more_than_what_is_near() -> None:
    features, _, happened = _sample(5_000, 0)
    model = fit_model(features, happened, np.arange(5_000) % PARTS)
    np.testing.assert_array_equal(model.probability(np.array([[np.nan, 0, 0], [0, np.inf, 0]])), [0, 0])
    far = np.array([5.0, -1.0, 100.0]) + np.array([[2, 0, 0]]) * [[5], [5e6]]
    assert len(set(model.probability(far).tolist())) == 1


def test_the_features_of_images_that_can_be_reckoned_by_hand() -> None:
    mass = np.zeros((3, 6, 8), np.float32)
    mass[1] = 1.0
    mass[2, 2:4, 3:5] = 0.5  # a square of 2 x 2 px, half bright: 8 steps of a half around it
    motion = motion_of(identity(3), (6, 8), (6, 8))
    found = theta_features(motion, np.zeros(3), np.array([1, 0.75, 1.01]), mass)
    columns = dict(zip(FEATURES["theta"], found.T, strict=True))
    np.testing.assert_allclose(columns["log_left_px"], np.log(0.1))
    np.testing.assert_allclose(columns["log_moved_px"], np.log(0.1))
    np.testing.assert_allclose(columns["content_lost"], [0, 0.25, 0])
    np.testing.assert_allclose(columns["crispness"], [0, 1, 0.5])
    np.testing.assert_allclose(columns["roughness"], [0, 0, 2])
    for name in ("log_scale", "turn_rad", "shear_rad", "shift_px"):
        np.testing.assert_array_equal(columns[name], 0)


def test_what_the_classifier_says_of_both_images() -> None:
    rectified, kept = np.array([[0.5, 0.5], [1, 0]]), np.array([[0.2, 0.8], [0.9, 0.1]])
    found = reading_features(rectified, kept)
    np.testing.assert_allclose(found[:, 0], [0, np.log(1001)])
    np.testing.assert_allclose(found[:, 1], np.log([0.801 / 0.201, 0.901 / 0.101]))
    np.testing.assert_array_equal(found[:, 2], [0, 1])


def test_reliability_and_auc_of_a_few_images() -> None:
    confidence = np.array([0.9, 0.1, 0.2, 0.8])
    happened = np.array([True, False, True, True])
    found = reliability(confidence, happened, bins=2)
    np.testing.assert_allclose(found.confidence, [0.15, 0.85])
    np.testing.assert_allclose(found.share, [0.5, 1])
    assert found.error == pytest.approx((0.35 + 0.15) / 2)
    assert auc(confidence, happened) == 1
    assert auc(np.array([1, 1, 0, 2]), np.array([True, False, False, True])) == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert np.isnan(auc(confidence, np.ones(4, bool)))


def test_reliability_counts_every_image_once_where_bins_are_more_than_images() -> None:
    found = reliability(np.array([0.3, 0.6]), np.array([False, True]))
    assert len(found.share) == 2
    assert found.error == pytest.approx((0.3 + 0.4) / 2)


# The file


def test_the_file_written_and_read_says_the_same(tmp_path: Path) -> None:
    calibration = parse_calibration(SHIPPED)
    (tmp_path / "again.json").write_text(json.dumps(calibration.model_dump(mode="json")))
    again = parse_calibration(tmp_path / "again.json")
    assert again == calibration
    features = np.random.default_rng(0).normal(0.5, 1, (50, len(FEATURES["theta"])))
    np.testing.assert_array_equal(
        again.models["theta"].probability(features), calibration.models["theta"].probability(features)
    )


def _without_a_weight(data: dict[str, Any]) -> None:
    data["models"]["theta"]["weights"].pop()


def _with(path: str, value: Any) -> Any:
    def change(data: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            data = data[key]
        data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("format_version", 2), "format_version"),
        (_with("surprise", 1), "surprise: Extra inputs"),
        (_with("features.theta", ["one"]), "calibrate the bundle again"),
        (_with("models.theta.sd", [0.0] * 9), "models.theta.sd"),
        (_with("models.theta.mean", [0.0]), "expected an sd for each of the 1 features"),
        (_with("models.theta.mean", [0.0] * 1000), "models.theta.mean"),
        (_with("models.reading", None), "models.reading"),
        (_with("models.theta.bias", "much"), "models.theta.bias"),
        (_with("limits.max_turn_deg", 720), "limits.max_turn_deg"),
        (_with("limits.speed", 1), "limits.speed"),
        (_with("original_size", [28]), "original_size"),
        (_with("original_size", [0, 28]), "original_size"),
        (_with("tolerance_px", 0), "tolerance_px"),
        (lambda data: data.pop("models"), "models: Field required"),
        (lambda data: data["models"].pop("reading"), "expected one of 12 features for reading"),
        (_without_a_weight, "weights for all and their products"),
        (_with("measured", {"note": "x" * 70_000}), "expected at most 65536 bytes"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, change: Any, message: str) -> None:
    data = json.loads(SHIPPED.read_text())
    change(data)
    (tmp_path / "decision.json").write_text(json.dumps(data))
    with pytest.raises(BadBundle, match=message):
        parse_calibration(tmp_path / "decision.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 5000, '{"tolerance_px": NaN}'])
def test_what_is_no_such_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "decision.json").write_text(text)
    with pytest.raises(BadBundle, match=r"decision\.json"):
        parse_calibration(tmp_path / "decision.json")


def test_no_number_and_infinity_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            LogisticModel(mean=(0.0,), sd=(1.0,), weights=(bad, 0.0), bias=0.0)
