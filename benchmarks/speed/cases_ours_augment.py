"""Augmentation, ours and imgaug's, which is in our environment: the tutorial's recipe on real digits in uint8."""

from __future__ import annotations

from typing import Any

import imgaug.augmenters as iaa
from contestant import Case
from inputs import SEED
from numpy.typing import NDArray

from stn_core.augment import augment
from stn_core.datasets import sample_digits
from stn_core.recipes import load_recipe

IMAGES = 1024


def ours() -> Case:
    images, recipe = digits(), load_recipe("tutorial-mix")
    return lambda: augment(images, recipe, SEED), len(images)


def imgaug() -> Case:
    """As imgaug's manual has it: one call for the batch."""
    images, augmenter = digits(), tutorial_mix()
    return lambda: augmenter(images=images), len(images)


def tutorial_mix() -> Any:
    """The recipe ``tutorial-mix`` in imgaug's own words."""
    smaller_and_shifted: dict[str, Any] = {
        "scale": (0.6, 1.1),
        "translate_percent": {"x": (-0.2, 0.2), "y": (-0.2, 0.2)},
    }
    return iaa.OneOf(
        [
            iaa.Affine(scale=(0.5, 1.3)),
            iaa.Affine(rotate=(-60, 60)),
            iaa.Affine(shear=(-40, 40)),
            iaa.Affine(**smaller_and_shifted),
            iaa.Affine(**smaller_and_shifted, rotate=(-30, 30), shear=(-15, 15)),
        ]
    )


def digits() -> NDArray[Any]:
    """Some of each class: the sample is in the order of classes."""
    images = sample_digits().images
    return images[:: len(images) // IMAGES][:IMAGES].copy()


CASES = {"ours": ours, "imgaug": imgaug}
