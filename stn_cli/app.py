"""The Typer application that the command modules add their commands to."""

from __future__ import annotations

import logging
import os

import typer

from stn_core import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Straighten distorted images with a spatial transformer network, and classify them.",
)


@app.callback()
def _about() -> None:
    # TensorFlow prints pages of start-up notes; what went wrong still comes as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
