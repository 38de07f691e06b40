"""The real service, started as a user starts it, with its processes to be looked at, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from services.processes import descendants, end_launched, free_ports

REPOSITORY = Path(__file__).parent.parent
HOST = "127.0.0.1"
_START_S, _STOP_S, _POLL_S = 240.0, 60.0, 0.02

Config = dict[str, Any]


class Service(NamedTuple):
    """A service that runs: its first process, where it listens, and the file with what it prints."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def commands(self) -> dict[int, str]:
        """The command line of each of its processes, by process id; Ray names an actor's ``ray::ServeReplica:...``."""
        found = {}
        for pid in (self.process.pid, *descendants(self.process.pid)):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        return found

    def find(self, part: str) -> list[int]:
        """The processes whose command has ``part`` in it: ``:Classifier``, ``:Rectifier``, ``haproxy``, ``raylet``."""
        return [pid for pid, command in self.commands().items() if part in command]

    def kill(self, pid: int) -> None:
        """kill -9 of one of its processes; ValueError if it is none of them."""
        if pid not in self.commands():
            raise ValueError(f"expected a process of the service, got {pid}")
        os.kill(pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """The proportional set size of all its processes, in which a page that several share counts once."""
        total = 0
        for pid in self.commands():
            with contextlib.suppress(OSError, IndexError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += 1024 * int(rollup.partition("Pss:")[2].split()[0])
        return total

    def descriptors(self) -> int:
        """The open file descriptors of all its processes."""
        total = 0
        for pid in self.commands():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """Status and body; status 0 where nobody answers."""
        connection = HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def gauge(self, name: str) -> float:
        """The sum of what a metric of the service says; NaN where it says nothing."""
        lines = self.get("/metrics")[1].decode().splitlines()
        values = [
            float(line.split()[-1]) for line in lines if line.partition(" ")[0].partition("{")[0] == f"stn_{name}"
        ]
        return sum(values) if values else float("nan")

    def is_ready(self) -> bool:
        return self.get("/v2/health/ready")[0] == 200

    def wait_until_ready(self, timeout_s: float = _START_S) -> float:
        """The seconds until it was ready; TimeoutError with the end of what it printed if that does not happen."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < timeout_s and self.process.poll() is None:
            if self.is_ready():
                return time.monotonic() - started_s
            time.sleep(_POLL_S)
        said = self.output.read_text(errors="replace")[-2000:]
        raise TimeoutError(f"the service was not ready within {timeout_s:g} s; it said: {said}")


@contextlib.contextmanager
def service(
    config: str = "local",
    change: Callable[[Config], None] | None = None,
    environment: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    cores: Collection[int] | None = None,
) -> Iterator[Service]:
    """The service of the shipped config of this name, ``change``d; from when it is ready until the block ends.

    ``options`` are those of ``services.launcher``; ``cores`` those that it may use, None is all. What it started is
    ended with it, by process id.
    """
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        path, output = Path(folder, f"{config}.yaml"), Path(folder, "output")
        document = yaml.safe_load((REPOSITORY / "deploy" / f"{config}.yaml").read_text())
        if change is not None:
            change(document)
        path.write_text(yaml.safe_dump(document))
        (port,) = free_ports(1)
        with output.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.launcher", str(path), f"--port={port}", *options],
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)  # long before it starts others, which take it over
        one = Service(process, port, output)
        try:
            one.wait_until_ready()
            yield one
        finally:
            end_launched(process, _STOP_S)
