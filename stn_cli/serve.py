"""``stn serve``: runs the services until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn_cli.app import app
from stn_core.errors import InvalidInput


@app.command()
def serve(
    config: Annotated[str, typer.Option(help="local, embedded or cluster, or the path of a deploy config.")] = "local",
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8000,
    bundle: Annotated[
        str | None, typer.Option(help="The bundle to serve in place of the config's: a folder or a shipped name.")
    ] = None,
    haproxy: Annotated[
        bool | None,
        typer.Option("--haproxy/--no-haproxy", help="Take requests through HAProxy; default: if it is there."),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Serve gRPC too, at this port; default: as the config says.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="The file of API keys (stn keys); default: as the config says, or none.")
    ] = None,
) -> None:
    """Run the localization/warp service and the classifier service over HTTP; Ctrl-C stops all of it."""
    from services.deploy_config import shipped_configs
    from services.launcher import serve_config

    configs = shipped_configs()
    path = configs.get(config, Path(config))
    if not path.is_file():
        raise InvalidInput(f"--config: expected {', '.join(sorted(configs))} or a file, got {config!r}")
    serve_config(
        path,
        port=port,
        host=host,
        bundle=_absolute(bundle),
        haproxy=haproxy,
        grpc_port=grpc_port,
        keys=None if keys is None else str(keys),
    )


def _absolute(bundle: str | None) -> str | None:
    # A replica runs in a folder of its own, where a relative path means something else.
    return str(Path(bundle).resolve()) if bundle is not None and Path(bundle).is_dir() else bundle
