"""Bulk jobs over MNIST as PNG files, end to end: beside a loop written by hand, by workers, and in memory.

    .venv/bin/python benchmarks/bulk/measure.py [PART ...]

The parts are loop, workers-1, workers-2, memory-15000 and streams; each is some minutes at most, and what it finds
joins ``results.json``. MNIST lies where $STN_DATA says. The files are made once, in a temporary folder, or in that of
$STN_BENCH_FILES.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stn_core.datasets.mnist import load_mnist
from stn_core.provenance import provenance

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
COUNT, FEWER = 60_000, 15_000
_SAMPLE_S = 0.5


def main() -> None:
    known = [f"memory-{FEWER}" if name == "memory" else name for name in PARTS]
    chosen = sys.argv[1:] or known
    with tempfile.TemporaryDirectory() as temporary:
        files = Path(os.environ.get("STN_BENCH_FILES", temporary))
        for name in chosen:
            found = PARTS[name.partition("-" + str(FEWER))[0]](files, Path(temporary))
            print(name, json.dumps(found), flush=True)
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            results[name] = {**provenance(), **found}
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def made_files(folder: Path, count: int) -> Path:
    """A folder of class folders with so many of the 60,000 digits as PNG files."""
    target = folder / f"mnist-{count}"
    if not target.is_dir():
        splits = load_mnist()
        images = np.concatenate([splits.train.images, splits.validation.images])
        labels = np.concatenate([splits.train.labels, splits.validation.labels])
        for number in range(count):
            place = target / str(labels[number]) / f"{number:05d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number, ..., 0]).save(place)
    return target


def by_job(workers: int, count: int = COUNT) -> Callable[[Path, Path], dict[str, Any]]:
    def run(files: Path, temporary: Path) -> dict[str, Any]:
        source, out = made_files(files, count), temporary / f"out-{workers}-{count}"
        words = ["rectify", "--bulk", str(source), "-r", "--out", str(out), "--workers", str(workers), "--json"]
        started_s = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "stn_cli", *words], stdout=subprocess.PIPE)
        watch = Watch(process.pid)
        watch.start()
        said, _ = process.communicate()
        seconds = time.perf_counter() - started_s
        watch.join()
        done = json.loads(said)
        assert (done["images"], done["failed"]) == (count, 0)
        working_s = _working_seconds(out)
        return {
            "images": count,
            "workers": workers,
            "seconds": seconds,
            "images_a_second": count / seconds,
            "images_a_second_without_start_and_end": (count - 1000 * workers) / working_s,
            "cpu_seconds": sum(watch.cpu_s.values()),
            "peak_memory_mib": watch.peak_bytes / 2**20,
            "peak_memory_of_the_driver_mib": watch.driver_bytes / 2**20,
        }

    return run


def _working_seconds(out: Path) -> float:
    """From when the first shard was done until the last was."""
    times = [file.stat().st_mtime for file in (out / "_stn" / "done").iterdir()]
    return max(times) - min(times)


def by_hand(files: Path, temporary: Path) -> dict[str, Any]:
    """The loop one writes: read, straighten, classify, write, in one process with one thread."""
    source, out = made_files(files, COUNT), temporary / "out-loop"
    started_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(FOLDER / "loop.py"), str(source), str(out)])
    watch = Watch(process.pid)
    watch.start()
    assert process.wait() == 0
    seconds = time.perf_counter() - started_s
    watch.join()
    return {
        "images": COUNT,
        "seconds": seconds,
        "images_a_second": COUNT / seconds,
        "cpu_seconds": sum(watch.cpu_s.values()),
        "peak_memory_mib": watch.peak_bytes / 2**20,
    }


class Watch(threading.Thread):
    """What a process and all it started take: the CPU seconds of each, and the largest sum of memory.

    Pages that are shared are counted once (PSS).
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.peak_bytes = self.driver_bytes = 0
        self.cpu_s: dict[int, float] = {}

    def run(self) -> None:
        from services.processes import descendants

        while (driver := _pss_bytes(self._pid)) > 0:
            others = list(descendants(self._pid))
            self.peak_bytes = max(self.peak_bytes, driver + sum(map(_pss_bytes, others)))
            self.driver_bytes = max(self.driver_bytes, driver)
            for pid in (self._pid, *others):
                self.cpu_s[pid] = max(self.cpu_s.get(pid, 0.0), _cpu_s(pid))
            time.sleep(_SAMPLE_S)


def _cpu_s(pid: int) -> float:
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def streams(files: Path, temporary: Path) -> dict[str, Any]:
    """Images a second of both adapters, beside those that a training step takes."""
    told = subprocess.run([sys.executable, str(FOLDER / "streams.py")], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


PARTS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "loop": by_hand,
    "workers-1": by_job(1),
    "workers-2": by_job(2),
    "memory": by_job(1, FEWER),
    "streams": streams,
}

if __name__ == "__main__":
    main()
