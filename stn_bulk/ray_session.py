"""A Ray for one job: a cluster's by its address, or one of this machine's own, which ends with the process."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator

from stn_core.errors import StnError, Unavailable

_CONNECT_S = 10.0
OBJECT_STORE_BYTES = 200 * 2**20
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the variables of accelerators are nobody's business here
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray complains on the terminal of how Ray Data starts its actors
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@contextlib.contextmanager
def ray_session(address: str | None, workers: int | None) -> Iterator[int]:
    """How many workers there can be while the block lasts: as many as asked for, or as there are CPUs.

    Without ``address`` Ray is started here and ended, without a dashboard, with a token of its own; where one is
    running in this process, it is taken. Unavailable if there is no Ray at ``address``.
    """
    if "ray" not in sys.modules:  # Ray reads its environment when it is imported
        os.environ.update(_environment(address))
    import ray

    if ray.is_initialized():
        yield workers or _cpus()
        return
    try:
        with _nothing_on_stderr():  # what Ray says there when it starts
            _start(address, workers)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise Unavailable(f"Ray {where}: {str(error).strip().splitlines()[0]}") from None
    try:
        available = _cpus()
        if workers is not None and workers > available:
            raise StnError(f"--workers: the cluster has {available} CPUs, and {workers} workers take one each")
        yield workers or available
    finally:
        ray.shutdown()


def _start(address: str | None, workers: int | None) -> None:
    import ray

    if address is not None:
        _check_that_somebody_listens(address)
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address=address, **common)
        return
    cpus = max(workers or 1, os.cpu_count() or 1)
    ray.init(address="local", num_cpus=cpus, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False, **common)


def _check_that_somebody_listens(address: str) -> None:
    """ConnectionError, at once, if nobody does; Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            raise ConnectionError(f"nobody answers: {error.strerror or error}") from None


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _environment(address: str | None) -> dict[str, str]:
    wanted = dict(_ENVIRONMENT)
    given = any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if address is None and not given:
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
