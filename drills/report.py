"""The table of promises in docs/promises.md, from the results of all drills; it lies between two marks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "promises.md"
MARKS = "<!-- drills -->", "<!-- end of drills -->"
PARTS = (
    "overload",
    "clients",
    "death",
    "change",
    "nodes",
    "soak",
    "bulk_resume",
    "fuzz",
    "openapi",
)
"""The drills, in the order of the table."""


def write_table() -> None:
    """Puts the table in place of the one in the page."""
    text = PAGE.read_text()
    PAGE.write_text(re.sub(f"(?s)({MARKS[0]}\n).*?({MARKS[1]})", lambda m: m[1] + table() + m[2], text))


def table() -> str:
    """A row for each outcome, and what each was measured on."""
    lines = [
        "| promise | sent | right | wrong | refused | lost | figures | held | date, commit |",
        "|---|---:|---:|---:|---:|---:|---|---|---|",
    ]
    machines = set()
    for document, outcome in _outcomes():
        counts = " | ".join(f"{outcome['counts'][name]:,}" for name in ("sent", "right", "wrong", "refused", "lost"))
        held = "yes" if outcome["held"] else f"**no**: {'; '.join(outcome['failures'])}"
        when = f"{document['date'][:10]}, {document['commit']}"
        lines.append(
            f"| **{outcome['title']}**: {outcome['promise']} | {counts} | {outcome['told']} | {held} | {when} |"
        )
        machine = document["machine"]
        machines.add(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}")
    return "\n".join([*lines, "", f"Measured on: {'; '.join(sorted(machines))}. Load and service share the cores.", ""])


def _outcomes() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for name in PARTS:
        file = RESULTS / f"{name}.json"
        if file.is_file():
            document = json.loads(file.read_text())
            for outcome in document["outcomes"]:
                yield document, outcome
