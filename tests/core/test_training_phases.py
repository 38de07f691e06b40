"""Families, joint training, the collapse guard, going on after a break, a classifier of one's own, rare classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from stn_core import datasets
from stn_core.bundle import load_network, read_manifest
from stn_core.classifiers import build_classifier
from stn_core.datasets import Dataset, Splits
from stn_core.engine import Engine
from stn_core.errors import BadBundle, BadData
from stn_core.recipes import load_recipe
from stn_core.stream import DistortionStream, repeats
from stn_core.training import Journal, TrainingFailed, TrainingPlan, load_classifier, train
from stn_core.training.losses import area_scale
from stn_core.training.phases import teach_localization
from stn_core.transforms import identity_like


def _silent(*_: Any) -> None:
    pass


QUIET = Journal(_silent)


def _short(recipe: str, **fields: Any) -> TrainingPlan:
    steps = {"localization_steps": 4, "classifier_steps": 3, "joint_steps": 2}
    return TrainingPlan(
        recipe=load_recipe(recipe), batch_size=16, **{"localization": "small", "classifier": "cnn", **steps, **fields}
    )


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = datasets.load("sample")
    return Splits(whole.train.limit(600), whole.validation.limit(60), whole.test.limit(60))


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [
        ("perspective", {"transform": "homography", "classifier": "paper", "jitter": load_recipe("handwriting")}),
        ("elastic", {"transform": "tps", "jitter": load_recipe("handwriting")}),
        ("rotation-scale-translation", {"transform": "similarity"}),
        ("translated-clutter", {"transform": "attention", "localization": "fast"}),
        ("tutorial-mix", {"passes": 2}),
    ],
)
def test_every_family_goes_through_all_phases(
    recipe: str, fields: dict[str, Any], splits: Splits, tmp_path: Path
) -> None:
    plan = _short(recipe, **fields)
    manifest = train(splits, plan, tmp_path / "b", "family", QUIET)
    assert read_manifest(tmp_path / "b") == manifest
    assert manifest.rectified_shape == (28, 28, 1)
    engine = Engine.load(tmp_path / "b")
    images = np.zeros((3, *manifest.input_shape), np.uint8)
    rectified, theta = engine.rectify(images)
    assert theta.shape == (3, *manifest.theta_shape)
    assert rectified.shape == (3, 28, 28, 1)
    assert engine.classify(rectified)[1].shape == (3, 10)
    assert engine.calibration is not None
    decided = engine.decide(images, evidence="reading")
    assert decided.images.shape == (3, 28, 28, 1)
    assert len(decided.decisions.reasons()) == 3


def test_a_training_broken_off_goes_on_where_it_was(splits: Splits, tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def break_off(phase: str, done: int, total: int, loss: float) -> None:
        seen.append((phase, done))
        if phase == "classifier":
            raise Broken

    plan = _short("rotation", teacher_steps=2)
    whole = train(splits, plan, tmp_path / "whole", "same", QUIET)
    seen: list[tuple[str, int]] = []
    with pytest.raises(Broken):
        train(splits, plan, tmp_path / "parts", "same", Journal(break_off, None, tmp_path / "saved"))
    assert seen == [("localization", 1), ("localization", 4), ("teacher", 1), ("teacher", 2), ("classifier", 1)]
    seen = []
    report = Journal(lambda phase, done, total, loss: seen.append((phase, done)), None, tmp_path / "saved")
    parts = train(splits, plan, tmp_path / "parts", "same", report)
    assert seen == [("classifier", 1), ("classifier", 3), ("joint", 1), ("joint", 2)]
    one, two = Engine.load(tmp_path / "whole"), Engine.load(tmp_path / "parts")
    images = splits.test.images[:9]
    np.testing.assert_allclose(one.localize(images), two.localize(images), atol=1e-5)
    np.testing.assert_allclose(one.classify(images)[1], two.classify(images)[1], atol=1e-4)
    assert parts.metrics.keys() == whole.metrics.keys()
    nothing_left = train(splits, plan, tmp_path / "again", "same", report)
    assert nothing_left.training["seconds"] > 0.9 * parts.training["seconds"]
    with pytest.raises(BadData, match="another plan"):
        train(splits, _short("rotation", seed=2), tmp_path / "other", "same", report)


def test_what_was_learned_before_a_break_counts_as_learned(splits: Splits) -> None:
    plan = _short("tutorial-mix", localization_steps=200, localization_rate=1e-7)
    stream = DistortionStream(splits.train.images, splits.train.labels, plan.recipe, 16, 0.15, 1)
    teach_localization(load_network("digits", "localization"), stream, plan, QUIET)  # learns nothing, and knows it all


def test_batches_can_be_skipped(splits: Splits) -> None:
    stream = DistortionStream(
        splits.train.images[:100], splits.train.labels[:100], load_recipe("rotation"), 32, 0.25, 1
    )
    whole = stream.batches()
    expected = [next(whole) for _ in range(5)][4]
    got = next(stream.batches(skip=4))
    np.testing.assert_array_equal(got.images, expected.images)
    np.testing.assert_array_equal(got.labels, expected.labels)


def test_a_network_that_zooms_out_to_nothing_is_stopped(splits: Splits, tmp_path: Path) -> None:
    # Without the corner error to hold it, and at a rate far too high, the localization network runs away.
    plan = _short(
        "rotation", localization="dense", localization_steps=0, classifier_steps=0, joint_steps=300,
        joint_rate=0.3, joint_localization_factor=1.0, corner_weight=0.0,
    )  # fmt: skip
    with pytest.raises(TrainingFailed, match="zoomed out|the loss is"):
        train(splits, plan, tmp_path / "b", "gone", QUIET)


def test_area_scale_is_the_share_of_the_source_an_image_is_taken_from() -> None:
    theta = np.array([[[2.0, 0, 0], [0, 3.0, 0]], [[0, 1.0, 5], [-1.0, 0, 0]], [[0.5, 0.2, 0], [0, 0.5, 1]]])
    np.testing.assert_allclose(area_scale(tf.constant(theta)), [6.0, 1.0, 0.25])
    for shape in ((3, 3), (16, 2)):
        np.testing.assert_allclose(area_scale(tf.constant(identity_like(shape, 2))), [1.0, 1.0])


def test_rare_classes_are_drawn_more_often() -> None:
    labels = np.repeat([0, 1, 2, 3], [900, 100, 9, 1])
    np.testing.assert_array_equal(np.unique(repeats(labels)), [1, 3, 10])
    assert [int(repeats(labels)[labels == k][0]) for k in range(4)] == [1, 3, 10, 10]
    assert (repeats(np.repeat([0, 1], [120, 80])) == 1).all()
    images = np.zeros((1010, 16, 16, 1), np.uint8)
    stream = DistortionStream(images, labels, load_recipe("rotation"), 130, 0.0, 0).batches()
    seen = np.bincount(np.concatenate([next(stream).labels.numpy() for _ in range(10)]))
    np.testing.assert_array_equal(seen, [900, 300, 90, 10])


def _own(path: Path, side: int = 28, channels: int = 1, classes: int = 10, softmax: bool = False) -> Path:
    network = build_classifier("cnn", (side, side, channels), classes, seed=3)
    if softmax:
        network = tf_keras.Sequential([network, tf_keras.layers.Softmax()])
        network.build((None, side, side, channels))
    network.save(path)
    return path


@pytest.mark.parametrize(("side", "softmax"), [(28, False), (20, True)])
def test_a_classifier_of_ones_own_stays_as_it_is(side: int, softmax: bool, splits: Splits, tmp_path: Path) -> None:
    own = load_classifier(_own(tmp_path / "own.keras", side, softmax=softmax))
    plan = _short("rotation", classifier="own", classifier_steps=0, joint_steps=0)
    manifest = train(splits, plan, tmp_path / "b", "own", QUIET, own)
    assert manifest.rectified_shape == (side, side, 1)
    assert manifest.classifier_gives == ("probabilities" if softmax else "logits")
    engine = Engine.load(tmp_path / "b")
    rectified = engine.rectify(splits.test.images[:8])[0]
    given = own.network(rectified.astype(np.float32) / 255).numpy()
    expected = given if softmax else np.exp(given) / np.exp(given).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(engine.classify(rectified)[1], expected, atol=1e-5)


def test_a_classifier_that_does_not_fit_is_refused_with_the_reason(splits: Splits, tmp_path: Path) -> None:
    plan = _short("rotation", classifier="own", classifier_steps=0, joint_steps=0)
    for fields, message in (({"channels": 3}, "expected the classifier's 3 channels"), ({"classes": 7}, "7 classes")):
        own = load_classifier(_own(tmp_path / "own.keras", **fields))
        with pytest.raises(BadData, match=message):
            train(splits, plan, tmp_path / "b", "own", QUIET, own)
    with pytest.raises(BadData, match="there is none"):
        load_classifier(tmp_path / "missing.keras")
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(BadBundle, match="expected a .keras file"):
        load_classifier(tmp_path / "text.keras")
    flat = tf_keras.Sequential([tf_keras.layers.Input((784,)), tf_keras.layers.Dense(10)])
    flat.save(tmp_path / "flat.keras")
    with pytest.raises(BadData, match="one input of images"):
        load_classifier(tmp_path / "flat.keras")
    code = tf_keras.Sequential([tf_keras.layers.Input((28, 28, 1)), tf_keras.layers.Lambda(lambda x: x)])
    code.save(tmp_path / "code.keras")
    with pytest.raises(BadBundle, match="Lambda"):
        load_classifier(tmp_path / "code.keras")


def test_small_images_are_refused_with_what_to_do(tmp_path: Path) -> None:
    tiny = Dataset("tiny", np.zeros((20, 12, 12, 1), np.uint8), np.arange(20) % 2, ("a", "b"))
    with pytest.raises(BadData, match="at least 16 px a side, got 12 x 12; give a size"):
        train(Splits(tiny, tiny, tiny), _short("rotation"), tmp_path / "b", "tiny", QUIET)
