"""Named distortion recipes, as data: what may be drawn, validated and documented, without imgaug.

A recipe is a list of steps. ``draw`` turns it into concrete parameters for each image; ``known_theta`` turns those
into the exact theta. Applying them to pixels is the work of ``stn_core.augment``.
"""

from stn_core.recipes.drawing import (
    DrawnStep,
    canvas_theta,
    distorted_size,
    draw,
    is_exact,
    is_geometric,
    known_theta,
    steps_by_imgaug,
    theta_shape_of,
)
from stn_core.recipes.loading import load_recipe, parse_recipe, shipped_recipes
from stn_core.recipes.steps import Recipe

__all__ = [
    "DrawnStep",
    "Recipe",
    "canvas_theta",
    "distorted_size",
    "draw",
    "is_exact",
    "is_geometric",
    "known_theta",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
    "steps_by_imgaug",
    "theta_shape_of",
]
