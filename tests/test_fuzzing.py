"""Short runs of the fuzzing that ``drills/fuzz.py`` does at length, and what fuzzing itself must notice."""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from drills.fuzz import BYTE_PARSERS, CASES, FOLDER, outcome_of
from drills.fuzzing.loop import Target, fuzz, run_cases
from drills.fuzzing.mutations import mutated, with_right_checksums
from drills.fuzzing.targets import TARGETS
from stn_core.errors import BadBody
from stn_core.pictures import MAX_JPEG_SCANS

SHORT = dict.fromkeys(TARGETS, 400) | {"recipes": 60, "pictures": 250, "service": 250}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow's, for broken EXIF data
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_are_read_or_refused(name: str) -> None:
    report = run_cases(TARGETS[name], SHORT[name], seed=2)
    assert not report.faults, report.faults[0]
    assert report.cases == SHORT[name]
    # Damage that is always seen at once, or never, tests nothing.
    assert name == "problems" or 0 < report.refused < report.cases


def test_the_drill_is_over_a_million_and_knows_every_target() -> None:
    assert set(CASES) == set(TARGETS)
    assert sum(CASES[name] for name in BYTE_PARSERS) > 1_000_000


def test_the_same_seed_gives_the_same_cases() -> None:
    one, again, other = ([mutated(random.Random(seed), [b"abc" * 9]) for _ in range(9)] for seed in (1, 1, 2))
    assert one == again != other


def test_a_png_with_right_checksums_is_read_further() -> None:
    _, seeds = TARGETS["pictures"].make()
    png = seeds[0]
    assert with_right_checksums(png[:41] + b"\0\0\0\0" + png[45:])[:41] == png[:41]
    assert with_right_checksums(png) == png


def raises(data: bytes) -> None:
    if len(data) > 6:
        raise KeyError(len(data))
    if data != b"seed":
        raise BadBody("not the seed")


def ends_the_process(data: bytes) -> None:
    if len(data) > 6:
        os._exit(3)


def hangs(data: bytes) -> None:
    if len(data) > 6:
        time.sleep(60)


_KEPT: list[bytes] = []


def grows(data: bytes) -> None:
    _KEPT.append(b"x" * 2**20)


def growing() -> tuple[Callable[[bytes], None], Sequence[bytes]]:
    return grows, [b"seed"]


def raising() -> tuple[Callable[[bytes], None], Sequence[bytes]]:
    return raises, [b"seed"]


def ending() -> tuple[Callable[[bytes], None], Sequence[bytes]]:
    return ends_the_process, [b"seed"]


def hanging() -> tuple[Callable[[bytes], None], Sequence[bytes]]:
    return hangs, [b"seed"]


def test_another_exception_is_a_fault_with_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = run_cases(Target("raising", raising), 200, seed=1)
    assert report.faults
    assert all("KeyError" in fault.what and len(fault.data) > 6 for fault in report.faults)
    assert 0 < report.refused < report.cases
    outcome = outcome_of([report])
    assert not outcome.held
    assert outcome.counts.wrong == len(report.faults)
    assert len(list((tmp_path / FOLDER).glob("raising-*.bin"))) == len(report.faults)


def test_memory_that_grows_is_a_fault() -> None:
    report = fuzz(Target("growing", growing), 500, seed=1)
    assert [fault.what.partition(" by ")[0] for fault in report.faults] == ["memory grew"]
    assert report.growth_bytes > 256 * 2**20


@pytest.mark.parametrize(
    ("make", "said"), [(ending, "the process ended with 3"), (hanging, "no end after 1.5 s")], ids=["crash", "hang"]
)
def test_a_crash_and_a_hang_are_faults_with_their_input(
    make: Callable[[], tuple[Callable[[bytes], None], Sequence[bytes]]], said: str
) -> None:
    (fault,) = fuzz(Target("broken", make), 1000, seed=1, hang_s=1.5).faults
    assert fault.what == said
    assert len(fault.data) > 6


def test_scans_are_counted_before_a_jpeg_is_decoded() -> None:
    _, seeds = TARGETS["pictures"].make()
    (progressive,) = [data for data in seeds if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > 1]
    assert progressive.count(b"\xff\xda") < MAX_JPEG_SCANS
