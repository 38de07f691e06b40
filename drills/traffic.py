"""A load of checked requests, made by a process of its own: each answer is held against what the engine says.

    with traffic(Plan(port, connections=4), known) as load:
        ...                           # whatever is to be survived
    records = load.records            # one of each request, in order of its end

Closed loop: an answer calls forth the next request. Open loop (``rate``): a request falls due whether or not the
service keeps up; where all connections are taken it waits, and its wait is part of its latency.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drills.known import Known
from drills.outcome import Counts, Verdict

REPOSITORY = Path(__file__).parent.parent
_STOP_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What a load is made of."""

    port: int
    way: str = "sdk"
    """``sdk``: each connection is a thread that calls ``stn_client``; ``http``: requests that are never repeated."""
    connections: int = 4
    images: int = 16
    """In a request."""
    rate: float | None = None
    """Requests a second, of all connections together; None is the closed loop."""
    seconds: float | None = None
    """None: until it is stopped."""
    timeout_s: float = 60.0
    """An answer that takes longer is lost."""
    retries: int | None = None
    """Of the SDK; None leaves it to the SDK."""


class Record(NamedTuple):
    """What came of one request."""

    at_s: float
    """When it ended, by ``time.time()``."""
    latency_s: float
    verdict: str
    status: int
    """Of HTTP; 0 where there was none."""
    version: str
    """Of the bundle that gave the answer, if it was right."""
    said: str = ""
    """The error, where there was one."""


@dataclass
class Load:
    """A load under way; ``records`` are there when the block of ``traffic`` has ended, or after ``stop``."""

    process: subprocess.Popen[bytes]
    output: Path
    records: list[Record] = field(default_factory=list)

    def end(self) -> None:
        """No more requests are sent; returns at once."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> list[Record]:
        """No more requests are sent; those under way are waited for."""
        self.end()
        return self.wait(_STOP_S)

    def wait(self, timeout_s: float | None = None) -> list[Record]:
        """Waits for a load that ends by itself."""
        if not self.records:
            if self.process.wait(timeout_s) != 0:
                raise RuntimeError(f"the load ended with status {self.process.returncode}")
            self.records = [Record(*json.loads(line)) for line in self.output.read_text().splitlines()]
        return self.records


@contextlib.contextmanager
def traffic(plan: Plan, known: Known) -> Iterator[Load]:
    """The load of ``plan`` from when it is connected; it is stopped when the block ends."""
    with process_load("drills.traffic_process", asdict(plan), known) as load:
        yield load


@contextlib.contextmanager
def process_load(module: str, told: dict[str, Any], known: Known) -> Iterator[Load]:
    """The load that the module makes as it is ``told``."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        known.save(Path(folder, "known.npz"))
        output = Path(folder, "records")
        command = [sys.executable, "-m", module, folder, json.dumps(told)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"begun\n":
                raise RuntimeError("the load did not begin")
            load = Load(process, output)
            yield load
            load.stop()
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def counts(records: Iterable[Record]) -> Counts:
    return Counts.of(record.verdict for record in records)


def between(records: Iterable[Record], begin_s: float, end_s: float) -> list[Record]:
    """Those that ended then."""
    return [record for record in records if begin_s <= record.at_s < end_s]


def right_per_s(records: Sequence[Record], begin_s: float, end_s: float) -> float:
    return sum(r.verdict == Verdict.RIGHT for r in between(records, begin_s, end_s)) / (end_s - begin_s)


def latency_ms(records: Iterable[Record], percentile: float) -> float:
    """Of the right answers; NaN if there is none."""
    times_s = [record.latency_s for record in records if record.verdict == Verdict.RIGHT]
    return 1e3 * float(np.percentile(times_s, percentile)) if times_s else float("nan")


def longest_gap_s(records: Iterable[Record]) -> float:
    """The longest time without a right answer, between the first and the last."""
    ends_s = np.sort([record.at_s for record in records if record.verdict == Verdict.RIGHT])
    return float(np.diff(ends_s).max()) if len(ends_s) > 1 else float("nan")
