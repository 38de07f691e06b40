"""Named distortion recipes, as data: what may be drawn, validated and documented, without imgaug.

A recipe is a list of steps. ``draw`` turns it into concrete parameters for each image; ``affine_theta`` turns those
into the exact theta. Applying them to pixels is the work of ``stn_core.augment``.
"""

from stn_core.recipes.drawing import DrawnStep, affine_theta, draw, is_affine
from stn_core.recipes.loading import load_recipe, parse_recipe, shipped_recipes
from stn_core.recipes.steps import Recipe

__all__ = [
    "DrawnStep",
    "Recipe",
    "affine_theta",
    "draw",
    "is_affine",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]
