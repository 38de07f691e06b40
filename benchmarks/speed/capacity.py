"""How latency grows with load, beside what queueing theory says; what a core answers, for the capacity guide.

    make bench PARTS=capacity

The service is asked for shares of the requests that it answered at most, at a fixed rate, one image each. The estimate
is Pollaczek and Khinchine's for a single server whose work is always the same (M/D/1): the latency of one connection,
and before it the wait ``S rho / (2 (1 - rho))`` where S is the time a request keeps the server busy, the inverse of the
most that it answered, and rho the share.
"""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

import numpy as np
from load import Plan, load
from rich import box
from rich.console import Console
from rich.table import Table
from servers import SERVERS

from stn_core.datasets import sample_digits

DEFAULTS = {"rounds": 3, "seconds": 4.0}
CONFIG, CONNECTIONS = "embedded", 64
SHARES = (0.3, 0.5, 0.7, 0.85)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of latency by share of the best rate, measured and estimated."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    best_rates, alone_ms = [], []
    server = SERVERS[CONFIG]
    request = server.request(np.ascontiguousarray(sample_digits().images[:1]))
    for _ in range(rounds):
        with server.start() as running:
            alone_ms.append(load(request, Plan(running.port, 1, seconds))["p50_ms"])
            best = load(request, Plan(running.port, CONNECTIONS, seconds))["requests_s"]
            best_rates.append(best)
            for share in SHARES:
                told = load(request, Plan(running.port, CONNECTIONS, seconds, rate=share * best))
                for name in ("p50_ms", "p99_ms"):
                    found[f"{share:g}"][name].append(told[name])
                found[f"{share:g}"]["estimate_ms"].append(alone_ms[-1] + _wait_ms(share, best))
    by_share = {share: {name: median(each) for name, each in one.items()} for share, one in found.items()}
    best, alone = median(best_rates), median(alone_ms)
    _show(best, alone, by_share)
    return {"best_requests_per_s": best, "one_connection_ms": alone, "by_share": by_share}


def _wait_ms(share: float, best: float) -> float:
    return 1e3 / best * share / (2 * (1 - share))


def _show(best: float, alone: float, by_share: dict[str, dict[str, float]]) -> None:
    title = f"Latency by load, {CONFIG}: at most {best:,.0f} requests/s, {alone:.2f} ms alone"
    table = Table("share of the most", "p50, ms", "p99, ms", "estimated, ms", title=title, box=box.SIMPLE)
    for share, one in by_share.items():
        table.add_row(share, *(f"{one[name]:.2f}" for name in ("p50_ms", "p99_ms", "estimate_ms")))
    Console().print(table)
