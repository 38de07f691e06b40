"""``stn shadow``: what rectification changed in production."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from stn_client import Client

from stn_cli.app import app
from stn_cli.endings import EXIT_STATUSES
from stn_cli.report import print_json

MEANINGS = {
    "share_of_requests": "share of the requests that are compared",
    "images": "images that were compared",
    "passed_over": "images for which there was no room",
    "agreement": "share read alike, rectified and as they came",
    "confidence_gain": "mean gain of the best probability",
    "changed_and_surer": "share read otherwise, and more surely",
    "changed_and_less_sure": "share read otherwise, and less surely: look into these",
}


@app.command(epilog=EXIT_STATUSES)
def shadow(
    url: Annotated[str, typer.Option(envvar="STN_URL", help="A running service.")] = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how a service with shadow_share read images as they came, beside what it read rectified."""
    with Client(url) as client:
        found = client.shadow()
    if as_json:
        print_json(found)
        return
    table = Table(show_header=False)
    for name, value in found.items():
        text = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(MEANINGS.get(name, name), text)
    Console().print(table)
