"""What metrics, ids, the log of requests and traces cost: one image a request, 32 connections, all in one process.

    python benchmarks/speed/observing.py [--before CHECKOUT] [--rounds 8] [--seconds 2.5]

All services stand side by side, and each round puts the load on one after another, in another order. ``--before`` is a
checkout to compare with: one from before there was any of this. Writes observing.json beside this file's results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from load import Plan, ask, load
from servers import REPOSITORY, Running, running, v2_request

from services.processes import free_ports
from stn_core.datasets import sample_digits

CONNECTIONS = 32
OBSERVING: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "every request logged": {"log_requests": True},
    "every request traced into files": {"traces": "file"},
}
BEFORE = "before"
OUTPUT = Path(__file__).parent / "results" / "observing.json"


def _started(name: str, checkout: Path, folder: Path) -> contextlib.AbstractContextManager[Running]:
    config = yaml.safe_load((checkout / "deploy" / "embedded.yaml").read_text())
    if name in OBSERVING:
        args = config["applications"][0]["args"]
        args["observability"] = {**OBSERVING[name], "log_folder": str(folder)}
    path = folder / f"{name.replace(' ', '-')}.yaml"
    path.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = ["env", f"--chdir={checkout}", sys.executable, "-m", "services.launcher", str(path), f"--port={port}"]
    return running(command, port, "/v2/health/ready", {"PYTHONPATH": f"{checkout}:{checkout / 'clients'}"})


def measure(checkouts: dict[str, Path], rounds: int, seconds: float) -> dict[str, Any]:
    """Requests a second, and the median of what each gave beside the first of its round."""
    images = np.ascontiguousarray(sample_digits().images[:1])
    request = v2_request("predict", {"images": images}, ("label", "probabilities"))
    found: dict[str, list[float]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        up = {name: stack.enter_context(_started(name, path, Path(folder))) for name, path in checkouts.items()}
        for one in up.values():
            assert ask(one.port, request)[0] == 200
        names = list(up)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                told = load(request, Plan(up[name].port, CONNECTIONS, seconds, warm_up_s=0.5))
                found[name].append(told["requests_s"])
    base = names[0]
    beside = {name: median(np.divide(each, found[base]).tolist()) for name, each in found.items() if name != base}
    return {
        "load": f"1 image x {CONNECTIONS} connections, deploy/embedded.yaml, {rounds} rounds of {seconds} s",
        "cores": os.cpu_count(),
        "requests_s": {name: {"median": median(each), "rounds": each} for name, each in found.items()},
        f"rate_beside_{base.replace(' ', '_')}": beside,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What observing costs.")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.5)
    given = parser.parse_args()
    checkouts = {} if given.before is None else {BEFORE: given.before.resolve()}
    checkouts |= dict.fromkeys(OBSERVING, REPOSITORY)
    part = measure(checkouts, given.rounds, given.seconds)
    OUTPUT.write_text(json.dumps(part, indent=2) + "\n")
    for name, each in part["requests_s"].items():
        print(f"{name:32} {each['median']:8.0f} requests/s")


if __name__ == "__main__":
    main()
