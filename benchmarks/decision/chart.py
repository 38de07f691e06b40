"""The picture beside the results: how far the confidence can be trusted, and what the decisions do for reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stn_core.figures import INK, NEUTRAL, PALE, RIGHT, WRONG

MAX_BYTES = 150_000
NAMES = {"theta": "by theta and a second look", "reading": "and by what the classifier reads"}


def write_chart(path: Path, results: dict[str, Any]) -> None:
    """Writes the PNG; AssertionError if it is larger than a page should carry."""
    figure = Figure(figsize=(10, 4.1), facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _reliability(left, results["situations"])
    _accuracies(right, results)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    assert path.stat().st_size < MAX_BYTES


def _reliability(axes: Any, situations: dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    for (evidence, name), colour in zip(NAMES.items(), (INK, RIGHT), strict=True):
        bins = situations[evidence]["bins"]
        error = f"{name} (error {100 * situations[evidence]['calibration_error']:.1f} %)"
        axes.plot(bins["confidence"], bins["harmless"], "o-", color=colour, markersize=3.5, linewidth=1, label=error)
    axes.set_xlabel("confidence, mean of a fifteenth of the images", fontsize=8, color=INK)
    axes.set_ylabel("share that rectification did no harm", fontsize=8, color=INK)
    axes.set_title(f"{situations['images']:,} test images of all kinds", fontsize=9, color=INK, loc="left")
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    _plain(axes)


def _accuracies(axes: Any, results: dict[str, Any]) -> None:
    least = str(results["limits"]["min_confidence"])
    sets = {name: one for name, one in results["sets"].items() if "hurt_rate" in one}
    rows = range(len(sets), 0, -1)
    came = [one["accuracy_as_it_comes"] for one in sets.values()]
    always = [one["accuracy_rectified"] for one in sets.values()]
    decided = [one["theta"]["by_min_confidence"][least]["accuracy"] for one in sets.values()]
    axes.hlines(rows, [min(each) for each in zip(came, always, decided, strict=True)],
                [max(each) for each in zip(came, always, decided, strict=True)], color=PALE, linewidth=1.5)  # fmt: skip
    axes.plot(came, rows, "o", color=NEUTRAL, markersize=5, label="as it comes")
    axes.plot(always, rows, "o", color=WRONG, markersize=8, fillstyle="none", label="always rectified")
    axes.plot(decided, rows, "o", color=RIGHT, markersize=4.5, label=f"decided, confidence ≥ {least}")
    axes.set_yticks(list(rows), list(sets))
    axes.set_xlabel("share read rightly by the same classifier", fontsize=8, color=INK)
    axes.legend(fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.4, 0.98), ncols=3)
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.grid(color=PALE, linewidth=0.5, axis="x")
    axes.tick_params(labelsize=7.5, colors=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
