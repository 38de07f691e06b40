"""Pictures as PNG: images before and after they are straightened, and what a classifier calls them.

Functions that take a path write a PNG below ``MAX_BYTES`` there and return the path; ``error_curves`` and ``strip``,
which go into a page, return the PNG itself. No model is run here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BYTES = 300_000
RIGHT, WRONG, NEUTRAL, INK, PALE = "#1a7f4b", "#c8322b", "#8b949e", "#24292f", "#d0d7de"
MIN_CURVE_PX, MAX_CURVE_PX = 0.05, 200.0
_DPI = 160
_STRIP_GAP_PX = 2
_TILE_IN, _GAP_IN, _NAMES_IN, _ROOM_ABOVE_IN, _ROOM_BELOW_IN = 0.78, 0.06, 0.95, 0.23, 0.16


@dataclass(frozen=True)
class Row:
    """One row of a grid: ``images [N, H, W, C]``, and what is known of each of them.

    ``predicted [N]`` are class numbers, coloured by whether they are right; ``corner_errors_px [N]`` say how far from
    straight each image is.
    """

    title: str
    images: NDArray[Any]
    predicted: NDArray[Any] | None = None
    corner_errors_px: NDArray[Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """One panel of an argument: an image ``[H, W, C]`` and the probabilities ``[K]`` a classifier gives its classes."""

    title: str
    image: NDArray[Any]
    probabilities: NDArray[Any]


@dataclass(frozen=True)
class ErrorCurves:
    """One panel of curves: the corner errors ``[N]`` of images as they come, rectified, and without a constant pose."""

    title: str
    before_px: NDArray[Any]
    after_px: NDArray[Any]
    pose_free_px: NDArray[Any]


def rectification_grid(
    path: Path, rows: Sequence[Row], labels: NDArray[Any] | None = None, classes: Sequence[str] = (), columns: int = 10
) -> Path:
    """Rows of images one above the other, such as original, distorted, rectified; column k is image k in all of them.

    Above each image is the class predicted for it, green if it is that of ``labels [N]`` and red if not, and below it
    its corner error in px. More images than ``columns`` continue in another block of rows.
    """
    count = len(rows[0].images) if rows else 0
    if count == 0 or any(len(row.images) != count for row in rows):
        raise BadTensor(f"rows: expected the same number of images in each, got {[len(row.images) for row in rows]}")
    columns = min(columns, count)
    blocks = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    block_in = sum(_row_height_in(row) for row in rows) + _GAP_IN
    width_in, height_in = _NAMES_IN + columns * (_TILE_IN + _GAP_IN), len(blocks) * block_in + _GAP_IN
    figure = _figure(width_in, height_in)
    top_in = height_in - _GAP_IN
    for block in blocks:
        for row in rows:
            bottom_in = top_in - _ROOM_ABOVE_IN * (row.predicted is not None) - _tile_height_in(row)
            for column, index in enumerate(block):
                left_in = _NAMES_IN + column * (_TILE_IN + _GAP_IN)
                place = (
                    left_in / width_in,
                    bottom_in / height_in,
                    _TILE_IN / width_in,
                    _tile_height_in(row) / height_in,
                )
                axes = figure.add_axes(place)
                _tile(axes, row, index, labels, classes)
                if column == 0:
                    axes.text(-0.14, 0.5, row.title, transform=axes.transAxes, ha="right", va="center", fontsize=9)
            top_in -= _row_height_in(row)
        top_in -= _GAP_IN
    return _save(figure, path)


def verdict_figure(
    path: Path, verdicts: Sequence[Verdict], label: int, classes: Sequence[str] = (), caption: str = ""
) -> Path:
    """Images side by side, each titled with the class a classifier takes it for and how sure it is, over its bars.

    Green where that class is ``label``, red where it is not. Made for one image upright, turned, and straightened.
    """
    if not verdicts:
        raise BadTensor("verdicts: expected at least one")
    figure = _figure(2.25 * len(verdicts), 3.75 + (0.25 if caption else 0.0))
    layout = figure.add_gridspec(
        2, len(verdicts), height_ratios=[2.4, 1.0], left=0.03, right=0.97, top=0.80, bottom=0.13 if caption else 0.08,
        wspace=0.22, hspace=0.09,
    )  # fmt: skip
    for column, verdict in enumerate(verdicts):
        best = int(np.argmax(verdict.probabilities))
        colour = RIGHT if best == label else WRONG
        axes = figure.add_subplot(layout[0, column])
        _show(axes, verdict.image, colour)
        axes.text(0.5, 1.22, verdict.title, transform=axes.transAxes, ha="center", va="bottom", fontsize=9.5)
        axes.text(
            0.5, 1.03, f"“{_name(best, classes)}”  {verdict.probabilities[best]:.0%}",
            transform=axes.transAxes, ha="center", va="bottom", fontsize=13, fontweight="bold", color=colour,
        )  # fmt: skip
        _bars(figure.add_subplot(layout[1, column]), verdict.probabilities, colour, classes)
    if caption:
        figure.text(0.5, 0.012, caption, ha="center", va="bottom", fontsize=7.5, color=NEUTRAL)
    return _save(figure, path)


def error_curves(panels: Sequence[ErrorCurves], columns: int = 3) -> bytes:
    """For each panel the share of images whose corner error is at most so many px, on a logarithmic axis; a PNG."""
    if not panels:
        raise BadTensor("panels: expected at least one")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(max(4.8, 0.5 + 2.9 * columns), 0.75 + 2.1 * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).reshape(-1)
    for axes, panel in zip(all_axes, panels, strict=False):
        _curve(axes, panel.before_px, NEUTRAL, "-", "as it comes")
        _curve(axes, panel.after_px, RIGHT, "-", "rectified")
        _curve(axes, panel.pose_free_px, INK, ":", "rectified, pose-free")
        axes.set_title(panel.title, fontsize=9, color=INK, loc="left")
        axes.set_xscale("log")
        axes.set_xlim(MIN_CURVE_PX, MAX_CURVE_PX)
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes.grid(color=PALE, linewidth=0.6)
        axes.tick_params(labelsize=7.5, colors=INK, length=0, which="both")
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes in all_axes[max(0, len(panels) - columns) : len(panels)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("corner error, px", fontsize=8, color=INK)
    all_axes[0].set_ylabel("share of images", fontsize=8, color=INK)
    handles, names = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, frameon=False, loc="upper left", ncols=3, handlelength=1.8)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    return _png(figure)


def strip(images: Sequence[NDArray[Any]], side_px: int) -> bytes:
    """Images ``[H, W, C]`` (1, 3 or 4 channels) side by side, centred in height, on white, as a PNG.

    Their own pixels, one for one; scaled down together where one of them has a side longer than ``side_px``.
    """
    from PIL import Image

    pictures = [Image.fromarray(_in_8_bits(image)) for image in images]
    share = min(1.0, side_px / max(max(picture.size) for picture in pictures))
    if share < 1:
        pictures = [
            one.resize((max(1, round(one.width * share)), max(1, round(one.height * share)))) for one in pictures
        ]
    width = sum(one.width for one in pictures) + _STRIP_GAP_PX * (len(pictures) - 1)
    whole = Image.new(pictures[0].mode, (width, max(one.height for one in pictures)), "white")
    left = 0
    for one in pictures:
        whole.paste(one, (left, (whole.height - one.height) // 2))
        left += one.width + _STRIP_GAP_PX
    if share < 1 and whole.mode == "RGB":
        whole = whole.quantize(64)
    buffer = io.BytesIO()
    whole.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _curve(axes: Axes, errors_px: NDArray[Any], colour: str, style: str, name: str) -> None:
    """How the share of images grows with the error; a few hundred points are enough for the eye."""
    known = np.sort(errors_px[np.isfinite(errors_px)])
    at_px = np.geomspace(MIN_CURVE_PX, MAX_CURVE_PX, 300)
    share = np.searchsorted(known, at_px, side="right") / max(1, len(errors_px))
    axes.plot(at_px, share, color=colour, linestyle=style, linewidth=1.6, label=name)


def _in_8_bits(image: NDArray[Any]) -> NDArray[np.uint8]:
    """``[H, W]`` gray or ``[H, W, 3]`` colour, as Pillow takes them; an opacity is left out."""
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4):
        raise BadTensor(f"image: expected [H, W, 1], [H, W, 3] or [H, W, 4], got {list(image.shape)}")
    pixels = image if image.dtype == np.uint8 else np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3])


def _tile(axes: Axes, row: Row, index: int, labels: NDArray[Any] | None, classes: Sequence[str]) -> None:
    colour = None
    if row.predicted is not None:
        predicted = int(row.predicted[index])
        colour = NEUTRAL if labels is None else RIGHT if predicted == int(labels[index]) else WRONG
        name = _name(predicted, classes)
        axes.text(
            0.5, 1.05, name if len(name) <= 11 else name[:10] + "…", transform=axes.transAxes, ha="center",
            va="bottom", fontsize=10 if len(name) < 4 else 7, fontweight="bold", color=colour,
        )  # fmt: skip
    if row.corner_errors_px is not None:
        axes.text(
            0.5, -0.06, f"{row.corner_errors_px[index]:.1f} px", transform=axes.transAxes, ha="center", va="top",
            fontsize=7, color=INK,
        )  # fmt: skip
    _show(axes, row.images[index], colour)


def _tile_height_in(row: Row) -> float:
    height, width = row.images.shape[1:3]
    return _TILE_IN * min(height / width, 3.0)


def _row_height_in(row: Row) -> float:
    """A tile with room above for the predicted class and below for the corner error, where there are any."""
    above = _ROOM_ABOVE_IN * (row.predicted is not None)
    below = _ROOM_BELOW_IN * (row.corner_errors_px is not None)
    return above + _tile_height_in(row) + below + _GAP_IN


def _show(axes: Axes, image: NDArray[Any], frame: str | None) -> None:
    """An image with its own pixels, framed; uint8, or floats in 0..1, one channel gray and three colour."""
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise BadTensor(f"image: expected [H, W, 1] or [H, W, 3], got {list(image.shape)}")
    top = 255 if image.dtype == np.uint8 else 1.0
    shown = image[..., 0] if image.shape[-1] == 1 else np.clip(image, 0, top)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(frame or PALE)
        spine.set_linewidth(1.3 if frame else 0.8)


def _bars(axes: Axes, probabilities: NDArray[Any], colour: str, classes: Sequence[str]) -> None:
    """A bar for each class, the highest coloured; the names only where they find room."""
    best = int(np.argmax(probabilities))
    axes.bar(
        range(len(probabilities)),
        probabilities,
        color=[colour if k == best else PALE for k in range(len(probabilities))],
    )
    axes.set_ylim(0, 1.02)
    axes.set_yticks([])
    has_room = len(probabilities) <= 12 and all(len(_name(k, classes)) <= 2 for k in range(len(probabilities)))
    axes.set_xticks(range(len(probabilities)) if has_room else [])
    if has_room:
        axes.set_xticklabels([_name(k, classes) for k in range(len(probabilities))], fontsize=7.5, color=INK)
    axes.tick_params(length=0, pad=2)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def _name(number: int, classes: Sequence[str]) -> str:
    return classes[number] if classes else str(number)


def _figure(width_in: float, height_in: float) -> Figure:
    # Figure and its Agg canvas directly, not pyplot: no global state, so it works in threads and without a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(figure))
    return path


def _png(figure: Figure) -> bytes:
    """The PNG, with a palette and then with fewer pixels where it would be larger than ``MAX_BYTES``."""
    from PIL import Image

    for dpi in (_DPI, 120, 90, 60, 40):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        if len(buffer.getvalue()) > MAX_BYTES:
            whole = Image.open(buffer).convert("RGB")
            buffer = io.BytesIO()
            whole.quantize(256).save(buffer, format="png", optimize=True)
        if len(buffer.getvalue()) <= MAX_BYTES:
            break
    return buffer.getvalue()
