"""Changes under load, seen by plain HTTP clients that keep their connections and repeat nothing: none of them fails."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drills.bundles import broken_bundle, second_bundle
from drills.known import known_digits
from drills.outcome import Outcome, Verdict, unless
from drills.service import REPOSITORY, Config, Service, service
from drills.traffic import Plan, Record, between, counts, latency_ms, traffic
from stn_core.bundle import read_manifest

_REST_S = 2.0
_AFTER_S = 4.0  # old processes drain
_CONNECTIONS, _IMAGES, _RATE = 8, 8, 40.0


@dataclass
class Change:
    """One ``stn deploy`` or ``stn rollback`` under load."""

    title: str
    promise: str
    arguments: tuple[str, ...]
    refused: bool = False
    """Whether it is to be refused, before anything changes."""
    version: str = read_manifest("digits").version
    """Of the bundle that is served after it."""
    begun_s: float = 0.0
    ended_s: float = 0.0
    said: str = field(default="", repr=False)
    failures: tuple[str, ...] = ()


def drill() -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        new = second_bundle(Path(folder, "new"))
        known = known_digits(["digits", new])
        changes = list(_changes(Path(folder), new))
        with service("local") as one:
            with traffic(Plan(one.port, "http", _CONNECTIONS, _IMAGES, _RATE), known) as load:
                time.sleep(_REST_S)
                for change in changes:
                    _make(change, one)
                    time.sleep(_AFTER_S)
            yield from (_outcome(change, load.records) for change in changes)


def _changes(folder: Path, new: Path) -> Iterator[Change]:
    no_failure = "no request of plain HTTP clients fails"

    def config(name: str, change: Callable[[Config], None]) -> str:
        document = yaml.safe_load((REPOSITORY / "deploy" / "local.yaml").read_text())
        change(document["applications"][0])
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    def replicas(rectifiers: int, classifiers: int) -> Callable[[Config], None]:
        def change(application: Config) -> None:
            for deployment, count in zip(application["deployments"], (rectifiers, classifiers), strict=True):
                deployment["num_replicas"] = count

        return change

    def other_limit(application: Config) -> None:
        application["args"]["limits"]["max_images"] = 2048

    def misspelt(application: Config) -> None:
        application["args"]["limits"]["max_image"] = 1

    broken = str(broken_bundle(folder / "broken", new))
    named = f"{no_failure}, each answer names the one bundle that made all of it"
    yield Change("a new bundle", named, ("deploy", "--bundle", str(new)), version="1002")
    refused = "refused with the reason, the old one serves on"
    yield Change("a broken bundle", refused, ("deploy", "--bundle", broken), refused=True, version="1002")
    yield Change("roll back by one command", named, ("rollback",))
    yield Change("more replicas", no_failure, ("deploy", config("more", replicas(2, 2))))
    yield Change("fewer replicas", no_failure, ("rollback",))
    yield Change("a broken config", refused, ("deploy", config("misspelt", misspelt)), refused=True)
    yield Change("new processes for new arguments", no_failure, ("deploy", config("limit", other_limit)))


def _make(change: Change, one: Service) -> None:
    command = [sys.executable, "-m", "stn_cli", *change.arguments, f"--port={one.port}"]
    change.begun_s = time.time()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    change.ended_s = time.time()
    change.said = " ".join((done.stdout + done.stderr).split())
    change.failures = unless(
        ((done.returncode != 0) == change.refused, f"the command ended with {done.returncode}: {change.said[:300]}"),
        (f'"version":"{change.version}"' in one.get("/v2")[1].decode(), f"not version {change.version} is served"),
    )


def _outcome(change: Change, records: list[Record]) -> Outcome:
    during = between(records, change.begun_s, change.ended_s + _AFTER_S)
    after = between(records, change.ended_s + 0.5, change.ended_s + _AFTER_S)
    found = counts(during)
    others = [record for record in after if record.verdict == Verdict.RIGHT and record.version != change.version]
    seconds = change.ended_s - change.begun_s
    figures: dict[str, Any] = {
        "command_s": seconds,
        "latency_p50_ms": latency_ms(during, 50),
        "latency_p99_ms": latency_ms(during, 99),
        "latency_worst_ms": latency_ms(during, 100),
        "versions": sorted({record.version for record in during if record.version}),
        "said": change.said[:500],
        "errors": sorted({f"{one.status} {one.said}" for one in during if one.verdict != Verdict.RIGHT})[:20],
        "connections": _CONNECTIONS,
        "images_a_request": _IMAGES,
        "rate_per_s": _RATE,
    }
    failures = (
        *change.failures,
        *unless(
            (found.right == found.sent, f"{found.sent - found.right} of {found.sent} requests failed"),
            (not others, f"{len(others)} answers after it were not of version {change.version}"),
        ),
    )
    told = f"the command took {seconds:.1f} s, the slowest answer meanwhile {figures['latency_worst_ms']:.0f} ms"
    return Outcome(f"Change: {change.title}", change.promise, found, figures, failures, told)
