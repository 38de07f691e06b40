"""What a contest found, as results to keep and as a table to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from contest import ratio, summary, told
from rich import box
from rich.console import Console
from rich.table import Table


class Comparison(NamedTuple):
    """Two lanes: ``ours`` has to be so many times as fast as ``theirs``. Without a target it is told all the same."""

    ours: str
    theirs: str
    target: float | None = None

    @property
    def name(self) -> str:
        """As results name it."""
        return f"{self.ours} / {self.theirs}"


def results(found: dict[str, list[float]], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Microseconds an item of each lane, and how many times as fast one is as the other."""
    return {
        "us": {name: summary(values) for name, values in found.items()},
        "ratios": {one.name: _compared(found, one) for one in comparisons},
    }


def _compared(found: dict[str, list[float]], one: Comparison) -> dict[str, Any]:
    times = ratio(found[one.ours], found[one.theirs])
    compared: dict[str, Any] = {**times, "told": told(times)}
    if one.target is not None:
        compared |= {"target": one.target, "met": times["median"] >= one.target}
    return compared


def show(title: str, part: dict[str, Any]) -> None:
    """Prints ``results`` as two tables: the lanes, then the ratios."""
    lanes = Table("lane", "us an item", "items/s", title=title, box=box.SIMPLE)
    for name, us in part["us"].items():
        spread = f"{us['median']:.4g} ({us['low']:.4g} to {us['high']:.4g})"
        lanes.add_row(name, spread, f"{1e6 / us['median']:,.0f}")
    ratios = Table("ours / theirs", "times as fast", "target", box=box.SIMPLE)
    for name, times in part["ratios"].items():
        target = f"{times['target']:.2f} {'met' if times['met'] else 'MISSED'}" if "target" in times else ""
        ratios.add_row(name, times["told"], target)
    console = Console()
    console.print(lanes)
    if part["ratios"]:
        console.print(ratios)
