"""Runs a target on many damaged inputs in a process of its own, which may crash, hang or grow without harm."""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import multiprocessing
import os
import random
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from drills.fuzzing.mutations import MAX_BYTES, mutated
from stn_core.errors import StnError

HANG_S = 30.0
"""A case that takes longer is a hang: so much on a machine that others use too."""
MAX_GROWTH_BYTES = 256 * 1024**2
"""Of a target's memory over all its cases, the first of them left out: what its limits allow, and no leak."""
_WARM_CASES = 200
_MAX_FAULTS = 20
_HEAD = struct.Struct("<QI")
"""The number of the case under way, and its length; its bytes follow."""


class Target(NamedTuple):
    """What is fuzzed: ``make`` gives the function that reads bytes, and inputs that it reads without a complaint."""

    name: str
    make: Callable[[], tuple[Callable[[bytes], None], Sequence[bytes]]]
    adjust: Callable[[bytes], bytes] | None = None
    """What is done with every second damaged input: a checksum put right, that more of it is read."""


@dataclass(frozen=True)
class Fault:
    """An input on which a target did what it must not."""

    target: str
    case: int
    what: str
    data: bytes


@dataclass(frozen=True)
class Report:
    """What came of all cases of one target."""

    target: str
    cases: int
    refused: int
    """Cases that ended in an error of our own tree; the others were read."""
    faults: tuple[Fault, ...]
    slowest_ms: float
    growth_bytes: int
    seconds: float


def fuzz(target: Target, cases: int, seed: int, hang_s: float = HANG_S) -> Report:
    """The report of ``cases`` damaged inputs of ``target``; the same inputs for the same ``seed``."""
    context = multiprocessing.get_context("spawn")
    with _shared(_HEAD.size + MAX_BYTES) as (file, shown):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(target, cases, seed, file, sending), daemon=True)
        process.start()
        sending.close()
        started_s = last_s = time.monotonic()
        last_case = -1
        while not receiving.poll(0.2):
            case = _HEAD.unpack_from(shown)[0]
            if case != last_case:
                last_case, last_s = case, time.monotonic()
            if not process.is_alive() and not receiving.poll(0):
                return _broken(target, shown, f"the process ended with {process.exitcode}", started_s)
            if time.monotonic() - last_s > hang_s and case:
                process.kill()
                process.join()
                return _broken(target, shown, f"no end after {hang_s:g} s", started_s)
        try:
            report: Report = receiving.recv()
        except EOFError:
            process.join()
            return _broken(target, shown, f"the process ended with {process.exitcode}", started_s)
        process.join()
        return report


def run_cases(
    target: Target, cases: int, seed: int, before: Callable[[int, bytes], Any] = lambda number, data: None
) -> Report:
    """``fuzz`` in this process; ``before`` is told each case first."""
    read, seeds = target.make()
    for data in seeds:  # or nothing that comes of them would get past the first look
        try:
            read(data)
        except Exception as error:
            fault = Fault(target.name, 0, f"an undamaged input is refused: {error!r}", data)
            return Report(target.name, 0, 0, (fault,), 0.0, 0, 0.0)
    rng = random.Random(f"{target.name} {seed}")
    faults: list[Fault] = []
    refused, slowest_s, grown_from = 0, 0.0, _rss_bytes()
    started_s = time.perf_counter()
    for number in range(1, cases + 1):
        data = mutated(rng, seeds)
        if target.adjust is not None and number % 2:
            data = target.adjust(data)
        before(number, data)
        case_s = time.perf_counter()
        try:
            read(data)
        except StnError:
            refused += 1
        except Exception as error:
            lines = traceback.format_exception(error)[-4:]
            faults.append(Fault(target.name, number, "".join(lines)[-900:], data))
            if len(faults) >= _MAX_FAULTS:
                break
        slowest_s = max(slowest_s, time.perf_counter() - case_s)
        if number == _WARM_CASES:
            grown_from = _rss_bytes()
    growth, seconds = max(0, _rss_bytes() - grown_from), time.perf_counter() - started_s
    if growth > MAX_GROWTH_BYTES:
        faults.append(Fault(target.name, number, f"memory grew by {growth} bytes", b""))
    return Report(target.name, number, refused, tuple(faults), slowest_s * 1000, growth, round(seconds, 1))


def _work(target: Target, cases: int, seed: int, file: str, sending: Connection) -> None:
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 0) as shown:

        def show(number: int, data: bytes) -> None:
            _HEAD.pack_into(shown, 0, number, len(data))
            shown[_HEAD.size : _HEAD.size + len(data)] = data

        with open(os.devnull, "w") as quiet:  # decoders write a line for each broken file
            os.dup2(quiet.fileno(), 2)
        faulthandler.disable()
        sending.send(run_cases(target, cases, seed, show))


@contextlib.contextmanager
def _shared(size: int) -> Any:
    """The path of a file in memory, and a view of it: what the child was at stays there, however it ended."""
    descriptor = os.memfd_create("case")
    try:
        os.ftruncate(descriptor, size)
        with mmap.mmap(descriptor, size) as shown:
            yield f"/proc/{os.getpid()}/fd/{descriptor}", shown
    finally:
        os.close(descriptor)


def _broken(target: Target, shown: Any, what: str, started_s: float) -> Report:
    number, length = _HEAD.unpack_from(shown)
    data = bytes(shown[_HEAD.size : _HEAD.size + length])
    fault = Fault(target.name, number, what, data)
    return Report(target.name, number, 0, (fault,), 0.0, 0, round(time.monotonic() - started_s, 1))


def _rss_bytes() -> int:
    """The most memory this process has held so far; what ``getrusage`` says begins with what its parent held."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def save(faults: Sequence[Fault], folder: Path) -> list[Path]:
    """The inputs of ``faults`` as files of ``folder``, to be looked at and kept as tests."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for fault in faults:
        path = folder / f"{fault.target}-{fault.case}.bin"
        path.write_bytes(fault.data)
        path.with_suffix(".txt").write_text(fault.what)
        paths.append(path)
    return paths
