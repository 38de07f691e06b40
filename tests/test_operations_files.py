"""The dashboard, the alerts and the page on operations name what the service exports, and nothing else."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from services.metrics import FAMILIES, PREFIX, Family, Kind
from services.settings import Observability

CHECKOUT = Path(__file__).parents[1]
DASHBOARD = CHECKOUT / "deploy/grafana/stn.json"
ALERTS = CHECKOUT / "deploy/prometheus/alerts.yaml"
PAGE = (CHECKOUT / "docs/operations.md").read_text()
SUFFIXES = {Kind.HISTOGRAM: ("_bucket", "_count", "_sum"), Kind.SUMMARY: ("_count", "_sum")}
SERIES = {PREFIX + family.name + suffix: family for family in FAMILIES for suffix in SUFFIXES.get(family.kind, ("",))}
OF_PROMETHEUS = {"job", "instance", "le"}


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def alerts() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    return [*dashboard_expressions(), *(str(alert["expr"]) for alert in alerts())]


def metrics_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series that an expression reads, and the labels that it picks them by."""
    for name, picked in re.findall(r"\b(stn_\w+)(?:\{([^}]*)\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", picked))


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_is_one_that_is_exported(expression: str) -> None:
    known: set[str] = set(OF_PROMETHEUS)
    for name, picked in metrics_in(expression):
        assert name in SERIES, f"{name} is not exported"
        known |= set(SERIES[name].labels)
        assert picked <= {*SERIES[name].labels, *OF_PROMETHEUS}
    for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",")} <= known
    without_texts = re.sub(r'"[^"]*"', "", expression)
    assert [without_texts.count(sign) for sign in "([{"] == [without_texts.count(sign) for sign in ")]}"]


def test_the_dashboard_shows_every_metric() -> None:
    shown = {SERIES[name].name for expression in dashboard_expressions() for name, _ in metrics_in(expression)}
    assert shown == {family.name for family in FAMILIES}


def test_the_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus, which is not installed")
def test_promtool_takes_the_alerts_and_the_dashboard(tmp_path: Path) -> None:
    asked = [one.replace("$__rate_interval", "5m").replace("$job", "stn") for one in dashboard_expressions()]
    rules = [{"record": f"shown:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": rules}]}))
    for file in (ALERTS, tmp_path / "shown.yaml"):
        done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    config = ALERTS.with_name("prometheus.yaml")
    subprocess.run(["promtool", "check", "config", config], capture_output=True, check=True)


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table behind a heading of the page, without their marks."""
    table = PAGE.split(f"## {heading}\n", 1)[1].split("\n|---", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def test_the_page_has_every_metric_with_its_type_and_labels() -> None:
    def told(family: Family) -> list[str]:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
        kind = "gauge" if family.kind is Kind.INFO else str(family.kind)
        return [f"`{PREFIX}{family.name}`", kind, labels, family.meaning]

    assert rows("Metrics") == [told(family) for family in FAMILIES]


def test_the_page_says_what_to_do_at_every_alert() -> None:
    assert [row[0] for row in rows("Dashboard and alerts")] == [f"`{alert['alert']}`" for alert in alerts()]


def test_the_page_has_every_setting() -> None:
    assert [row[0] for row in rows("Settings")] == [f"`{name}`" for name in Observability.model_fields]
