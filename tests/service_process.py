"""Starts a real service as a user would, and makes sure that nothing of it is left."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from services.processes import free_ports

REPOSITORY = Path(__file__).parent.parent
START_S = 240.0
STOP_S = 60.0
MARK = "STN_TEST_RUN"
"""An environment variable that marks a service and all its processes."""


@contextlib.contextmanager
def launched(config: str, output: Path, *options: str) -> Iterator[tuple["subprocess.Popen[bytes]", int, str]]:
    """A launcher's process, its port, and the mark that all its processes bear; they are gone when the block ends."""
    (port,) = free_ports(1)
    mark = f"{os.getpid()}-{port}"
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.launcher", config, f"--port={port}", *options],
            cwd=REPOSITORY,
            env={**os.environ, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port, mark
    finally:
        _end(process, mark)


@contextlib.contextmanager
def running_service(config: str, folder: Path, *options: str) -> Iterator[str]:
    """The URL of a service with ``deploy/<config>.yaml``; stopped by SIGINT to its group, as by Ctrl-C."""
    output = folder / "service.log"
    with launched(f"deploy/{config}.yaml", output, *options) as (process, _, mark):
        yield wait_for_url(process, output)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_S)
        assert process.returncode == 0, output.read_text()
        assert not processes_marked(mark), f"the service left {processes_marked(mark)} behind"


def processes_marked(mark: str) -> dict[int, str]:
    """All processes that bear ``mark`` in their environment, wherever they moved in the process tree."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
    return found


def wait_for_url(process: "subprocess.Popen[bytes]", output: Path) -> str:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        ready = re.search(r"^serving .* at (http://\S+)/v2", output.read_text(), re.MULTILINE)
        if ready:
            return ready[1]
        time.sleep(0.1)
    raise AssertionError(f"the service did not start:\n{output.read_text()}")


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    for pid in processes_marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
