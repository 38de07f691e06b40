"""``stn deploy`` and ``stn rollback``: change what a running ``stn serve`` serves, under load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn_cli.app import app
from stn_core.errors import InvalidInput

Port = Annotated[int, typer.Option(min=1, max=65_535, help="The HTTP port of the service to change.")]
Patience = Annotated[float, typer.Option(min=1, help="Seconds after which a change that is not over is taken back.")]


@app.command()
def deploy(
    config: Annotated[str | None, typer.Argument(help="local, embedded or cluster, or the path of a config.")] = None,
    bundle: Annotated[
        str | None, typer.Option(help="The bundle to serve from now on: a folder or a shipped name.")
    ] = None,
    port: Port = 8000,
    timeout_s: Patience = 300,
) -> None:
    """Have the running service serve another bundle or config, while requests go on; a broken one is refused."""
    from services.control import ask

    if config is None and bundle is None:
        raise InvalidInput("deploy: expected a config, or --bundle, got neither; say what is to be served")
    request: dict[str, Any] = {"do": "deploy", "patience_s": timeout_s}
    if config is not None:
        request["config"] = str(_config(config).resolve())
    if bundle is not None:
        request["bundle"] = _checked(bundle)
    typer.echo(f"serving {ask(port, request)}")


@app.command()
def rollback(port: Port = 8000, timeout_s: Patience = 300) -> None:
    """Have the running service serve what it served before the last ``stn deploy``."""
    from services.control import ask

    typer.echo(f"serving {ask(port, {'do': 'rollback', 'patience_s': timeout_s})}")


def _config(name: str) -> Path:
    from services.deploy_config import read_deploy_config, shipped_configs

    configs = shipped_configs()
    path = configs.get(name, Path(name))
    if not path.is_file():
        raise InvalidInput(f"config: expected {', '.join(sorted(configs))} or a file, got {name!r}")
    read_deploy_config(path)  # refuses a broken one here, whether a service runs or not
    return path


def _checked(bundle: str) -> str:
    """The bundle as every process finds it; it is loaded once and run, here, so that a broken one goes no further."""
    from stn_core.engine import Engine

    Engine.load(bundle).warm_up()
    return str(Path(bundle).resolve()) if Path(bundle).is_dir() else bundle
