"""Large images, straightened at their own size: time and memory an image, beside OpenCV's warps of the same ones.

    make bench PARTS=fullsize

Photographs of 12 and 20 megapixels in colour, one at a time, on one thread and on two: turned by 20 degrees (affine),
seen from the side (homography), and turned and made small, 1000 px wide (shrink). ``localize`` makes the small copy and
runs the network; ``rectify`` is the whole way, with the canvas that crops nothing and its mask; they have no peer.
Memory is what a process holds at its peak beyond what it held with the image loaded, the result included.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from contest import FOLDER, PEERS_PYTHON, Contestant, Lane, compete, contestants
from report import Comparison, results, show
from rich import box
from rich.console import Console
from rich.table import Table
from shapes import FULL_KINDS, FULL_SIZES, FULL_THREADS, full_case

OURS, PEERS = Contestant("cases_ours_fullsize", of_peers=False), Contestant("cases_peers_fullsize", of_peers=True)
DEFAULTS = {"rounds": 9, "seconds": 1.0}
WARPS = [(size, kind, threads) for size in FULL_SIZES for kind in FULL_KINDS for threads in FULL_THREADS]
STEPS = [(size, step, threads) for size in FULL_SIZES for step in ("localize", "rectify") for threads in FULL_THREADS]
LANES = [
    *[Lane(case, OURS, case) for case in (full_case("ours", *one) for one in (*WARPS, *STEPS))],
    *[Lane(case, PEERS, case) for case in (full_case("opencv", *one) for one in WARPS)],
]
COMPARISONS = [Comparison(full_case("ours", *one), full_case("opencv", *one)) for one in WARPS]
MEMORY = """
import ctypes, gc, sys
from importlib import import_module
from pathlib import Path
run, _ = import_module(sys.argv[1]).CASES[sys.argv[2]]()
gc.collect()
ctypes.CDLL(None).malloc_trim(0)  # or what was freed while it prepared would be used again, and not be seen
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
peak_kb = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
held_kb = peak_kb()
result = run()
print((peak_kb() - held_kb) / 1024)
"""


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time, ratios and memory."""
    with contestants([OURS, PEERS]) as processes:
        part = results(compete(LANES, processes, rounds, seconds), COMPARISONS)
    show("Large images", part)
    one_thread = [lane for lane in LANES if lane.case.endswith(f"{min(FULL_THREADS)} thread")]
    memory = {lane.name: _memory_mb(lane) for lane in one_thread}
    table = Table("lane", "MB", title="Memory", box=box.SIMPLE)
    for name, megabytes in memory.items():
        table.add_row(name, f"{megabytes:.0f}")
    Console().print(table)
    return {**part, "memory_mb": memory}


def _memory_mb(lane: Lane) -> float:
    python = PEERS_PYTHON if lane.contestant.of_peers else sys.executable
    command = [python, "-c", MEMORY, lane.contestant.module, lane.case]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=FOLDER).stdout)
