"""Fuzzes every parser of foreign bytes: over a million damaged inputs, the same ones for the same seed.

    python -m drills.fuzz                              all of it, without the other drills
    python -m drills.fuzz --only pictures --cases 5000 --seed 7
    python -m drills.fuzz --only forms --guided        by coverage, where atheris is installed

Each target runs in a process of its own. Read or refused with an error of our own tree: anything else is a fault, and
so are a crash, a hang and memory that grows. Inputs that did it are kept in ``out/fuzz``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from drills.fuzzing.loop import HANG_S, MAX_GROWTH_BYTES, Report, fuzz, save
from drills.fuzzing.targets import TARGETS
from drills.outcome import Counts, Outcome, unless

SEED = 1
CASES = {
    "v2-binary": 300_000, "v2-json": 250_000, "grpc": 250_000, "compressed": 100_000, "pictures": 150_000,
    "forms": 100_000, "annotations": 100_000, "frames": 100_000, "answers": 100_000, "problems": 20_000,
    "recipes": 15_000, "bundles": 20_000, "networks": 25_000, "data-sets": 25_000, "service": 60_000,
}  # fmt: skip
BYTE_PARSERS = ("v2-binary", "v2-json", "grpc", "compressed", "pictures", "forms", "frames", "answers")
LEAST_CASES = 1_000_000
"""Over the parsers of bytes that a network brings, all together."""
FOLDER = Path("out/fuzz")


def drill() -> list[Outcome]:
    """One outcome for all targets."""
    reports = []
    for name, cases in CASES.items():
        reports.append(fuzz(TARGETS[name], cases, SEED))
        show(reports[-1])
    return [outcome_of(reports)]


def outcome_of(reports: Iterable[Report]) -> Outcome:
    """What the drill says of ``reports``: read and refused are both right answers."""
    reports = list(reports)
    faults = [fault for report in reports for fault in report.faults]
    save(faults, FOLDER)
    cases = sum(report.cases for report in reports)
    over_bytes = sum(report.cases for report in reports if report.target in BYTE_PARSERS)
    refused = sum(report.refused for report in reports)
    slowest = max(reports, key=lambda report: report.slowest_ms)
    grown = max(reports, key=lambda report: report.growth_bytes)
    figures = {
        "cases_over_byte_parsers": over_bytes,
        "refused_cases": refused,
        "slowest_case_ms": round(slowest.slowest_ms, 1),
        "most_memory_growth_mib": round(grown.growth_bytes / 1024**2, 1),
        "seed": SEED,
        "targets": {report.target: _figures(report) for report in reports},
    }
    return Outcome(
        title="Fuzzing",
        promise=(
            f"of a million damaged inputs and more, each is read or refused with a message: no crash, no end after "
            f"{HANG_S:g} s, no memory beyond {MAX_GROWTH_BYTES // 1024**2} MiB"
        ),
        counts=Counts(sent=cases, right=cases - len(faults), wrong=len(faults)),
        figures=figures,
        failures=unless(
            (not faults, f"{len(faults)} faults, their inputs in {FOLDER}"),
            (over_bytes >= LEAST_CASES, f"{over_bytes} cases over the byte parsers, expected {LEAST_CASES}"),
        ),
        told=(
            f"{over_bytes:,} of them over the parsers of what a network brings; {refused:,} refused; the slowest took "
            f"{slowest.slowest_ms:.0f} ms ({slowest.target}); memory grew by at most "
            f"{grown.growth_bytes / 1024**2:.0f} MiB ({grown.target})"
        ),
    )


def _figures(report: Report) -> dict[str, float]:
    return {
        "cases": report.cases,
        "refused": report.refused,
        "faults": len(report.faults),
        "slowest_ms": round(report.slowest_ms, 1),
        "growth_mib": round(report.growth_bytes / 1024**2, 1),
        "seconds": report.seconds,
    }


def show(report: Report) -> None:
    """Prints what came of one target, and its faults."""
    print(f"{report.target}: {', '.join(f'{name} {said:,}' for name, said in _figures(report).items())}", flush=True)
    for fault in report.faults[:3]:
        print(f"  case {fault.case}: {fault.what}\n  {fault.data[:200]!r}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TARGETS, action="append", help="may be given again")
    parser.add_argument("--cases", type=int, help="of each target; by default the drill's own numbers")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--guided", action="store_true", help="let atheris look for inputs that reach other lines")
    arguments = parser.parse_args()
    names = arguments.only or list(TARGETS)
    if arguments.guided:
        from drills.fuzzing.guided import guide

        if len(names) != 1:
            parser.error("--guided: name one target by --only")
        return guide(names[0], arguments.cases or CASES[names[0]], arguments.seed)
    reports = []
    for name in names:
        reports.append(fuzz(TARGETS[name], arguments.cases or CASES[name], arguments.seed))
        show(reports[-1])
    save([fault for report in reports for fault in report.faults], FOLDER)
    return int(any(report.faults for report in reports))


if __name__ == "__main__":
    sys.exit(main())
