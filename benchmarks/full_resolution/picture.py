"""Draws docs/pictures/full-resolution.png: large crooked digits, and what is made of them on both canvases.

    .venv/bin/python benchmarks/full_resolution/picture.py

Real digits, drawn 1120 px wide in colour and distorted by the shipped bundle's recipe; its network sees 28 x 28 gray
pixels of each. What the mask says is none of the source is gray here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stn_core import native
from stn_core.augment import augment
from stn_core.datasets import sample_digits
from stn_core.engine import Engine
from stn_core.fullsize import FullImage, rectify_full
from stn_core.resizing import as_input

PICTURE = Path("docs/pictures/full-resolution.png")
CHOSEN = (2010, 3512, 3100)
SIDE_PX = 1120
SEED = 3
INK, PAPER, OUTSIDE = (255, 214, 128), (0, 0, 0), (120, 130, 150)
SHOWN_PX = 240
TITLES = ("source", "what the network sees", "crop", "fit", "mask of fit")


def main() -> None:
    from matplotlib import pyplot

    engine = Engine.load("digits")
    upright = np.stack([_drawn(digit) for digit in sample_digits().images[list(CHOSEN)]])
    sources = augment(upright, engine.manifest.recipe, seed=SEED).images
    figure, axes = pyplot.subplots(len(CHOSEN), len(TITLES), figsize=(9, 6), layout="constrained")
    for row, source in zip(axes, sources, strict=True):
        crop, fit = (rectify_full(engine, source, canvas, with_mask=True)[0] for canvas in ("crop", "fit"))
        small = as_input(source, engine.manifest.input_shape)
        shown = (source, small, _outside_gray(crop), _outside_gray(fit), fit.mask[..., None] * np.uint8(255))
        for axis, title, image in zip(row, TITLES, shown, strict=True):
            axis.imshow(_shown(image), cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{title}\n{image.shape[1]} x {image.shape[0]}", fontsize=8)
    figure.savefig(PICTURE, dpi=100)


def _drawn(digit: NDArray[Any]) -> NDArray[np.uint8]:
    """``[28, 28, 1]`` large and sharp, ink on paper."""
    large = Image.fromarray(digit[..., 0]).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    ink = np.clip((np.asarray(large, np.float32)[..., None] - 90) / 40, 0, 1)
    return np.round(ink * INK + (1 - ink) * PAPER).astype(np.uint8)


def _outside_gray(found: FullImage) -> NDArray[np.uint8]:
    return np.where(found.mask[..., None], found.image, np.uint8(OUTSIDE))


def _shown(image: NDArray[Any]) -> NDArray[Any]:
    """As large as it is to be seen."""
    smaller = max(1.0, max(image.shape[:2]) / SHOWN_PX)
    return native.reduced(image[None], (round(image.shape[0] / smaller), round(image.shape[1] / smaller)))[0]


if __name__ == "__main__":
    main()
