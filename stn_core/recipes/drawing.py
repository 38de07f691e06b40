"""From a recipe to the concrete parameters of each image, and from those to its exact theta."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stn_core import geometry
from stn_core.draws import Ids, bits, normals, uniform
from stn_core.errors import BadTensor
from stn_core.geometry import CORNERS, Size
from stn_core.homography import from_points
from stn_core.recipes.steps import (
    Affine,
    Clutter,
    Elastic,
    FlipHorizontal,
    FlipVertical,
    GeometricLeaf,
    Group,
    Leaf,
    OneOf,
    Perspective,
    QuarterTurns,
    Recipe,
    SomeOf,
    Sometimes,
    Step,
    ThinPlate,
    leaves,
)
from stn_core.tps import control_grid
from stn_core.transforms import THETA_SHAPES, as_shape, compose

SLOTS_PER_STEP = 32

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnStep:
    """One leaf of a recipe, drawn: which images it is applied to, and with what parameters.

    ``values`` holds ``[N]`` draws by field name (drawn for all images, used where ``active``); ``seeds [N]`` seeds
    whatever a step draws for itself (noise, displacement).
    """

    step: Leaf
    active: Mask
    values: dict[str, NDArray[np.float64]]
    seeds: Ids

    def of(self, rows: NDArray[np.intp]) -> DrawnStep:
        """The draws of some of the images."""
        values = {name: drawn[rows] for name, drawn in self.values.items()}
        return DrawnStep(self.step, self.active[rows], values, self.seeds[rows])


def draw(recipe: Recipe, seed: int, ids: Ids) -> list[DrawnStep]:
    """The recipe's leaves in order of application, drawn for the images ``ids`` (see ``stn_core.draws``)."""
    return list(_draw_steps(recipe.steps, seed, ids, np.ones(len(ids), bool), iter(range(1 << 20))))


def is_exact(recipe: Recipe) -> bool:
    """True if theta tells all of what the recipe does to an image's shape, for every image."""
    return not any(isinstance(leaf, Elastic) for leaf in leaves(recipe.steps))


def steps_by_imgaug(recipe: Recipe) -> tuple[str, ...]:
    """The steps that no warp composes with: imgaug applies them, image by image and so much slower."""
    return tuple(leaf.op for leaf in leaves(recipe.steps) if not isinstance(leaf, GeometricLeaf | Clutter))


def is_geometric(recipe: Recipe) -> bool:
    """True if theta tells all of what the recipe does to an image: one warp by it makes the distorted image."""
    return all(isinstance(leaf, GeometricLeaf) for leaf in leaves(recipe.steps))


def theta_shape_of(recipe: Recipe) -> tuple[int, int]:
    """The shape of a theta of this recipe: (2, 3) affine, (3, 3) with a perspective, (16, 2) with a spline."""
    kinds = {type(leaf) for leaf in leaves(recipe.steps)}
    return THETA_SHAPES["tps" if ThinPlate in kinds else "homography" if Perspective in kinds else "affine"]


def distorted_size(recipe: Recipe, size: Size) -> Size:
    """The size (height, width) of an image of ``size`` after the recipe; BadTensor if its canvas is smaller."""
    if recipe.canvas is None:
        return size
    canvas = (recipe.canvas.height_px, recipe.canvas.width_px)
    if canvas[0] < size[0] or canvas[1] < size[1]:
        raise BadTensor(
            f"images: expected at most the canvas of recipe {recipe.name}, {canvas[0]} x {canvas[1]} px, got "
            f"{size[0]} x {size[1]}"
        )
    return canvas


def canvas_theta(recipe: Recipe, size: Size) -> NDArray[np.float64]:
    """The theta ``[2, 3]`` that puts an image of ``size`` on the recipe's canvas: the identity without one."""
    height, width = distorted_size(recipe, size)
    return np.array([[width / size[1], 0.0, 0.0], [0.0, height / size[0], 0.0]])


def known_theta(recipe: Recipe, drawn: list[DrawnStep], size: Size) -> tuple[NDArray[np.float64], Mask]:
    """The theta ``[N, ...]`` of the geometric steps and the canvas together, and for which images ``[N]`` it tells all.

    The inverse mapping of the distortion: ``distorted(u) = original(theta u)``; of the shape ``theta_shape_of``.
    ``size`` is that of the original. False where a step that has no theta (elastic) moved pixels too.
    """
    count = len(drawn[0].active)
    exact = np.ones(count, bool)
    for item in drawn:
        if isinstance(item.step, Elastic):
            exact &= ~item.active
    theta = as_shape(np.tile(canvas_theta(recipe, size), (count, 1, 1)), (2, 3))
    theta = composed_theta(theta, drawn, distorted_size(recipe, size))
    return as_shape(theta, theta_shape_of(recipe)), exact


def composed_theta(theta: NDArray[np.float64], drawn: list[DrawnStep], size: Size) -> NDArray[np.float64]:
    """``theta`` followed by the geometric ones among ``drawn``, at the distorted image's ``size``."""
    for item in drawn:
        if not isinstance(item.step, GeometricLeaf) or not item.active.any():
            continue
        if item.active.all():
            theta = compose(theta, leaf_theta(item, size))
            continue
        rows = np.flatnonzero(item.active)
        changed = compose(theta[rows], leaf_theta(item.of(rows), size))
        theta = as_shape(theta, (changed.shape[1], changed.shape[2])).copy()
        theta[rows] = changed
    return theta


def leaf_theta(item: DrawnStep, size: Size) -> NDArray[np.float64]:
    """The theta of one geometric leaf for all images, ``[N, ...]``."""
    count = len(item.active)
    match item.step:
        case Affine():
            return geometry.invert(_imgaug_affine(item.values, size))
        case FlipHorizontal():
            return np.tile([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (count, 1, 1))
        case FlipVertical():
            return np.tile([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], (count, 1, 1))
        case QuarterTurns():
            return np.asarray(_QUARTER_TURNS[item.values["turns"].astype(int)], np.float64)
        case Perspective():
            return _perspective(item, size)
        case ThinPlate():
            control = control_grid()
            moves = normals(item.seeds, control.size).reshape(count, *control.shape)
            return np.asarray(control + moves * _sd(item, size))
    raise TypeError(f"not a geometric step: {item.step.op}")


def _sd(item: DrawnStep, size: Size) -> NDArray[np.float64]:
    """The standard deviations of a step's moves in normalized units, ``[N, 1, 2]``."""
    height, width = size
    fractions = np.stack([item.values["sd_px"] / side for side in (width, height)], axis=-1)
    return np.asarray(2 * (item.values["sd_fraction"][:, None] + fractions))[:, None, :]


MAX_REDRAWS = 20


def _perspective(item: DrawnStep, size: Size) -> NDArray[np.float64]:
    sd, count = _sd(item, size), len(item.active)
    moves = np.zeros((count, 4, 2))
    left: NDArray[np.intp] = np.arange(count)
    for attempt in range(MAX_REDRAWS):  # whom chance leaves after that many stays as it is
        drawn = normals(item.seeds[left], 8, first=8 * attempt).reshape(-1, 4, 2) * sd[left]
        fits = _is_convex(CORNERS + drawn)
        moves[left[fits]] = drawn[fits]
        left = left[~fits]
        if not left.size:
            break
    return from_points(CORNERS + moves, np.tile(CORNERS, (count, 1, 1)))


def _is_convex(corners: NDArray[np.float64]) -> Mask:
    """Which of the quadrilaterals ``[N, 4, 2]`` turn clearly the same way at each corner."""
    sides = np.roll(corners, -1, axis=1) - corners
    following = np.roll(sides, -1, axis=1)
    turns = sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0]
    return np.asarray((turns > MIN_TURN).all(axis=1))


MIN_TURN = 0.4
"""Of 4, which is a square's: below it, a corner is nearly flat and the image behind it stretched beyond use."""


# Clockwise by a quarter: the output's right is the input's top, so input x = output y and input y = -output x.
_QUARTER = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
_QUARTER_TURNS = np.stack(
    [
        geometry.IDENTITY,
        _QUARTER,
        geometry.compose(_QUARTER, _QUARTER),
        geometry.compose(geometry.compose(_QUARTER, _QUARTER), _QUARTER),
    ]
)


def affine_parameters(values: dict[str, NDArray[np.float64]], size: Size) -> dict[str, NDArray[np.float64]]:
    """The arguments of imgaug's Affine, ``[N]`` each, by axis where there are two."""
    height, width = size
    return {
        "scale_x": values["scale"] * values["scale_x"],
        "scale_y": values["scale"] * values["scale_y"],
        "rotate_deg": values["rotate_deg"],
        "shear_x_deg": values["shear_deg"] + values["shear_x_deg"],
        "shear_y_deg": values["shear_deg"] + values["shear_y_deg"],
        "shift_x_fraction": values["translate_x_fraction"] + values["translate_x_px"] / width,
        "shift_y_fraction": values["translate_y_fraction"] + values["translate_y_px"] / height,
    }


def _imgaug_affine(values: dict[str, NDArray[np.float64]], size: Size) -> NDArray[np.float64]:
    """What imgaug's Affine does, as the forward mapping from input to output points, ``[N, 2, 3]``.

    In pixels about the image's centre it is Shear · Scale · Rotation, then the shift, with y pointing down.
    """
    p = affine_parameters(values, size)
    cos, sin = np.cos(np.deg2rad(p["rotate_deg"])), np.sin(np.deg2rad(p["rotate_deg"]))
    shear_x, shear_y = np.tanh(-np.deg2rad(p["shear_x_deg"])), np.tanh(np.deg2rad(p["shear_y_deg"]))
    a, b = p["scale_x"] * cos, -p["scale_x"] * sin
    c, d = p["scale_y"] * sin, p["scale_y"] * cos
    height, width = size
    aspect = height / width  # normalized x is counted in half widths, y in half heights
    forward = np.empty((len(cos), 2, 3))
    forward[:, 0, 0], forward[:, 0, 1] = a + shear_x * c, (b + shear_x * d) * aspect
    forward[:, 1, 0], forward[:, 1, 1] = (shear_y * a + c) / aspect, shear_y * b + d
    forward[:, 0, 2], forward[:, 1, 2] = 2 * p["shift_x_fraction"], 2 * p["shift_y_fraction"]
    return forward


def _draw_steps(
    steps: tuple[Step, ...], seed: int, ids: Ids, active: Mask, numbers: Iterator[int]
) -> Iterator[DrawnStep]:
    for step in steps:
        slot = next(numbers) * SLOTS_PER_STEP
        if not isinstance(step, Group):
            yield _draw_leaf(step, seed, ids, active, slot)
            continue
        chosen = _choose(step, seed, ids, slot)
        for index, inner in enumerate(step.steps):
            yield from _draw_steps((inner,), seed, ids, active & chosen[:, index], numbers)


def _choose(group: Group, seed: int, ids: Ids, slot: int) -> NDArray[np.bool_]:
    """Which of the group's steps each image takes, ``[N, steps]``."""
    count, u = len(group.steps), uniform(seed, ids, slot)
    if isinstance(group, OneOf):
        return np.asarray(np.floor(u * count).astype(int)[:, None] == np.arange(count))
    if isinstance(group, Sometimes):
        return np.repeat((u < group.probability)[:, None], count, axis=1)
    if isinstance(group, SomeOf):
        at_most = count if group.at_most is None else min(group.at_most, count)
        at_least = min(group.at_least, at_most)
        wanted = at_least + np.floor(u * (at_most - at_least + 1)).astype(int)
        keys = [bits(seed, ids, (slot + 1) * 4096 + index) for index in range(count)]
        rank = np.argsort(np.argsort(np.stack(keys, axis=1), axis=1), axis=1)
        return np.asarray(rank < wanted[:, None])
    return np.ones((len(ids), count), bool)


def _draw_leaf(step: Leaf, seed: int, ids: Ids, active: Mask, slot: int) -> DrawnStep:
    values: dict[str, NDArray[np.float64]] = {}
    for index, name in enumerate(type(step).model_fields):
        value = getattr(step, name)
        if isinstance(step, QuarterTurns) and name == "turns":
            choice = np.floor(uniform(seed, ids, slot + index) * len(value)).astype(int)
            values[name] = np.asarray(value, np.float64)[choice]
        elif isinstance(value, tuple):
            low, high = value
            u = uniform(seed, ids, slot + index) if low != high else 0.0
            values[name] = np.full(len(ids), low) + (high - low) * u
    return DrawnStep(step, active, values, bits(seed, ids, slot + SLOTS_PER_STEP - 1))


assert all(len(leaf.model_fields) < SLOTS_PER_STEP for leaf in get_args(Leaf)), "a leaf has more fields than slots"
