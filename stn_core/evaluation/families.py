"""Which of a recipe's distortions each image got, so that each kind is measured by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stn_core.draws import Ids
from stn_core.errors import shortened
from stn_core.recipes import Recipe, draw
from stn_core.recipes.steps import Affine, Leaf, OneOf, Step, leaves

UNCHANGED = "unchanged"


def families(recipe: Recipe, seed: int, ids: Ids) -> dict[str, NDArray[np.bool_]]:
    """The recipe's distortion families by name, and which images ``[N]`` belong to each; each image to exactly one.

    The branches of the recipe's first top-level ``one_of`` are its families, named after what they change. Images that
    a branch left alone (a ``sometimes`` within it) are the family ``unchanged``. A recipe without a ``one_of`` is one
    family, under its own name.
    """
    split = next((step for step in recipe.steps if isinstance(step, OneOf)), None)
    if split is None:
        return {recipe.name: np.ones(len(ids), bool)}
    drawn = draw(recipe, seed, ids)
    first = sum(1 for step in recipe.steps[: recipe.steps.index(split)] for _ in leaves((step,)))
    found: dict[str, NDArray[np.bool_]] = {}
    for branch in split.steps:
        count = sum(1 for _ in leaves((branch,)))
        taken = np.logical_or.reduce([item.active for item in drawn[first : first + count]])
        found[_unused(branch_name(branch), found)] = np.asarray(taken)
        first += count
    unchanged = ~np.logical_or.reduce(list(found.values()))
    return {**found, UNCHANGED: np.asarray(unchanged)} if unchanged.any() else found


def branch_name(branch: Step) -> str:
    """What a branch changes, such as ``scale+translate``: the quantities of its affine steps, the others' names."""
    changes = [change for leaf in leaves((branch,)) for change in _changes(leaf)]
    return shortened("+".join(dict.fromkeys(changes)), 60)


def _changes(leaf: Leaf) -> list[str]:
    if not isinstance(leaf, Affine):
        return [leaf.op.replace("_", " ")]
    fields = type(leaf).model_fields
    changed = [name for name in fields if getattr(leaf, name) != fields[name].default]
    return [name.split("_")[0] for name in changed] or ["identity"]


def _unused(name: str, names: dict[str, NDArray[np.bool_]]) -> str:
    """``name``, numbered where another branch has it already."""
    numbered = (name if number == 1 else f"{name} {number}" for number in range(1, len(names) + 2))
    return next(one for one in numbered if one not in names)
