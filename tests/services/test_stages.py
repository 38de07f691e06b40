"""Stages and their links as plain classes: what they compute, that read-only arrays do, and how errors travel."""

import pickle
from typing import Any

import numpy as np
import pytest

from services.links import LocalLink
from services.settings import StageSettings
from services.stages import AugmentStage, ClassifyStage, Operation, RectifyStage, augment_operation
from stn_core import errors
from stn_core.augment import augment
from stn_core.bundle import read_manifest
from stn_core.errors import StnError
from stn_core.recipes import load_recipe

Digits = tuple[np.ndarray, np.ndarray]


def frozen(array: np.ndarray) -> np.ndarray:
    """A read-only copy, as arrays are that come out of Ray or off the network."""
    array = array.copy()
    array.flags.writeable = False
    return array


def test_rectify_stage(engine: Any, digits: Digits) -> None:
    stage, images = RectifyStage(engine), frozen(digits[0][:7])
    stage.warm_up()
    both = stage.run(Operation("rectify"), {"images": images})
    rectified, theta = engine.rectify(images)
    np.testing.assert_array_equal(both["rectified"], rectified)
    np.testing.assert_array_equal(stage.run(Operation("localize"), {"images": images})["theta"], theta)
    warped = stage.run(Operation("warp"), {"images": images, "theta": frozen(theta)})
    np.testing.assert_array_equal(warped["images"], rectified)


def test_classify_stage(engine: Any, digits: Digits) -> None:
    images = frozen(digits[0][:7])
    result = ClassifyStage(engine).run(Operation("classify"), {"images": images})
    label, probabilities = engine.classify(images)
    np.testing.assert_array_equal(result["label"], label)
    np.testing.assert_array_equal(result["probabilities"], probabilities)
    assert (result["label"].dtype, result["probabilities"].dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_augment_stage_leaves_its_input_alone(digits: Digits, dtype: Any) -> None:
    manifest = read_manifest("digits")
    stage = AugmentStage(manifest.input_shape, manifest.recipe)
    stage.warm_up()
    recipe = load_recipe("tutorial-mix")
    images = frozen((digits[0][:7] / (1 if dtype == np.uint8 else 255)).astype(dtype))
    ids = frozen(np.arange(7, dtype=np.uint64))
    result = stage.run(augment_operation(recipe.model_dump_json(), 4), {"images": images, "ids": ids})
    expected = augment(images, recipe, 4, ids)
    np.testing.assert_array_equal(result["images"], expected.images)
    np.testing.assert_array_equal(result["theta_rectifying"], expected.theta_rectifying)
    assert result["exact"].dtype == np.bool_


def test_augment_stage_leaves_out_what_a_spline_does_not_have(digits: Digits) -> None:
    stage = AugmentStage((28, 28, 1), read_manifest("digits").recipe)
    columns = {"images": frozen(digits[0][:2]), "ids": np.arange(2, dtype=np.uint64)}
    result = stage.run(augment_operation(load_recipe("elastic").model_dump_json(), 4), columns)
    assert list(result) == ["images", "theta", "exact"]
    assert result["theta"].shape == (2, 16, 2)


def test_an_unknown_operation_is_an_error(engine: Any) -> None:
    with pytest.raises(StnError, match="no operation 'fly'; it has localize, rectify, decide, warp, resize"):
        RectifyStage(engine).run(Operation("fly"), {})


async def test_a_local_link_runs_off_the_event_loop_and_in_batches_the_stage_takes(engine: Any, digits: Digits) -> None:
    link = LocalLink(ClassifyStage(engine), StageSettings(max_batch_images=4))
    whole = await link.call(Operation("classify"), {"images": digits[0][:11]})
    np.testing.assert_allclose(whole["probabilities"], engine.classify(digits[0][:11])[1], atol=1e-5)
    assert await link.ready()


def test_operations_and_all_errors_survive_pickling() -> None:
    operation = augment_operation("{}", 3)
    assert pickle.loads(pickle.dumps(operation)) == operation
    for cls in errors.StnError.by_code.values():
        back = pickle.loads(pickle.dumps(cls("what came")))
        assert type(back) is cls
        assert back.detail == "what came"
    assert pickle.loads(pickle.dumps(errors.Overloaded("full", 7.5))).retry_after_s == 7.5
