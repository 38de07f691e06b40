"""Draws the pictures of docs/how-it-works.md, with the library's own grid, sampler and theta.

.venv/bin/python docs/making/pictures.py        (make pictures)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_core import native
from stn_core.augment import augment
from stn_core.datasets import sample_digits
from stn_core.engine import Engine
from stn_core.geometry import compose, invert
from stn_core.recipes import parse_recipe

PICTURES = Path(__file__).parents[1] / "pictures"
INK, GRID, MARK, SECOND = "#1d3557", "#9db4c0", "#e63946", "#2a9d8f"
SEED = 4


def main() -> None:
    for name, draw in (
        ("convention", convention),
        ("grid", grid),
        ("sampler", bilinear),
        ("two-thetas", two_thetas),
    ):
        figure = draw()
        FigureCanvasAgg(figure)
        figure.savefig(PICTURES / f"how-{name}.png", dpi=110, facecolor="white", bbox_inches="tight")
        print(PICTURES / f"how-{name}.png")


def convention() -> Figure:
    """Pixels, their centres, and the normalized coordinates of both."""
    figure = Figure(figsize=(5.2, 4.6))
    axes = figure.add_subplot()
    width = 4
    pixels = np.array([[0.1, 0.3, 0.2, 0.1], [0.2, 0.8, 0.5, 0.1], [0.1, 0.6, 0.9, 0.3], [0.0, 0.2, 0.4, 0.2]])
    axes.imshow(1 - pixels, cmap="gray", vmin=-0.6, vmax=1, extent=(-1, 1, 1, -1))
    edges = np.linspace(-1, 1, width + 1)
    for edge in edges:
        axes.axhline(edge, color=GRID, lw=1)
        axes.axvline(edge, color=GRID, lw=1)
    centres = (2 * np.arange(width) + 1) / width - 1
    x, y = np.meshgrid(centres, centres)
    axes.plot(x, y, "o", color=MARK, ms=5)
    for index, centre in enumerate(centres):
        axes.annotate(
            f"i = {index}\n{centre:g}",
            (centre, -1.06),
            ha="center",
            va="bottom",
            fontsize=9,
            color=MARK,
            annotation_clip=False,
        )
    axes.set_xticks(edges)
    axes.set_yticks(edges)
    axes.set_xlabel("x: edges; the image spans -1 to 1")
    axes.set_ylabel("y, downwards")
    axes.set_title("pixel i of W has its centre at (2 i + 1) / W - 1\n\n\n", fontsize=10)
    return figure


def grid() -> Figure:
    """A distorted digit, the grid that theta lays over it, and what is read there."""
    image, theta = _distorted()
    rectifying = invert(theta[None])
    straight = native.warp(image[None], rectifying, (28, 28), 0.0)[0]
    figure = Figure(figsize=(8.6, 4.1))
    left, right = figure.subplots(1, 2)
    shown = 9
    places = (2 * np.arange(shown) + 1) / shown - 1
    u, v = np.meshgrid(places, places)
    source = np.stack([u, v, np.ones_like(u)], axis=-1) @ rectifying[0].T
    _show(left, image, "the image as it came, and where each grid point reads it")
    _lattice(left, source[..., 0], source[..., 1])
    _show(right, straight, "the grid of the straight image")
    _lattice(right, u, v)
    row, column = 2, 6
    for axes, x, y in ((left, source[row, column, 0], source[row, column, 1]), (right, u[row, column], v[row, column])):
        axes.plot(x, y, "o", color=MARK, ms=8, zorder=5)
    left.annotate("theta (x, y, 1)", (source[row, column, 0], source[row, column, 1]), xytext=(8, 8),
                  textcoords="offset points", color=MARK, fontsize=9)  # fmt: skip
    right.annotate("(x, y)", (u[row, column], v[row, column]), xytext=(8, 8), textcoords="offset points", color=MARK,
                   fontsize=9)  # fmt: skip
    return figure


def bilinear() -> Figure:
    """One point between four pixel centres, and the weights of each."""
    figure = Figure(figsize=(4.6, 4.2))
    axes = figure.add_subplot()
    x, y = 0.3, 0.65
    weights = {(0, 0): (1 - x) * (1 - y), (1, 0): x * (1 - y), (0, 1): (1 - x) * y, (1, 1): x * y}
    for (column, row), weight in weights.items():
        axes.plot(column, row, "o", color=INK, ms=9)
        axes.annotate(f"weight {weight:.3f}", (column, row), xytext=(0, 16 if row == 0 else -22),
                      textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
        # The weight is the area of the rectangle across from the pixel.
        across = (1 - column, 1 - row)
        axes.fill([x, across[0], across[0], x], [y, y, across[1], across[1]], alpha=0.15 + 0.3 * weight, color=SECOND)
    axes.plot(x, y, "o", color=MARK, ms=9)
    axes.annotate(
        "the point that theta gives", (x, y), xytext=(10, -4), textcoords="offset points", color=MARK, fontsize=9
    )
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylim(1.25, -0.25)
    axes.set_aspect("equal")
    axes.set_xticks([0, 1], ["pixel j", "pixel j + 1"])
    axes.set_yticks([0, 1], ["row i", "row i + 1"])
    axes.set_title("each pixel counts by the area across from it", fontsize=10)
    return figure


def two_thetas() -> Figure:
    """What distorts, what straightens, and how far the network is from it."""
    engine = Engine.load("digits")
    original = sample_digits().images[SEED * 500 + 100].astype(np.float32) / 255
    image, theta = _distorted(original)
    predicted = engine.localize(image[None])
    straight = native.warp(image[None], predicted, (28, 28), 0.0)[0]
    residual = compose(theta[None], predicted)[0]
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]) @ residual.T
    off_px = float(np.linalg.norm((corners - [[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 14, axis=1).mean())
    figure = Figure(figsize=(9.4, 3.4))
    first, second, third = figure.subplots(1, 3)
    _show(first, original, "original(v)")
    _show(second, image, "distorted(u) = original(theta u)")
    _show(third, straight, f"rectified by the network's theta:\ncorners {off_px:.2f} px off")
    third.plot(*np.vstack([corners, corners[:1]]).T, color=MARK, lw=1.5)
    third.set_xlim(-1.15, 1.15)
    third.set_ylim(1.15, -1.15)
    return figure


def _distorted(original: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    if original is None:
        original = sample_digits().images[SEED * 500 + 100].astype(np.float32) / 255
    recipe = parse_recipe(
        {"name": "turn", "steps": [{"op": "affine", "rotate_deg": 35.0, "scale": 0.9, "translate_x_fraction": 0.08}]}
    )
    made = augment(original[None], recipe, seed=1)
    return made.images[0], made.theta[0]


def _show(axes: Axes, image: NDArray[Any], title: str) -> None:
    axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1.4, extent=(-1, 1, 1, -1))
    axes.set_title(title, fontsize=9)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axes.set_xlim(-1.3, 1.3)
    axes.set_ylim(1.3, -1.3)


def _lattice(axes: Axes, x: NDArray[Any], y: NDArray[Any]) -> None:
    axes.plot(x, y, "-", color=SECOND, lw=0.8)
    axes.plot(x.T, y.T, "-", color=SECOND, lw=0.8)
    axes.plot(x, y, ".", color=INK, ms=4)


if __name__ == "__main__":
    main()
