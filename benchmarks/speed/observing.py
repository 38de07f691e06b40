"""What metrics, ids, the log of requests and traces cost a request.

    python benchmarks/speed/observing.py [--before CHECKOUT] [--rounds 5]

Each round starts a process for each kind, one after another, in another order, and takes the processor time of its
requests (observing_request.py). ``--before`` is a checkout to compare with: one from before there was any of this.
Writes results/observing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent.parent
BEFORE = "before"
KINDS = {
    "as shipped": "{}",
    "every request logged": '{"log_requests": true}',
    "every request traced into files": '{"traces": "file"}',
}


def _measured(checkout: Path, observability: str) -> list[float]:
    command = [sys.executable, str(FOLDER / "observing_request.py"), observability]
    environment = {**os.environ, "PYTHONPATH": f"{checkout}:{checkout / 'clients'}"}
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True)
    return [float(one) for one in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description="What observing costs.")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    kinds = {} if given.before is None else {BEFORE: (given.before.resolve(), "{}")}
    kinds |= {name: (REPOSITORY, observability) for name, observability in KINDS.items()}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    load: list[float] = []
    names = list(kinds)
    for number in range(given.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].extend(_measured(*kinds[name]))
            load.append(os.getloadavg()[0])
    part = {
        "measured": "processor microseconds a request of one image, 32 at a time, in process",
        "rounds": given.rounds,
        "cores": os.cpu_count(),
        "load_average": {"least": min(load), "most": max(load)},
        "us": {name: {"least": min(each), "median": median(each)} for name, each in found.items()},
    }
    (FOLDER / "results" / "observing.json").write_text(json.dumps(part, indent=2) + "\n")
    print(json.dumps(part, indent=2))


if __name__ == "__main__":
    main()
