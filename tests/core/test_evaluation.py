"""Evaluations of the shipped bundle, and of networks that answer the same theta whatever they see."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from stn_core.augment import augment
from stn_core.backends.tensorflow import TensorFlowBackend
from stn_core.bundle import load_network, read_manifest
from stn_core.datasets import Dataset
from stn_core.draws import image_ids
from stn_core.engine import Engine
from stn_core.errors import BadData
from stn_core.evaluation import Evaluation, Spread, evaluate, run_trial, summarize
from stn_core.evaluation.families import families
from stn_core.evaluation.summary import hurt_rate
from stn_core.evaluation.table import SECTIONS, cell, groups
from stn_core.recipes import load_recipe, parse_recipe
from stn_core.transforms import corner_errors_px

MIX = load_recipe("tutorial-mix")
BRANCHES = ["scale", "rotate", "shear", "scale+translate", "scale+rotate+shear+translate"]


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    return digits.limit(300)


@pytest.fixture(scope="module")
def others(digits: Dataset) -> Dataset:
    return digits.limit(200, seed=1)


@pytest.fixture(scope="module")
def mixed(engine: Engine, few: Dataset) -> Evaluation:
    return evaluate(engine, few, MIX, seed=1)


def constant(theta: Any, **manifest: Any) -> Engine:
    """The shipped bundle with a localization network that has no eyes: it answers ``theta`` for every image."""

    answer = np.reshape(theta, (1, -1)).astype(np.float32)

    def localization(images: Any, training: bool) -> Any:
        return tf.tile(answer, [tf.shape(images)[0], 1])

    changed = read_manifest("digits").model_copy(update=manifest)
    return Engine(
        changed,
        TensorFlowBackend(changed, {"localization": localization, "classifier": load_network("digits", "classifier")}),
    )


def zoomed(scale: float) -> Engine:
    return constant([scale, 0, 0, 0, scale, 0])


# Families


def test_every_image_is_of_one_family_and_each_is_named_after_what_it_changes(few: Dataset) -> None:
    found = families(MIX, 1, image_ids(few.images))
    assert list(found) == BRANCHES
    np.testing.assert_array_equal(np.sum(list(found.values()), axis=0), 1)
    theta = augment(few.images, MIX, 1).theta
    only_scaled = (theta[:, [0, 1, 0, 1], [1, 0, 2, 2]] == 0).all(axis=1)
    assert only_scaled[found["scale"]].all()
    np.testing.assert_array_equal(only_scaled[~found["scale"]], False)
    np.testing.assert_allclose(np.linalg.det(theta[found["rotate"]][:, :, :2]), 1)


def test_a_recipe_without_a_choice_is_one_family() -> None:
    ids = np.arange(5, dtype=np.uint64)
    found = families(load_recipe("rotation"), 1, ids)
    assert {name: rows.tolist() for name, rows in found.items()} == {"rotation": [True] * 5}


def test_branches_of_groups_of_equal_names_and_of_nothing() -> None:
    turn = {"op": "affine", "rotate_deg": [-9, 9]}
    maybe = {"op": "sometimes", "probability": 0.5, "steps": [{"op": "flip_horizontal"}]}
    both = {"op": "sequence", "steps": [turn, {"op": "gaussian_noise"}]}
    choice = {"op": "one_of", "steps": [turn, both, maybe, {**turn, "rotate_deg": [9, 20]}, {"op": "affine"}]}
    recipe = parse_recipe({"name": "odd", "steps": [{"op": "gaussian_blur"}, maybe, choice]})
    found = families(recipe, 4, np.arange(4000, dtype=np.uint64))
    assert list(found) == ["rotate", "rotate+gaussian noise", "flip horizontal", "rotate 2", "identity", "unchanged"]
    np.testing.assert_array_equal(np.sum(list(found.values()), axis=0), 1)
    shares = [float(rows.mean()) for rows in found.values()]
    np.testing.assert_allclose(shares, [0.2, 0.2, 0.1, 0.2, 0.2, 0.1], atol=0.03)


def test_the_families_add_up_to_the_whole(mixed: Evaluation) -> None:
    assert [family.name for family in mixed.families] == BRANCHES
    assert sum(family.images for family in mixed.families) == mixed.images == 300
    for measure in ("accuracy_distorted", "accuracy_original_unrectified", "hurt_rate", "content_kept"):
        parts = [getattr(family, measure) * family.images / 300 for family in mixed.families]
        assert sum(parts) == pytest.approx(getattr(mixed, measure))
    means = [family.corner_error_px.mean * family.images / 300 for family in mixed.families]
    assert sum(means) == pytest.approx(mixed.corner_error_px.mean)
    scale, rotate, *_ = mixed.families
    assert scale.angle_sd_unrectified_deg == pytest.approx(0, abs=1e-4)
    assert scale.log_scale_sd_unrectified > 0.2
    assert rotate.log_scale_sd_unrectified == pytest.approx(0, abs=1e-9)
    assert 25 < rotate.angle_sd_unrectified_deg < 45  # uniform over 120 degrees: 34.6


# Whole evaluations


def test_the_shipped_bundle_straightens_by_every_measure(mixed: Evaluation) -> None:
    for measure in ("corner_error{}_px", "pose_free_corner_error{}_px"):
        after, before = (getattr(mixed, measure.format(kind)) for kind in ("", "_unrectified"))
        assert after.median < 0.3 * before.median
        assert after.p90 < 0.5 * before.p90
    for measure in ("angle_sd{}_deg", "log_scale_sd{}", "shift_sd{}_px"):
        assert getattr(mixed, measure.format("")) < 0.5 * getattr(mixed, measure.format("_unrectified"))
    assert mixed.psnr_to_original_unrectified_db + 5 < mixed.psnr_to_original_db < mixed.psnr_to_original_true_db
    assert mixed.content_kept == pytest.approx(mixed.content_kept_true, abs=0.01)
    assert mixed.area_scale == pytest.approx(mixed.area_scale_true, rel=0.05)
    assert mixed.accuracy_distorted_unrectified < mixed.accuracy_distorted <= mixed.accuracy_distorted_true + 0.02
    assert 15 < mixed.round_trip_psnr_db < 40
    assert (mixed.collapse, mixed.collapsed_share) == (False, 0)
    assert mixed.summary()["corner_error_median_px"] == mixed.corner_error_px.median


def test_rectifying_by_nothing_changes_nothing(few: Dataset) -> None:
    same = evaluate(zoomed(1.0), few, load_recipe("rotation"), seed=3)
    fields = set(Evaluation.model_fields)
    pairs = [(name, name.replace("_unrectified", "")) for name in fields if "_unrectified" in name]
    assert len(pairs) >= 12
    for before, after in pairs:
        assert getattr(same, before) == getattr(same, after), before
    assert (same.hurt_rate, same.helped_rate, same.hurt_rate_original, same.collapse) == (0, 0, 0, False)
    assert same.corner_error_original_px.p90 == 0


@pytest.mark.parametrize("scale", [10.0, 0.1], ids=["out", "in"])
def test_a_network_that_zooms_away_is_caught_and_gains_nothing(few: Dataset, scale: float) -> None:
    gone = evaluate(zoomed(scale), few, MIX, seed=1)
    assert gone.collapse
    assert gone.collapsed_share > 0.9
    assert gone.hurt_rate > 0.5
    assert gone.corner_error_px.median > gone.corner_error_unrectified_px.median
    # What is left varies as it did: a constant theta straightens nothing.
    assert gone.pose_free_corner_error_px.mean == pytest.approx(
        gone.pose_free_corner_error_unrectified_px.mean, rel=0.01
    )
    assert gone.angle_sd_deg == pytest.approx(gone.angle_sd_unrectified_deg, rel=0.05)
    assert gone.log_scale_sd == pytest.approx(gone.log_scale_sd_unrectified, rel=1e-3)


def test_a_constant_pose_counts_in_the_raw_error_and_not_in_the_pose_free(few: Dataset) -> None:
    turned = np.deg2rad(20)
    theta = [np.cos(turned), -np.sin(turned), 0, np.sin(turned), np.cos(turned), 0]
    straight = parse_recipe({"name": "nothing", "steps": [{"op": "affine"}]})
    posed = evaluate(constant(theta), few, straight, seed=1)
    assert posed.corner_error_px.median == pytest.approx(2 * np.sin(turned / 2) * 14 * np.sqrt(2), rel=1e-4)
    assert posed.pose_free_corner_error_px.p90 < 0.01
    assert posed.angle_sd_deg == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(np.array(posed.pose)[:, :2] @ np.reshape(theta, (2, 3))[:, :2], np.eye(2), atol=1e-3)
    assert not posed.collapse


def test_the_pose_may_be_fitted_on_other_images(engine: Engine, few: Dataset, others: Dataset) -> None:
    recipe = load_recipe("perspective")
    seen: list[tuple[int, int]] = []
    apart = evaluate(engine, few, recipe, 2, lambda done, total: seen.append((done, total)), pose_data=others)
    itself = evaluate(engine, few, recipe, 2)
    assert apart.pose != itself.pose
    assert apart.pose_fitted_on == f"200 others of {others.name}"
    assert itself.pose_fitted_on == "the same images"
    assert apart.corner_error_px == itself.corner_error_px
    assert apart.pose_free_corner_error_px.median == pytest.approx(itself.pose_free_corner_error_px.median, rel=0.1)
    done = [one for one, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (1700, 1700)


def test_digits_on_a_canvas_are_measured_in_the_pixels_of_the_originals(few: Dataset) -> None:
    recipe = load_recipe("rotation-scale-translation")
    cut = 28 / 42
    crops = constant([cut, 0, 0, 0, cut, 0], input_shape=(42, 42, 1), rectified_size=(28, 28))
    trial = run_trial(crops, few, recipe, seed=2)
    found = summarize(trial)
    assert trial.distorted.shape == (300, 42, 42, 1)
    np.testing.assert_array_equal(trial.shown["unrectified"].images, trial.distorted[:, 7:35, 7:35])
    assert found.corner_error_px.model_dump() == pytest.approx(found.corner_error_unrectified_px.model_dump(), rel=1e-4)
    assert found.area_scale == pytest.approx(1)
    assert found.corner_error_original_px.p90 == pytest.approx(0, abs=1e-5)
    assert found.accuracy_original == found.accuracy_original_unrectified > 0.97
    assert found.accuracy_distorted_true > 0.95 > found.accuracy_distorted
    assert found.content_kept < 0.99 < found.content_kept_true
    assert not found.collapse
    with pytest.raises(BadData, match=r"makes images of 42 x 42 x 1 .* but bundle digits expects 28 x 28 x 1"):
        evaluate(zoomed(1.0), few, recipe, seed=2)
    with pytest.raises(BadData, match="rotation, which has no canvas, makes images of 28 x 28 x 1"):
        evaluate(crops, few, load_recipe("rotation"), seed=2)


def test_colour_floats_and_a_white_background_are_measured_too() -> None:
    images = 1 - np.random.default_rng(0).random((20, 24, 28, 3)).astype(np.float32) ** 4
    data = Dataset("noise", images, np.arange(20) % 10, tuple("0123456789"))

    class ColourEngine(Engine):
        def classify(self, images: Any) -> Any:
            return np.arange(len(images)) % 10, np.eye(10)[np.arange(len(images)) % 10]

    plain = constant([1, 0, 0, 0, 1, 0])
    manifest = plain.manifest.model_copy(update={"input_shape": (24, 28, 3), "fill_fraction": 1.0})
    network = lambda images, training: tf.tile([[1.0, 0, 0, 0, 1.0, 0]], [tf.shape(images)[0], 1])  # noqa: E731
    turn = parse_recipe({"name": "turn", "fill_fraction": 1.0, "steps": [{"op": "affine", "rotate_deg": [-30, 30]}]})
    found = evaluate(ColourEngine(manifest, TensorFlowBackend(manifest, {"localization": network})), data, turn, seed=0)
    assert found.content_kept == pytest.approx(1)
    assert found.psnr_to_original_db == found.psnr_to_original_unrectified_db < found.psnr_to_original_true_db


# What cannot be measured


def test_what_no_theta_tells_of_is_left_out_and_the_rest_measured(engine: Engine, few: Dataset) -> None:
    elastic = {"op": "elastic", "displacement_px": 8, "smoothness_px": 4}
    recipe = parse_recipe(
        {"name": "wave", "steps": [{"op": "one_of", "steps": [{"op": "affine", "scale": 0.8}, elastic]}]}
    )
    found = evaluate(engine, few, recipe, seed=1)
    scaled, waved = found.families
    assert (scaled.name, waved.name) == ("scale", "elastic")
    assert found.images_with_known_theta == scaled.images == scaled.images_with_known_theta
    assert waved.images_with_known_theta == 0
    assert found.corner_error_px == scaled.corner_error_px
    assert np.isnan(waved.corner_error_px.median)
    assert waved.accuracy_distorted > 0.5
    assert cell(waved, "corner_error_px.median", 2) == "-"
    only = evaluate(engine, few, parse_recipe({"name": "only", "steps": [elastic]}), seed=1)
    assert "corner_error_median_px" not in only.summary()
    assert np.isfinite(only.psnr_to_original_db)


def test_json_has_null_for_what_is_not_a_number_and_reads_back(mixed: Evaluation, few: Dataset) -> None:
    perfect = evaluate(zoomed(1.0), few, parse_recipe({"name": "nothing", "steps": [{"op": "affine"}]}), seed=1)
    assert perfect.psnr_to_original_db == perfect.round_trip_psnr_db == np.inf
    assert cell(perfect, "psnr_to_original_db", 1) == "∞"
    for text in (perfect.model_dump_json(), json.dumps(perfect.model_dump(), allow_nan=False)):
        assert json.loads(text)["psnr_to_original_db"] is None
    again = Evaluation.model_validate_json(mixed.model_dump_json(exclude={"collapse"}))
    assert again == mixed
    assert np.isnan(Spread.model_validate({"median": None, "mean": 1, "p90": 2}).median)


def test_the_hurt_rate_of_labels_made_by_hand() -> None:
    before = np.array([True, True, True, False, False])
    after = np.array([True, False, False, True, False])
    assert hurt_rate(before, after) == 0.4
    assert hurt_rate(after, before) == 0.2
    assert np.isnan(hurt_rate(before[:0], after[:0]))


def test_hurt_helped_and_accuracy_are_of_one_piece(engine: Engine, few: Dataset) -> None:
    trial = run_trial(engine, few, load_recipe("rotation"), seed=9)
    found = summarize(trial)
    assert found.accuracy_distorted - found.accuracy_distorted_unrectified == pytest.approx(
        found.helped_rate - found.hurt_rate
    )
    theta = engine.localize(trial.distorted)
    np.testing.assert_allclose(
        trial.straight["rectified"].corner_error_px,
        corner_errors_px(augment(few.images, load_recipe("rotation"), 9).theta, theta, (28, 28)),
        atol=1e-3,
    )
    np.testing.assert_array_equal(trial.shown["rectified"].images, engine.rectify(trial.distorted)[0])


def test_data_of_other_classes_is_refused(engine: Engine, few: Dataset) -> None:
    with pytest.raises(BadData, match="expected the bundle's 10 classes"):
        evaluate(engine, dataclasses.replace(few, classes=tuple("abcdefghij")), MIX, seed=1)


def test_every_row_of_the_table_is_a_measure(mixed: Evaluation) -> None:
    columns = groups([mixed])
    assert [name for name, _ in columns] == ["tutorial-mix", *BRANCHES]
    rows = [row for section in SECTIONS.values() for row in section]
    for _, measures in columns:
        for row in rows:
            texts = [cell(measures, field, row.decimals) for field in (row.before, row.after, row.true)]
            assert all(text == "" or float(text) >= 0 for text in texts), row
            assert any(texts)
    named = {field.partition(".")[0] for row in rows for field in (row.before, row.after, row.true)}
    assert named >= {name for name, field in Evaluation.model_fields.items() if field.annotation in (float, Spread)}
