"""Contests: cases of several processes take turns, round after round, so that what disturbs one disturbs all.

A process has one environment: ours, or that of the peers (``.venv-peers``, made by ``make bench``). While one works,
the others sleep. What is told is the median over the rounds, and for ratios, which are taken round by round, the
quartiles too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
PEERS_PYTHON = FOLDER.parent.parent / ".venv-peers" / "bin" / "python"


class Contestant(NamedTuple):
    """A module of cases beside this file, and whether it runs in the peers' environment."""

    module: str
    of_peers: bool


class Lane(NamedTuple):
    """What one contestant does in a contest: one of its cases, under the name that results give it."""

    name: str
    contestant: Contestant
    case: str


@contextmanager
def contestants(wanted: Sequence[Contestant], **environment: str) -> Iterator[dict[Contestant, subprocess.Popen[str]]]:
    """Their processes, which end with the block."""
    with ExitStack() as stack:
        processes = {}
        for one in dict.fromkeys(wanted):
            process = subprocess.Popen(
                [PEERS_PYTHON if one.of_peers else sys.executable, FOLDER / "contestant.py", one.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **environment},
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes[one] = process
        yield processes


def compete(
    lanes: Sequence[Lane], processes: dict[Contestant, subprocess.Popen[str]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Microseconds an item of each lane, by its name, one of each round. RuntimeError where a case fails."""
    found: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    for number in range(rounds):
        for lane in lanes[number % len(lanes) :] + lanes[: number % len(lanes)]:
            found[lane.name].append(_ask(processes[lane.contestant], lane.case, seconds))
    return found


def _ask(process: subprocess.Popen[str], case: str, seconds: float) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"case": case, "seconds": seconds}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline() or '{"error": "the process has ended"}')
    if "error" in answer:
        raise RuntimeError(f"{case}: {answer['error']}")
    return float(answer["us"])


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """How many times as fast the first is, from microseconds of the same rounds."""
    return summary([b / a for a, b in zip(ours, theirs, strict=True)])


def told(one: dict[str, float]) -> str:
    """A ratio with its spread, for people."""
    return f"{one['median']:.2f} ({one['low']:.2f} to {one['high']:.2f})"


def write(name: str, results: dict[str, Any]) -> None:
    """Writes a part's results, with where and when they were measured, to ``results/NAME.json``."""
    from stn_core.provenance import provenance

    (FOLDER / "results").mkdir(exist_ok=True)
    (FOLDER / "results" / f"{name}.json").write_text(json.dumps({**provenance(), **results}, indent=2) + "\n")
