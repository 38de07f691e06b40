"""How ``stn deploy`` speaks to a running launcher: a socket in the file system, in a folder that is this user's alone.

One line of JSON goes, ``{"do": "deploy", "config": ..., "bundle": ..., "patience_s": ...}`` or ``{"do": "rollback",
...}``; one comes back, ``{"done": text}`` or a problem document. Nobody else can reach it: a folder of mode 0700 is in
the way, and over the network there is nothing.
"""

import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from stn_core.errors import InvalidInput, StnError, Unavailable, error_from_problem

logger = logging.getLogger("ray.serve")

Answer = Callable[[dict[str, Any]], str]
_MOST_BYTES = 64 * 1024
_REQUEST_S = 5.0


def control_folder() -> Path:
    """The folder for the sockets, of this user alone; InvalidInput if somebody else could write there."""
    folder = Path(tempfile.gettempdir()) / f"stn-rectify-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise InvalidInput(f"{folder}: cannot be made ({error.strerror}); set TMPDIR to a folder that can") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InvalidInput(f"{folder}: expected a folder of this user alone (mode 0700); remove it, or set TMPDIR")
    return folder


def socket_of(port: int) -> Path:
    """The socket of the launcher that serves HTTP at ``port``."""
    return control_folder() / f"{port}.sock"


class Control:
    """Answers requests one after another, in a thread of its own, while it is in use."""

    def __init__(self, port: int, answer: Answer) -> None:
        self._path, self._answer = socket_of(port), answer
        self._server = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "Control":
        self._path.unlink(missing_ok=True)  # of a launcher that was killed: the port is ours now
        self._server.bind(str(self._path))
        self._path.chmod(0o600)
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(connection,), daemon=True).start()

    def _serve_one(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(_REQUEST_S)
                request = orjson.loads(_line(connection))
                connection.settimeout(None)
                answer: dict[str, Any] = {"done": self._answer(request)}
            except StnError as error:
                answer = error.problem()
            except Exception:
                logger.exception("a change failed")
                answer = StnError("the change failed; the service's log has the reason").problem()
            try:
                connection.sendall(orjson.dumps(answer) + b"\n")
            except OSError:
                logger.info("whoever asked for a change has gone; it was done all the same")


def ask(port: int, request: dict[str, Any]) -> str:
    """What the launcher at ``port`` says it has done; Unavailable if there is none, else its errors."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_of(port)))
        except OSError as error:
            raise Unavailable(
                f"no service that this user started with `stn serve` is at port {port} ({error.strerror}); name its "
                "port with --port"
            ) from None
        connection.sendall(orjson.dumps(request) + b"\n")
        line = _line(connection)
    if not line:
        raise Unavailable("the service stopped before the change was over")
    answer = orjson.loads(line)
    if "done" not in answer:
        raise error_from_problem(answer, answer["status"])
    return str(answer["done"])


def _line(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"\n") and len(received) < _MOST_BYTES and (more := connection.recv(_MOST_BYTES)):
        received += more
    return received
