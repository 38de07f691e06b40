"""The client of a command: of a running service, or of one in this process; all else is the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast, get_args

from stn_client import Client

from stn_cli.app import import_tensorflow_quietly
from stn_cli.in_process import IN_FLIGHT, PATIENCE_S, URL, in_process
from stn_core.backends import BackendName
from stn_core.errors import InvalidInput

DEFAULT_BUNDLE = "digits"
DEFAULT_ENGINE: BackendName = "auto"


@contextlib.contextmanager
def connected(url: str | None, bundle: str | None, engine: str | None) -> Iterator[Client]:
    """A client of the service at ``url``, or without one of ``bundle`` in this process.

    InvalidInput if the options make no sense together; Unavailable and the like if the service is not there; errors of
    the bundle, and of what is not installed.
    """
    if url:
        for option, value in (("--bundle", bundle), ("--engine", engine)):
            if value is not None:
                raise InvalidInput(
                    f"{option}: the service at {url} has its own; leave the option out, or give --url '' to work "
                    "without a service"
                )
        with Client(url) as client:
            client.metadata()  # before anything is printed: whether it is there
            yield client
        return
    backend = checked_engine(engine)
    if backend == "tensorflow":
        import_tensorflow_quietly()
    transport = in_process(bundle or DEFAULT_BUNDLE, backend)
    with Client(URL, transport=transport, read_timeout_s=PATIENCE_S, in_flight=IN_FLIGHT) as client:
        yield client


def checked_engine(engine: str | None) -> BackendName:
    """The engine of that name, or the one that is taken if none is; InvalidInput if there is no such."""
    if engine is not None and engine not in get_args(BackendName):
        raise InvalidInput(f"--engine: expected {', '.join(get_args(BackendName))}, got {engine!r}")
    return cast(BackendName, engine or DEFAULT_ENGINE)
