"""Measures ours and the peers side by side, part by part; then writes the table and the chart of all parts.

    make bench                              everything, on a machine that must have nothing else to do
    make bench PARTS="warp engine"          some parts
    .venv/bin/python benchmarks/speed/run.py --table     the table and the chart alone, from the results that are here

Each part writes ``results/PART.json``. README's table lies between two marks, and is replaced.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

from contest import FOLDER, PEERS_PYTHON, write

PARTS = {
    "warp": "Warp, forward",
    "fullsize": "Large images",
    "engine": "Localize, warp and classify in process",
    "training": "Training step of STN + CNN",
    "augment": "Augmentation",
    "service": "Service over HTTP",
    "image_files": "Encoded images over HTTP",
    "client": "Python client",
    "protocols": "gRPC beside HTTP",
    "request": "Where the time of a request goes",
    "capacity": "Latency by load",
    "start": "Start and memory",
    "growth": "Growth",
}
README = FOLDER.parent.parent / "README.md"
MARKS = "<!-- ratios -->", "<!-- end of ratios -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--rounds", type=int, help="how many times each case is measured; else as many as the part says"
    )
    parser.add_argument("--seconds", type=float, help="how long, each time")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    if not arguments.table and not PEERS_PYTHON.is_file():
        parser.error(f"the peers are not installed ({PEERS_PYTHON} is missing): run `make bench`")
    chosen = {name: value for name in ("rounds", "seconds") if (value := getattr(arguments, name)) is not None}
    for name in () if arguments.table else arguments.parts or PARTS:
        print(f"# {PARTS[name]}", flush=True)
        module = importlib.import_module(name)
        write(name, module.measure(**{**module.DEFAULTS, **chosen}))
    _tell()


def _tell() -> None:
    """The table of all ratios, that of those with a target in the README, and their chart."""
    rows = list(_rows())
    aimed = [row for row in rows if "target" in row[2]]
    (FOLDER / "results" / "table.md").write_text(_table(rows))
    readme = README.read_text()
    README.write_text(re.sub(f"(?s)({MARKS[0]}\n).*?({MARKS[1]})", lambda m: m[1] + _table(aimed) + m[2], readme))
    _draw(aimed)


def _table(rows: list[tuple[str, str, dict[str, Any]]]) -> str:
    lines = ["| | times as fast (quartiles) | to reach |", "|---|---|---|"]
    for part, name, one in rows:
        asked = f"{one['target']:.2f}" + ("" if one["met"] else ", missed") if "target" in one else "-"
        lines.append(f"| {part}: {name} | **{one['median']:.2f}** ({one['low']:.2f} to {one['high']:.2f}) | {asked} |")
    return "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for part, title in PARTS.items():
        file = FOLDER / "results" / f"{part}.json"
        if file.is_file():
            for name, one in json.loads(file.read_text()).get("ratios", {}).items():
                yield title, name, one


def _draw(rows: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Each ratio with its spread, on a logarithmic axis, and a tick where it has to be."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.35 * len(rows) + 1.2), layout="constrained")
    for at, (_, _, one) in enumerate(rows):
        colour = "tab:green" if one["met"] else "tab:red"
        axes.barh(at, one["median"] - 1, left=1, color=colour, alpha=0.7)
        axes.plot([one["low"], one["high"]], [at, at], color="black", linewidth=1)
        axes.plot([one["target"]] * 2, [at - 0.4, at + 0.4], color="tab:blue", linewidth=2)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{part}: {name}" for part, name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ours, times as fast; blue: to reach")
    figure.savefig(FOLDER / "results" / "ratios.png", dpi=110)


if __name__ == "__main__":
    main()
