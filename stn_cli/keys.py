"""``stn keys``: makes, lists and revokes the API keys of a service, whose file it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stn_cli.app import app

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys for a service.")
app.add_typer(keys, name="keys")

File = Annotated[Path, typer.Option("--file", help="The file of keys that the service reads: stn serve --keys FILE.")]
DEFAULT_FILE = Path("keys.json")


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; of letters, digits, dots and dashes.")],
    file: File = DEFAULT_FILE,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; default: never.")] = None,
    requests_per_s: Annotated[float | None, typer.Option(help="Requests a second; default: the service's.")] = None,
    images_per_s: Annotated[float | None, typer.Option(help="Images a second; default: the service's.")] = None,
) -> None:
    """Make a key and print it, once: the file holds its hash alone. A running service knows it within seconds."""
    from services.keys import KeyFile, new_key, read_keys, write_keys

    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    given = read_keys(file) if file.exists() else KeyFile()
    changed, secret = new_key(given, name, expires=expires, requests_per_s=requests_per_s, images_per_s=images_per_s)
    write_keys(file, changed)
    typer.echo(secret)
    typer.echo(f"the key of {name}: keep it, it is not shown again; {file} holds its hash", err=True)


@keys.command("list")
def list_keys(file: File = DEFAULT_FILE) -> None:
    """Show whose keys there are, and what each may do."""
    from services.keys import read_keys

    now = datetime.now(UTC)
    table = Table("name", "made", "expires", "requests/s", "images/s")
    for key in read_keys(file).keys:
        ends = "never" if key.expires is None else f"{key.expires:%Y-%m-%d}"
        rates = [f"{rate:g}" if rate else "the service's" for rate in (key.requests_per_s, key.images_per_s)]
        table.add_row(key.name, f"{key.created:%Y-%m-%d}", "expired" if key.has_expired(now) else ends, *rates)
    Console().print(table)


@keys.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Whose key.")],
    file: File = DEFAULT_FILE,
) -> None:
    """Take a key out of the file; a running service refuses it within seconds."""
    from services.keys import read_keys, without_key, write_keys

    write_keys(file, without_key(read_keys(file), name))
    typer.echo(f"revoked the key of {name}", err=True)
