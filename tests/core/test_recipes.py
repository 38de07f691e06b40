from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_core.errors import BadRecipe
from stn_core.geometry import corner_errors_px, identity
from stn_core.recipes import affine_theta, draw, is_affine, load_recipe, parse_recipe, shipped_recipes


def _with(step: dict[str, Any]) -> dict[str, Any]:
    return {"name": "r", "steps": [step]}


def _nested(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = {"op": "flip_horizontal"}
    for _ in range(depth):
        step = {"op": "sequence", "steps": [step]}
    return _with(step)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "r"}, "steps: Field required"),
        ({"name": "r", "steps": []}, "steps.*at least 1 item"),
        ({"name": "R r", "steps": [{"op": "invert"}]}, "name: String should match"),
        (_with({"op": "rotate"}), "op|tag"),
        (_with({"op": "affine", "rotate": 5}), "rotate: Extra inputs are not permitted"),
        (
            _with({"op": "affine", "rotate_deg": [60, -60]}),
            r"expected \[low, high\] with low <= high, got \[60.0, -60.0\]",
        ),
        (_with({"op": "affine", "scale": [0, 1]}), "greater than or equal to 0.05"),
        (_with({"op": "affine", "scale": "big"}), "scale"),
        (_with({"op": "affine", "rotate_deg": [0, float("nan")]}), "finite"),
        (_with({"op": "affine", "shear_deg": [-80, 80], "shear_x_deg": 20}), "at most 89 degrees"),
        (_with({"op": "one_of", "steps": []}), "at least 1 item"),
        (_with({"op": "some_of", "at_least": 2, "at_most": 1, "steps": [{"op": "invert"}]}), "at_most >= at_least"),
        (_nested(12), "nested at most 8 deep"),
        ({"name": "r", "steps": [{"op": "sequence", "steps": [{"op": "invert"}] * 60}] * 2}, "at most 64 steps"),
        ("no-such-recipe", "expected one of camera, "),
        ("../../etc/passwd", "expected one of"),
        ('{"name": ', "does not parse"),
        ('{"a": ' * 5000, "does not parse|nested"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        parse_recipe(data)


def test_shipped_recipes_load_by_name_from_json_and_from_a_file(tmp_path: Path) -> None:
    assert "tutorial-mix" in shipped_recipes()
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
        assert parse_recipe(recipe.model_dump_json()) == recipe
        file = tmp_path / f"{name}.json"
        file.write_text(recipe.model_dump_json())
        assert load_recipe(file) == recipe


@pytest.mark.parametrize("text", ["[1, 2]", "name: [", "name: r\nsteps: 5"])
def test_a_broken_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(BadRecipe):
        load_recipe(file)
    with pytest.raises(BadRecipe, match="neither a file nor the name of a shipped recipe"):
        load_recipe(tmp_path / "missing.yaml")


def test_the_tutorials_mix_is_as_crooked_as_measured() -> None:
    # Measured on the original system: the corners lie 7.1 px from their place in the median.
    ids = np.arange(20_000, dtype=np.uint64)
    theta, affine = affine_theta(draw(load_recipe("tutorial-mix"), 0, ids), (28, 28))
    assert affine.all()
    assert np.median(corner_errors_px(theta, identity(len(ids)), (28, 28))) == pytest.approx(7.1, abs=0.15)


def test_groups_choose_as_often_as_they_say() -> None:
    ids = np.arange(40_000, dtype=np.uint64)
    flips = [{"op": "flip_horizontal"}, {"op": "flip_vertical"}, {"op": "invert"}, {"op": "gaussian_blur"}]

    def active(group: dict[str, Any]) -> Any:
        return np.stack([item.active for item in draw(parse_recipe(_with({**group, "steps": flips})), 1, ids)])

    one = active({"op": "one_of"})
    assert (one.sum(axis=0) == 1).all()
    np.testing.assert_allclose(one.mean(axis=1), 0.25, atol=0.012)
    sometimes = active({"op": "sometimes", "probability": 0.3})
    assert (sometimes == sometimes[0]).all()
    assert sometimes.mean() == pytest.approx(0.3, abs=0.012)
    some = active({"op": "some_of", "at_least": 1, "at_most": 3})
    np.testing.assert_allclose(np.bincount(some.sum(axis=0)) / 40_000, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.012)
    np.testing.assert_allclose(some.mean(axis=1), 0.5, atol=0.012)
    assert active({"op": "sequence"}).all()


def test_is_affine_tells_recipes_of_affine_steps_from_others() -> None:
    assert is_affine(load_recipe("tutorial-mix"))
    assert not is_affine(load_recipe("camera"))
    assert not is_affine(load_recipe("elastic"))
