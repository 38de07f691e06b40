"""The Typer application that the command modules add their commands to."""

from __future__ import annotations

import logging
import os
import sys

import typer

from stn_core import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Straighten distorted images with a spatial transformer network, and classify them.",
)


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without its start-up notes, some of which no setting silences; errors are raised as ever."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
