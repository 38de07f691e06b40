from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from stn_core import datasets
from stn_core.bundle import load_network, read_manifest
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadBundle, BadData
from stn_core.evaluation import evaluate
from stn_core.geometry import compose, identity
from stn_core.recipes import load_recipe
from stn_core.stream import DistortionStream
from stn_core.training import Journal, TrainingFailed, TrainingPlan, corner_loss_px, train
from stn_core.transforms import corner_errors_px


def _silent(*_: Any) -> None:
    pass


QUIET = Journal(_silent)


def _stream(digits: Dataset, recipe: str, seed: int = 1) -> DistortionStream:
    return DistortionStream(digits.images, digits.labels, load_recipe(recipe), 32, 0.25, seed)


@pytest.mark.parametrize("recipe", ["tutorial-mix", "camera"])
def test_the_stream_is_fresh_reproducible_and_part_original(digits: Dataset, recipe: str) -> None:
    first, again, other = (_stream(digits, recipe, seed).batches() for seed in (1, 1, 2))
    batches = [next(first) for _ in range(3)]
    for batch in batches:
        same = next(again)
        np.testing.assert_array_equal(batch.images, same.images)
        np.testing.assert_array_equal(batch.theta, same.theta)
        theta = batch.theta.numpy()
        np.testing.assert_array_equal(theta[24:], identity(8))
        assert (theta[:24] != identity(24)).any(axis=(1, 2)).all()
        originals = {image.tobytes() for image in (digits.images / np.float32(255))}
        assert all(image.numpy().tobytes() in originals for image in batch.images[24:])
    assert (batches[0].theta.numpy()[:24] != batches[1].theta.numpy()[:24]).any()
    assert (batches[0].images.numpy() != next(other).images.numpy()).any()


def test_the_streams_theta_made_its_images(digits: Dataset) -> None:
    from stn_core.sampler import warp

    batch = next(_stream(digits, "rotation").batches())
    back = warp(batch.images, tf.constant(np.linalg.inv(_square(batch.theta.numpy()))[:, :2], tf.float32)).numpy()
    nearest = [np.abs(digits.images / 255 - image).mean(axis=(1, 2, 3)) for image in back[:8]]
    labels = [digits.labels[distance.argmin()] for distance in nearest]
    np.testing.assert_array_equal(labels, batch.labels.numpy()[:8])


def _square(theta: Any) -> Any:
    return np.concatenate([theta, np.tile([[[0, 0, 1]]], (len(theta), 1, 1))], axis=1)


def test_small_data_fills_large_batches() -> None:
    images, labels = np.zeros((5, 16, 16, 1), np.uint8), np.arange(5)
    stream = DistortionStream(images, labels, load_recipe("rotation"), 12, 0.0, 0).batches()
    seen = np.concatenate([next(stream).labels.numpy() for _ in range(5)])
    np.testing.assert_array_equal(np.bincount(seen), np.full(5, 12))


def test_the_loss_is_the_reported_corner_error() -> None:
    rng = np.random.default_rng(0)
    true, predicted = (identity(20) + rng.normal(0, 0.3, (20, 2, 3)) for _ in range(2))
    loss = corner_loss_px(tf.constant(true), tf.constant(predicted), (20, 30)).numpy()
    np.testing.assert_allclose(loss, corner_errors_px(true, predicted, (20, 30)), atol=1e-4)
    assert compose(true, predicted).shape == (20, 2, 3)


def test_a_short_training_straightens_and_writes_a_bundle_that_serves(tmp_path: Path) -> None:
    splits = datasets.load("sample")
    plan = TrainingPlan(
        recipe=load_recipe("rotation"), localization="tutorial", classifier="cnn", batch_size=64,
        localization_steps=500, classifier_steps=300,
    )  # fmt: skip
    seen: list[tuple[str, int, int]] = []
    manifest = train(
        splits,
        plan,
        tmp_path / "b",
        "turned",
        Journal(lambda phase, done, total, _: seen.append((phase, done, total)), tmp_path / "logs"),
    )
    assert seen[-1] == ("classifier", 300, 300)
    assert ("localization", 500, 500) in seen
    assert read_manifest(tmp_path / "b") == manifest
    assert {path.parent.name for path in (tmp_path / "logs").rglob("events*")} == {"localization", "classifier"}
    result = evaluate(Engine.load(tmp_path / "b"), splits.test, plan.recipe, seed=5)
    assert result.corner_error_px.median < 0.6 * result.corner_error_unrectified_px.median
    assert result.accuracy_distorted > 0.8
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert metrics["test"]["accuracy_distorted"] == manifest.metrics["accuracy_distorted"]
    assert manifest.training["data"] == splits.train.name
    engine = Engine.load(tmp_path / "b")
    assert engine.calibration is not None
    assert engine.calibration.measured["images"] == 2000  # four times the 500 validation digits
    assert engine.calibration.measured["theta"]["calibration_error"] < 0.1


def test_the_same_seed_trains_the_same_network(digits: Dataset, tmp_path: Path) -> None:
    splits = datasets.load("sample")
    plan = TrainingPlan(
        recipe=load_recipe("rotation"), localization="dense", classifier="fc", batch_size=16,
        localization_steps=5, classifier_steps=5,
    )  # fmt: skip
    for name in ("one", "two"):
        train(splits, plan, tmp_path / name, "same", QUIET)
    one, two = (Engine.load(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(one.localize(digits.images[:9]), two.localize(digits.images[:9]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"localization": "resnet"}, "expected one of"),
        ({"batch_size": 0}, "batch_size"),
        ({"classifier_rate": -1}, "classifier_rate"),
        ({"epochs": 3}, "epochs"),
        ({"transform": "rigid"}, "transform"),
        ({"passes": 2, "transform": "tps"}, "passes: more than one needs"),
        ({"classifier": "own"}, "all phases but the first must be 0"),
        ({"jitter": load_recipe("camera")}, "geometric steps alone"),
    ],
)
def test_a_wrong_plan_fails_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingPlan(**{"recipe": load_recipe("rotation"), **change})


def test_a_training_goes_on_from_a_bundles_networks(tmp_path: Path) -> None:
    none = {"localization_steps": 0, "classifier_steps": 0}
    plan = TrainingPlan(recipe=load_recipe("tutorial-mix"), start_from="digits", **none)
    manifest = train(datasets.load("sample"), plan, tmp_path / "again", "again", QUIET, version="7")
    assert manifest.version == read_manifest(tmp_path / "again").version == "7"
    assert manifest.training["started_from"] == f"digits {read_manifest('digits').version}"
    for part in ("localization", "classifier"):
        weights = zip(load_network("digits", part).weights, load_network(tmp_path / "again", part).weights, strict=True)
        assert all(np.array_equal(one, other) for one, other in weights)


def test_a_training_from_other_networks_is_refused(tmp_path: Path) -> None:
    plan = TrainingPlan(recipe=load_recipe("tutorial-mix"), start_from="digits", localization="small")
    with pytest.raises(BadData, match="bundle digits: its localization network has other layers"):
        train(datasets.load("sample"), plan, tmp_path / "b", "b", QUIET)


def test_a_network_that_learned_nothing_makes_no_bundle(tmp_path: Path) -> None:
    plan = TrainingPlan(
        recipe=load_recipe("rotation"), localization="dense", classifier="fc", batch_size=16,
        localization_steps=200, classifier_steps=1, localization_rate=0.99,
    )  # fmt: skip
    with pytest.raises(TrainingFailed, match="lower learning rate"):
        train(datasets.load("sample"), plan, tmp_path / "b", "broken", QUIET)
    assert not (tmp_path / "b").exists()


def test_a_name_that_is_none_fails_before_training(tmp_path: Path) -> None:
    plan = TrainingPlan(recipe=load_recipe("rotation"))
    with pytest.raises(BadBundle, match="name"):
        train(datasets.load("sample"), plan, tmp_path / "b", "No Name!", QUIET)


def test_a_place_that_is_taken_fails_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, message in [(tmp_path, "not a bundle"), (tmp_path / "file", "expected a folder, got a file")]:
        with pytest.raises(BadBundle, match=message):
            train(datasets.load("sample"), TrainingPlan(recipe=load_recipe("rotation")), folder, "late", QUIET)
