"""Makes requests of the OpenAPI document, right and wrong ones, and holds the service's answers against it.

    python -m drills.openapi --examples 200 --seed 3

The service runs in this process. schemathesis makes the requests and has the checks: the status, media type, headers
and body of every answer are those that the document has for the route, and what the document forbids is refused. A 501
is an answer like others here: the document says which routes of the protocol are not served.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from drills.outcome import Counts, Outcome, unless

EXAMPLES, SEED = 150, 1
"""Of each route, right ones and wrong ones."""
_CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "negative_data_rejection",
)
PATIENCE_S = 120.0
"""On a busy machine; a preview of a recipe takes a second on a quiet one."""
_TROUBLES = (500, 503, 504)
"""The service's own, which no request may cause; that they are in the document is no excuse."""


@dataclass
class Findings:
    """What came of all requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)
    """Each with the request as a command of curl."""

    @property
    def requests(self) -> int:
        return self.statuses.total()


def explore(app: Any, examples: int, seed_of_all: int) -> Findings:
    """The findings of about twice ``examples`` requests for each route that the document of ``app`` has."""
    load_all_checks()
    checks = CHECKS.get_by_names(list(_CHECKS))
    findings = Findings()

    def run(case: Any) -> None:
        response = case.call(timeout=PATIENCE_S)
        findings.statuses[response.status_code] += 1
        if response.status_code in _TROUBLES:
            findings.contradictions.append(f"{response.status_code}: {case.as_curl_command()[:500]}")
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as failures:
            for failure in failures.exceptions:
                findings.contradictions.append(f"{type(failure).__name__}: {failure}: {case.as_curl_command()[:500]}")

    for strategy in _strategies(schemathesis.openapi.from_asgi("/openapi.json", app)):
        _run_all(strategy, run, examples, seed_of_all)
    return findings


def _strategies(document: Any) -> Iterator[Any]:
    for result in document.get_all_operations():
        operation = result.ok()
        yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        if _can_be_wrong(operation.definition.raw):
            yield operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def _can_be_wrong(operation: dict[str, Any]) -> bool:
    """Whether there is anything in a request that the document could forbid."""
    schemas = [parameter["schema"] for parameter in operation.get("parameters", ())]
    return "requestBody" in operation or any(schema not in ({}, {"type": "string"}) for schema in schemas)


def _run_all(strategy: Any, run: Callable[[Any], None], examples: int, seed_of_all: int) -> None:
    limited = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        limited(seed(seed_of_all)(given(strategy)(run)))()  # type: ignore[no-untyped-call]
    except Unsatisfiable:  # nothing about this route can be wrong after all
        return


def service() -> Any:
    """The application with all its stages, in this process."""
    from services.gateway import make_app
    from services.links import local_links
    from services.settings import Settings

    shipped = Settings.model_validate({"classifier": {"placement": "gateway"}})
    return make_app(shipped, local_links(shipped))


def drill() -> list[Outcome]:
    """One outcome for the whole document."""
    found = explore(service(), EXAMPLES, SEED)
    wrong = len(found.contradictions)
    statuses = {str(status): count for status, count in sorted(found.statuses.items())}
    return [
        Outcome(
            title="OpenAPI",
            promise="no request made of the document, right or wrong, gets an answer that it does not have, or a 500",
            counts=Counts(sent=found.requests, right=found.requests - wrong, wrong=wrong),
            figures={"answers_by_status": statuses, "seed": SEED, "contradictions": found.contradictions[:20]},
            failures=unless((wrong == 0, f"{wrong} contradictions")),
            told=", ".join(f"{count:,} x {status}" for status, count in statuses.items()),
        )
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    found = explore(service(), arguments.examples, arguments.seed)
    print(f"{found.requests:,} requests: {dict(sorted(found.statuses.items()))}")
    print("\n".join(found.contradictions) or "no contradiction")
    return int(bool(found.contradictions))


if __name__ == "__main__":
    sys.exit(main())
