"""One side of a contest: a process that prepares cases, and runs each for a while when it is told to.

    python contestant.py MODULE

``MODULE`` beside this file has ``CASES``: by name, a function that prepares a case and gives ``(run, items)``, where
``run()`` does the work once, for so many items. Lines of JSON come in, ``{"case": name, "seconds": s}``, and go out:
``{"us": microseconds an item}``, or ``{"error": why}``. Needs nothing but Python, as each contestant has its own
environment.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Case = tuple[Callable[[], Any], int]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    cases: dict[str, Callable[[], Case]] = importlib.import_module(sys.argv[1]).CASES
    prepared: dict[str, Case] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked["case"] not in prepared:
                prepared[asked["case"]] = cases[asked["case"]]()
                run, items = prepared[asked["case"]]
                run()  # which may compile for long
                _run_for(run, items, asked["seconds"])
            answer = {"us": _run_for(*prepared[asked["case"]], asked["seconds"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def _run_for(run: Callable[[], Any], items: int, seconds: float) -> float:
    runs, started_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started_s) < seconds:
        run()
        runs += 1
    return 1e6 * elapsed_s / (runs * items)


if __name__ == "__main__":
    main()
