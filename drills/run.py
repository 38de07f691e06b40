"""Runs drills, prints what came of them, and writes the table of docs/promises.md.

    make drills                             all, on a machine that should have nothing else to do
    make drills PARTS="overload clients"    some
    .venv/bin/python -m drills.run --table  the table alone, from the results that are here

Each drill is a module with a function ``drill`` that gives outcomes; they are kept in ``results/NAME.json``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from drills.outcome import Outcome
from drills.report import PARTS, RESULTS, write_table
from stn_core.provenance import provenance


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    held = True
    for name in () if arguments.table else arguments.parts or PARTS:
        print(f"# {name}", flush=True)
        where = provenance()
        outcomes = list(importlib.import_module(f"drills.{name}").drill())
        RESULTS.mkdir(exist_ok=True)
        document = {**where, "outcomes": [outcome.document() for outcome in outcomes]}
        (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        for outcome in outcomes:
            show(outcome)
            held = held and outcome.held
    write_table()
    return 0 if held else 1


def show(outcome: Outcome) -> None:
    """Prints one outcome, with its figures."""
    counts = outcome.counts
    print(f"{outcome.title}: {'held' if outcome.held else 'NOT HELD: ' + outcome.why}")
    print(
        f"  sent {counts.sent:,}, answered right {counts.right:,}, answered wrong {counts.wrong:,}, "
        f"refused {counts.refused:,}, lost {counts.lost:,}"
    )
    for name, value in outcome.figures.items():
        if not isinstance(value, list | dict):
            print(f"  {name}: {value:,.4g}" if isinstance(value, int | float) else f"  {name}: {value}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
