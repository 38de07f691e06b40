"""``stn node-environment``: what must be set on each machine of a Ray cluster before ``ray start``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stn_cli.app import app


@app.command("node-environment")
def node_environment(
    folder: Annotated[Path, typer.Option(help="A folder of this user's alone, for the files of HAProxy.")],
    haproxy: Annotated[
        bool | None,
        typer.Option("--haproxy/--no-haproxy", help="Take requests through HAProxy; default: if it is there."),
    ] = None,
) -> None:
    """Print the environment that Ray's processes need on each machine, as commands for a shell to eval."""
    from services.launcher import environment
    from services.ports import RAYS_NETWORK

    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # No token: one that differs from machine to machine would keep them apart.
    secret = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    others = {RAYS_NETWORK: "1"}  # which they are to reach
    for name, value in sorted((environment(others, str(folder), haproxy) | others).items()):
        if name not in secret:
            typer.echo(f"export {name}={shlex.quote(value)}")
