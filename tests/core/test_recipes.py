from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn_core.errors import BadRecipe, BadTensor
from stn_core.geometry import CORNERS, identity
from stn_core.recipes import (
    Recipe,
    canvas_theta,
    distorted_size,
    draw,
    is_exact,
    is_geometric,
    known_theta,
    load_recipe,
    parse_recipe,
    shipped_recipes,
    theta_shape_of,
)
from stn_core.transforms import corner_errors_px, identity_like, invert, map_points


def _with(step: dict[str, Any]) -> dict[str, Any]:
    return {"name": "r", "steps": [step]}


def _steps(*steps: dict[str, Any], **fields: Any) -> Recipe:
    return parse_recipe({"name": "r", "steps": list(steps), **fields})


def _thetas(recipe: Recipe, count: int, size: tuple[int, int] = (28, 28)) -> Any:
    return known_theta(recipe, draw(recipe, 1, np.arange(count, dtype=np.uint64)), size)[0]


AFFINE, PERSPECTIVE, SPLINE = {"op": "affine"}, {"op": "perspective", "sd_px": 2}, {"op": "thin_plate", "sd_px": 2}


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
        (_with({"op": "perspective", "sd_fraction": 0.4}), "sd_fraction.*less than or equal to 0.3"),
        (_with({"op": "thin_plate", "sd_px": -1}), "sd_px.*greater than or equal to 0"),
        (_with({"op": "clutter", "patches": 0}), "patches: .*greater than or equal to 1"),
        (_with({"op": "clutter", "patch_px": 29}), "patch_px: .*less than or equal to 28"),
        ({"name": "r", "canvas": {"height_px": 0, "width_px": 9}, "steps": [AFFINE]}, "canvas.height_px"),
        ({"name": "r", "canvas": {"height_px": 9, "width_px": 4097}, "steps": [AFFINE]}, "canvas.width_px"),
        ({"name": "r", "canvas": [42, 42], "steps": [AFFINE]}, "canvas"),
        ({"name": "r", "steps": [SPLINE, AFFINE]}, "thin_plate: expected once, after all other geometric steps"),
        ({"name": "r", "steps": [SPLINE, SPLINE]}, "thin_plate: expected once"),
        (
            {"name": "r", "steps": [{"op": "sometimes", "steps": [SPLINE]}, {"op": "one_of", "steps": [AFFINE]}]},
            "thin_plate: expected once, after all other geometric steps",
        ),
        ({"name": "r", "steps": [PERSPECTIVE, SPLINE]}, "thin_plate: expected without perspective"),
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


def test_only_the_innermost_mistake_is_told() -> None:
    """pydantic also misses the step that it refuses."""
    with pytest.raises(BadRecipe) as raised:
        parse_recipe(_with({"op": "affine", "rotate_deg": [900, 1]}))
    assert str(raised.value) == "recipe: steps.0.affine.rotate_deg.0: Input should be less than or equal to 360"


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
    recipe = load_recipe("tutorial-mix")
    theta, exact = known_theta(recipe, draw(recipe, 0, ids), (28, 28))
    assert exact.all()
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


# --- what theta tells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "geometric", "shape"),
    [
        ("tutorial-mix", True, (2, 3)),
        ("rotation", True, (2, 3)),
        ("rotation-scale-translation", True, (2, 3)),
        ("perspective", True, (3, 3)),
        ("elastic", True, (16, 2)),
        ("translated-clutter", False, (2, 3)),
        ("camera", False, (2, 3)),
        ("jitter", True, (2, 3)),
    ],
)
def test_shipped_recipes_have_an_exact_theta_of_the_smallest_family(name: str, geometric: bool, shape: Any) -> None:
    recipe = load_recipe(name)
    assert is_exact(recipe)
    assert is_geometric(recipe) == geometric
    assert theta_shape_of(recipe) == shape
    assert _thetas(recipe, 5).shape == (5, *shape)


def test_an_elastic_step_leaves_theta_inexact_for_those_it_touched() -> None:
    recipe = _steps(AFFINE, {"op": "sometimes", "probability": 0.3, "steps": [{"op": "elastic"}]})
    assert not is_exact(recipe)
    assert not is_geometric(recipe)
    drawn = draw(recipe, 1, np.arange(1000, dtype=np.uint64))
    exact = known_theta(recipe, drawn, (28, 28))[1]
    np.testing.assert_array_equal(exact, ~drawn[1].active)
    assert 0.6 < exact.mean() < 0.8


@pytest.mark.parametrize("step", [PERSPECTIVE, SPLINE])
def test_who_was_spared_keeps_the_affine_theta(step: dict[str, Any]) -> None:
    turn = {"op": "affine", "rotate_deg": [-30, 30]}
    recipe = _steps(turn, {"op": "sometimes", "probability": 0.5, "steps": [step]})
    theta, plain = _thetas(recipe, 400), _thetas(_steps(turn), 400)
    points = identity_like((16, 2))
    moved = np.abs(map_points(theta, points) - map_points(plain, points)).max(axis=(1, 2))
    active = draw(recipe, 1, np.arange(400, dtype=np.uint64))[1].active
    assert moved[~active].max() < 1e-12
    assert moved[active].min() > 1e-3
    assert 150 < active.sum() < 250


def test_nobody_touched_it_is_the_same_family_still() -> None:
    recipe = _steps(AFFINE, {"op": "sometimes", "probability": 0.0, "steps": [SPLINE]})
    np.testing.assert_allclose(_thetas(recipe, 3), identity_like((16, 2), 3), atol=1e-15)
    recipe = _steps(AFFINE, {"op": "sometimes", "probability": 0.0, "steps": [PERSPECTIVE]})
    np.testing.assert_array_equal(_thetas(recipe, 3), identity_like((3, 3), 3))


# --- perspective and thin plate -----------------------------------------------------------------------------------


def _corner_moves(recipe: Recipe, count: int, size: tuple[int, int]) -> Any:
    """Where the corners of the original lie in the distorted image, less their place: ``[N, 4, 2]``."""
    return map_points(invert(_thetas(recipe, count, size)), CORNERS) - CORNERS


@pytest.mark.parametrize(
    ("step", "sd"),
    [
        ({"sd_fraction": 0.05}, (0.1, 0.1)),
        ({"sd_px": 3}, (2 * 3 / 60, 2 * 3 / 40)),
        ({"sd_fraction": 0.02, "sd_px": 2}, (2 * (0.02 + 2 / 60), 2 * (0.02 + 2 / 40))),
    ],
)
def test_moves_have_the_standard_deviation_asked_for(step: dict[str, float], sd: tuple[float, float]) -> None:
    size = (40, 60)  # x is counted in 60 px, y in 40
    corners = _corner_moves(_steps({"op": "perspective", **step}), 20_000, size)
    control = _thetas(_steps({"op": "thin_plate", **step}), 20_000, size) - identity_like((16, 2))
    for moves in (corners, control):
        np.testing.assert_allclose(moves.std(axis=0), np.broadcast_to(sd, moves.shape[1:]), rtol=0.025)
        np.testing.assert_allclose(moves.mean(axis=0), 0, atol=0.035 * max(sd))
        assert np.abs(np.corrcoef(moves.reshape(len(moves), -1).T) - np.eye(moves[0].size)).max() < 0.035


@pytest.mark.parametrize("sd_fraction", [0.17857, 0.3])
def test_the_image_is_never_folded_over(sd_fraction: float) -> None:
    moves = _corner_moves(_steps({"op": "perspective", "sd_fraction": sd_fraction}), 50_000, (28, 28))
    corners = CORNERS + moves
    sides = np.roll(corners, -1, axis=1) - corners
    following = np.roll(sides, -1, axis=1)
    turns = sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0]
    assert turns.min() > 0.39
    # Drawn again where they would be: the draws that are left are a little narrower, and nobody is left unmoved.
    np.testing.assert_allclose(moves.std() / 2, sd_fraction, rtol=0.06)
    assert np.abs(moves).max(axis=(1, 2)).min() > 0.01


def test_golden_moves_stay_what_they_are() -> None:
    # A recipe and a seed must mean the same in every version: these values may never change.
    perspective = [
        [1.698565814247583, 0.4441275282595292, -0.30356728410570666],
        [0.11623360453892732, 1.0660203482115718, -0.5352534254132277],
        [-0.02031547490914614, -0.2277447850379443, 1.0],
    ]
    elastic = [[-1.0678637440172172, -1.2132143103973312], [-0.28034638251694366, -1.2950583451920958]]
    np.testing.assert_allclose(_thetas(load_recipe("perspective"), 1)[0], perspective, rtol=1e-9)
    np.testing.assert_allclose(_thetas(load_recipe("elastic"), 1)[0, :2], elastic, rtol=1e-9)


# --- the canvas ---------------------------------------------------------------------------------------------------


def test_the_canvas_by_hand() -> None:
    canvas = {"height_px": 42, "width_px": 56}
    recipe = _steps({"op": "affine", "translate_x_px": 7}, canvas=canvas)
    assert distorted_size(recipe, (28, 28)) == (42, 56)
    assert canvas_theta(recipe, (28, 28)).tolist() == [[2, 0, 0], [0, 1.5, 0]]
    # 7 px of 56 to the right are a quarter of the half width, and that times 2 in the original.
    np.testing.assert_allclose(_thetas(recipe, 1), [[[2, 0, -0.5], [0, 1.5, 0]]], atol=1e-15)
    assert distorted_size(_steps(AFFINE), (28, 20)) == (28, 20)
    assert canvas_theta(_steps(AFFINE), (28, 20)).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("size", [(43, 10), (10, 57), (100, 100)])
def test_an_image_larger_than_the_canvas_is_refused(size: tuple[int, int]) -> None:
    recipe = _steps(AFFINE, canvas={"height_px": 42, "width_px": 56})
    message = f"expected at most the canvas of recipe r, 42 x 56 px, got {size[0]} x {size[1]}"
    with pytest.raises(BadTensor, match=message):
        distorted_size(recipe, size)
    with pytest.raises(BadTensor, match=message):
        _thetas(recipe, 1, size)


def test_a_translated_digit_goes_everywhere_on_its_canvas_and_not_beyond() -> None:
    corners = map_points(invert(_thetas(load_recipe("translated-clutter"), 2000)), CORNERS)
    np.testing.assert_allclose(corners.min(axis=(0, 1)), -1, atol=0.01)
    np.testing.assert_allclose(corners.max(axis=(0, 1)), 1, atol=0.01)
    assert np.abs(corners).max() <= 1 + 1e-9
