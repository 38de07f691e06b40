"""Calibrating the shipped bundle again on a few of its validation digits, and what cannot be calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from stn_core.confidence import non_pictures
from stn_core.confidence.calibrating import calibrate, observe
from stn_core.confidence.situations import Batch, situations
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadData, Unsupported
from stn_core.geometry import identity, invert
from stn_core.recipes import load_recipe, parse_recipe
from stn_core.transforms import corner_errors_px


def test_calibrated_again_on_fewer_images_it_says_much_the_same(engine: Engine, digits: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    found = calibrate(
        engine, digits.limit(1000), [load_recipe("rotation")], 2000, progress=lambda *call: calls.append(call)
    )
    measured = found.measured["theta"]
    assert measured["calibration_error"] < 0.08
    assert measured["auc"] > 0.8
    assert list(measured["by_kind"]) == [
        "tutorial-mix",
        "as-it-is",
        "rotation",
        "blank",
        "noise",
        "strokes",
        "shuffled",
    ]
    assert measured["by_kind"]["tutorial-mix"]["harmless"] > 0.98
    assert measured["by_kind"]["tutorial-mix"]["confidence"] > 0.9
    assert measured["by_kind"]["blank"]["confidence"] < 0.2
    assert found.original_size == (28, 28)
    assert found.tolerance_px == pytest.approx(1.96)
    assert found.limits.changed({"min_confidence": 0}) == engine.limits.changed({"min_confidence": 0})
    assert 0.05 < found.limits.min_confidence <= 0.5
    assert measured["by_kind"]["tutorial-mix"]["sure"] > 0.99
    assert calls[-1] == (2000, 2000)
    again = calibrate(engine, digits.limit(1000), [load_recipe("rotation")], 2000)
    assert again.measured == found.measured
    assert again.models["theta"].weights == pytest.approx(found.models["theta"].weights, rel=1e-3, abs=1e-4)


def test_the_situations_come_in_their_shares_at_the_bundle_s_size(engine: Engine, digits: Dataset) -> None:
    data, counts = digits.limit(60), {}
    others = [load_recipe("rotation"), load_recipe("tutorial-mix"), load_recipe("perspective")]
    for batch in situations(engine.manifest, data, others, 4000, seed=3):
        counts[batch.kind] = counts.get(batch.kind, 0) + len(batch.images)
        assert batch.images.shape[1:] == (28, 28, 1)
        assert batch.images.dtype == np.uint8
        assert len(batch.theta_true) == len(batch.labels) == len(batch.original) == len(batch.images)
        assert batch.original.max() < len(data)
        if (batch.labels >= 0).all():
            np.testing.assert_array_equal(batch.labels, data.labels[batch.original])
    assert counts == {"tutorial-mix": 1800, "as-it-is": 600, "rotation": 500, "perspective": 500, "blank": 150,
                      "noise": 150, "strokes": 150, "shuffled": 150}  # fmt: skip


def test_an_original_shown_again_is_distorted_anew(engine: Engine, digits: Dataset) -> None:
    batches = [one for one in situations(engine.manifest, digits.limit(60), [], 2000, 1) if one.kind == "tutorial-mix"]
    theta = np.concatenate([one.theta_true for one in batches])
    assert len(np.unique(theta.reshape(-1, 6), axis=0)) == len(theta) == 900


def test_harm_is_known_from_the_true_theta(engine: Engine, digits: Dataset) -> None:
    """Digits said to be distorted by what they are not: rectification, which leaves them, is as good as none."""
    images, labels, rows = digits.images[:40], digits.labels[:40], np.arange(40)
    straight = observe(engine, Batch("x", images, identity(40), labels, rows), (28, 28), 1.96)
    assert straight.harmless.all()
    assert straight.right_kept.mean() > 0.9
    theta_true = identity(40)
    theta_true[:, 0, 2] = 0.5  # 7 px off: left alone it stays off, which is no harm
    assert observe(engine, Batch("x", images, theta_true, labels, rows), (28, 28), 1.96).harmless.all()
    moved = engine.warp(images, theta_true)
    assert (corner_errors_px(identity(40), engine.localize(moved), (28, 28)) > 3).all()
    # Shifted back from where they belong, they are harmed.
    assert not observe(engine, Batch("x", moved, identity(40), labels, rows), (28, 28), 1.96).harmless.any()
    right_back = observe(engine, Batch("x", moved, theta_true, labels, rows), (28, 28), 1.96)
    assert right_back.harmless.all()
    assert np.abs(engine.localize(moved) - invert(theta_true)).max(axis=(1, 2)).mean() < 0.1


def test_too_few_images_a_class_alone_and_steps_without_a_theta_cannot_calibrate(
    engine: Engine, digits: Dataset
) -> None:
    with pytest.raises(BadData, match=r"expected at least 50 images, .* got 20"):
        calibrate(engine, digits.limit(20))
    by_class = engine.manifest.model_copy(update={"training": {"localization_steps": 0}})
    with pytest.raises(Unsupported, match="taught by the class alone"):
        calibrate(Engine(by_class, engine._backend), digits)
    elastic = parse_recipe({"name": "elastic-only", "steps": [{"op": "elastic"}]})
    without = engine.manifest.model_copy(update={"recipe": elastic})
    with pytest.raises(Unsupported, match="its steps have no theta"):
        calibrate(Engine(without, engine._backend), digits.limit(60), [], 2000)


@pytest.mark.parametrize("kind", list(non_pictures.GENERATED))
@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 40, 3)])
def test_non_pictures_are_of_the_size_asked_for_and_differ(kind: str, shape: tuple[int, int, int]) -> None:
    images = non_pictures.GENERATED[kind](40, shape, np.random.default_rng(1))
    assert images.shape == (40, *shape)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert len({image.tobytes() for image in images}) > 10
    np.testing.assert_array_equal(images, non_pictures.GENERATED[kind](40, shape, np.random.default_rng(1)))


def test_blank_ones_are_blank_and_shuffled_ones_hold_the_same_pixels() -> None:
    blank = non_pictures.blank(30, (8, 9, 3), np.random.default_rng(0))
    assert (blank.max(axis=(1, 2, 3)) == blank.min(axis=(1, 2, 3))).all()
    images = np.random.default_rng(0).integers(0, 255, (20, 17, 22, 2), np.uint8)
    mixed = non_pictures.shuffled(images, np.random.default_rng(1))
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(np.sort(mixed.reshape(20, -1)), np.sort(images.reshape(20, -1)))
    assert (mixed != images).any(axis=(1, 2, 3)).all()
