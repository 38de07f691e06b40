"""Several machines: the stages of one service on two of them, and one that dies under load, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import yaml

from drills.cluster import HEAD, WORKER, Cluster, can_have_machines, cluster
from drills.death import outcome
from drills.known import known_digits
from drills.outcome import Counts, Outcome, unless
from drills.service import REPOSITORY, Config
from drills.traffic import Plan, counts, latency_ms, traffic

TIMES = 10
_REST_S, _PATIENCE_S, _POLL_S = 2.0, 120.0, 0.2


def drill() -> Iterator[Outcome]:
    promise = "the stages lie on both, batches go between them, every answer is right; Ray's tokens are on"
    if not can_have_machines():
        why = "network namespaces need root and iproute2"
        yield Outcome("Several machines: two network namespaces", promise, Counts(), {}, (why,), why)
        return
    known = known_digits()
    with cluster() as two:
        two.deploy(on_both(yaml.safe_load((REPOSITORY / "deploy" / "cluster.yaml").read_text())))
        ready_s = _whole_after_s(two, time.monotonic(), set())
        with traffic(Plan(two.service.port, connections=4, images=64, seconds=10.0), known) as load:
            records = load.wait()
        found, where = counts(records), {name: sorted(of.values()) for name, of in two.replicas().items()}
        yield Outcome(
            "Several machines: two network namespaces",
            promise,
            found,
            {"replicas": where, "ready_s": ready_s, "latency_p50_ms": latency_ms(records, 50)},
            unless(
                (found.right == found.sent > 0, f"{found.sent - found.right} of {found.sent} calls were not right"),
                (all(nodes == [HEAD, WORKER] for nodes in where.values()), f"the replicas are on {where}"),
            ),
            f"{', '.join(where)}: one replica on each machine; p50 {latency_ms(records, 50):.0f} ms for 64 images",
        )
        begun_s: list[float] = []
        whole_s: list[float] = []
        with traffic(Plan(two.service.port, connections=4, images=8, rate=40.0), known) as load:
            time.sleep(_REST_S)
            for _ in range(TIMES):
                begun_s.append(time.time())
                started_s = time.monotonic()
                doomed = {one for of in two.replicas().values() for one, node in of.items() if node == WORKER}
                two.kill(WORKER)
                two.start(WORKER)
                whole_s.append(_whole_after_s(two, started_s, doomed))
                time.sleep(_REST_S)
        yield outcome("A worker node", load.records, begun_s, whole_s)


def on_both(config: Config) -> Config:
    """The shipped config with one replica of each deployment on each of two machines."""
    config["http_options"]["host"] = "0.0.0.0"
    for deployment in config["applications"][0]["deployments"]:
        del deployment["autoscaling_config"]
        deployment |= {"num_replicas": 2, "max_replicas_per_node": 1}
        deployment["ray_actor_options"]["num_cpus"] = 0.3
    return config


def _whole_after_s(two: Cluster, started_s: float, gone: set[str]) -> float:
    """The seconds from ``started_s`` until all run on both machines, without replicas that are ``gone``."""
    while True:
        where = two.replicas()
        on_both = where and all(sorted(of.values()) == [HEAD, WORKER] and not gone & of.keys() for of in where.values())
        if on_both and two.service.is_ready():
            return time.monotonic() - started_s
        if time.monotonic() - started_s > _PATIENCE_S:
            return float("inf")
        time.sleep(_POLL_S)
