"""From a recipe to the concrete parameters of each image, and from those to its exact theta."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stn_core.draws import Ids, bits, uniform
from stn_core.geometry import Size, compose, identity, invert
from stn_core.recipes.steps import (
    Affine,
    AffineLeaf,
    FlipHorizontal,
    FlipVertical,
    Group,
    Leaf,
    OneOf,
    QuarterTurns,
    Recipe,
    SomeOf,
    Sometimes,
    Step,
    WarpingLeaf,
)

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


def draw(recipe: Recipe, seed: int, ids: Ids) -> list[DrawnStep]:
    """The recipe's leaves in order of application, drawn for the images ``ids`` (see ``stn_core.draws``)."""
    return list(_draw_steps(recipe.steps, seed, ids, np.ones(len(ids), bool), iter(range(1 << 20))))


def is_affine(recipe: Recipe) -> bool:
    """True if every step of the recipe is affine, so that one theta says all of what it does to an image."""
    return all(isinstance(leaf, AffineLeaf) for leaf in _leaves(recipe.steps))


def affine_theta(drawn: list[DrawnStep], size: Size) -> tuple[NDArray[np.float64], Mask]:
    """The exact theta ``[N, 2, 3]`` of the affine steps composed, and for which images ``[N]`` it tells all.

    The inverse mapping of the distortion: ``distorted(u) = original(theta u)``. False where a step that is not affine
    (elastic, perspective) moved pixels too.
    """
    count = len(drawn[0].active)
    theta, affine = identity(count), np.ones(count, bool)
    for item in drawn:
        if isinstance(item.step, AffineLeaf):
            theta[item.active] = compose(theta[item.active], leaf_theta(item, size)[item.active])
        elif isinstance(item.step, WarpingLeaf):
            affine &= ~item.active
    return theta, affine


def leaf_theta(item: DrawnStep, size: Size) -> NDArray[np.float64]:
    """The theta of one affine leaf for all images, ``[N, 2, 3]``."""
    count = len(item.active)
    match item.step:
        case Affine():
            return invert(_imgaug_affine(item.values, size))
        case FlipHorizontal():
            return np.tile([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (count, 1, 1))
        case FlipVertical():
            return np.tile([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], (count, 1, 1))
        case QuarterTurns():
            return np.asarray(_QUARTER_TURNS[item.values["turns"].astype(int)], np.float64)
    raise TypeError(f"not an affine step: {item.step.op}")


# Clockwise by a quarter: the output's right is the input's top, so input x = output y and input y = -output x.
_QUARTER = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
_QUARTER_TURNS = np.stack(
    [identity(1)[0], _QUARTER, compose(_QUARTER, _QUARTER), compose(compose(_QUARTER, _QUARTER), _QUARTER)]
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


def _leaves(steps: tuple[Step, ...]) -> Iterator[Leaf]:
    for step in steps:
        if isinstance(step, Group):
            yield from _leaves(step.steps)
        else:
            yield step


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
