"""How long the service takes to start, and how much memory it holds.

    make bench PARTS=start

The time runs from the start of ``python -m services.launcher deploy/local.yaml`` to the first 200 of
``/v2/health/ready``, and on to the first answer of ``predict``. Memory is the proportional set size of all its
processes, in which a page that several share counts once, after it has idled for a while. A replica's core is a process
of its own that loads the engine and warms it up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from contest import summary, told
from load import ask
from rich import box
from rich.console import Console
from rich.table import Table
from servers import Running, service, v2_request

from services.processes import descendants

DEFAULTS = {"rounds": 5, "seconds": 10.0}
LIMITS = {"ready_s": 12.0, "memory_mb": 1500.0, "replica_ready_s": 3.0, "replica_memory_mb": 300.0}
REPLICA = """
from stn_core.engine import Engine
Engine.load("digits", threads=1).warm_up()
"""


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Times and memory; the service idles for ``seconds`` before its memory is taken."""
    found: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, value in _replica().items():
            found[name].append(value)
        by_name = _service(found, seconds)
        found["memory_mb"].append(sum(by_name.values()))
        for name, megabytes in by_name.items():
            memory[name].append(megabytes)
    figures = {name: summary(values) for name, values in found.items()}
    ratios = {f"{most:g} / {name}": _below(most, found[name]) for name, most in LIMITS.items()}
    by_size = dict(sorted(((name, median(each)) for name, each in memory.items()), key=lambda one: -one[1]))
    _show(figures, ratios, by_size)
    return {"figures": figures, "ratios": ratios, "memory_mb_by_process": by_size}


def _service(found: dict[str, list[float]], idle_s: float) -> dict[str, float]:
    """Starts the service once and notes the times; the megabytes of its processes, by name."""
    images = np.zeros((1, 28, 28, 1), np.uint8)
    started_s = time.perf_counter()
    with service("local") as running:
        found["ready_s"].append(time.perf_counter() - started_s)
        status, _, body = ask(running.port, v2_request("predict", {"images": images}, ("label",)))
        found["first_answer_s"].append(time.perf_counter() - started_s)
        if status != 200:
            raise RuntimeError(f"expected a label, got status {status} and {body[:200]!r}")
        time.sleep(idle_s)
        return _memory_mb(running)


def _replica() -> dict[str, float]:
    """A process that does what a replica does beside Ray's part."""
    code = f"{REPLICA}print(open('/proc/self/status').read().partition('VmRSS:')[2].split()[0])"
    started_s = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        kilobytes = float(process.stdout.readline())
        return {"replica_ready_s": time.perf_counter() - started_s, "replica_memory_mb": kilobytes / 1024}


def _memory_mb(running: Running) -> dict[str, float]:
    """The proportional set size of the service's processes, by name; those of one name together."""
    total: Counter[str] = Counter()
    for pid in (running.process.pid, *descendants(running.process.pid)):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total[_name(pid)] += int(rollup.partition("Pss:")[2].split()[0])
        except (OSError, IndexError):  # it has ended since
            continue
    return {name: kilobytes / 1024 for name, kilobytes in total.items()}


def _name(pid: int) -> str:
    """What a process is, in a word: ``ray::ServeController``, ``haproxy``, ``services.launcher``."""
    arguments = [part for part in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if part]
    if not os.path.basename(arguments[0]).startswith("python"):
        return os.path.basename(arguments[0].split()[0])
    words = [part for part in arguments[1:] if not part.startswith("-")]
    return os.path.basename(words[0]) if words else "python"


def _below(most: float, values: list[float]) -> dict[str, Any]:
    """How many times what is allowed covers what was found."""
    times = summary([most / value for value in values])
    return {**times, "told": told(times), "target": 1.0, "met": times["median"] >= 1}


def _show(figures: dict[str, dict[str, float]], ratios: dict[str, Any], memory: dict[str, float]) -> None:
    found = Table("what", "median (quartiles)", title="Start", box=box.SIMPLE)
    for name, one in figures.items():
        found.add_row(name, f"{one['median']:.1f} ({one['low']:.1f} to {one['high']:.1f})")
    allowed = Table("allowed / found", "times", "", box=box.SIMPLE)
    for name, one in ratios.items():
        allowed.add_row(name, one["told"], "met" if one["met"] else "MISSED")
    processes = Table("process", "MB", title="Memory when idle", box=box.SIMPLE)
    for name, megabytes in memory.items():
        processes.add_row(name, f"{megabytes:.0f}")
    for table in (found, allowed, processes):
        Console().print(table)
