"""Finds and ends the processes that this one started, by their process ids; asks who holds a port. Linux only."""

import contextlib
import ctypes
import errno
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TCP_LISTEN = "0A"
_POLL_S = 0.05
_QUIET_PORTS = range(20000, 30000)  # Ray's workers have those below, its replicas and the kernel those above


def adopt_orphans() -> None:
    """From here on a descendant whose parent dies becomes our child, so that none can be lost from sight."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int | None = None) -> dict[int, str]:
    """The names of all living descendants of a process (this one when None), by process id."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # "pid (name) state parent ...", where the name may hold anything.
            before, _, after = (entry / "stat").read_text().rpartition(")")
            state, parent = after.split()[:2]
            if state != "Z":
                parents[int(entry.name)] = (int(parent), before.partition("(")[2])
    children: dict[int, list[int]] = {}
    for child, (parent_pid, _) in parents.items():
        children.setdefault(parent_pid, []).append(child)
    found: dict[int, str] = {}
    to_visit = [os.getpid() if pid is None else pid]
    while to_visit:
        for child in children.get(to_visit.pop(), []):
            found[child] = parents[child][1]
            to_visit.append(child)
    return found


def end_launched(process: "subprocess.Popen[bytes]", patience_s: float) -> None:
    """Asks a launcher to stop, as Ctrl-C does, and ends by its id whatever of its family is left then."""
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    for pid in {process.pid, *family}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def end_descendants(grace_s: float = 3.0) -> None:
    """Ends every descendant: asks with SIGTERM, and after ``grace_s`` insists with SIGKILL."""
    for sign, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        deadline_s = time.monotonic() + patience_s
        asked: set[int] = set()
        while (left := descendants()) and time.monotonic() < deadline_s:
            for pid in left.keys() - asked:  # also those that appeared since
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sign)
            _reap()
            time.sleep(_POLL_S)
        _reap()
        if not left:
            return


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now, of those that neither the kernel nor Ray hands out by itself."""
    found: list[int] = []
    for port in random.sample(_QUIET_PORTS, len(_QUIET_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as opened, contextlib.suppress(OSError):
            opened.bind(("", port))
            found.append(port)
    return found


def port_is_free(host: str, port: int) -> bool:
    """Whether a server can listen there; OSError if ``host`` is not an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not count
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def holder_of_port(port: int) -> str | None:
    """Name and process id of whoever listens on ``port``, if this user may know it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if any(os.readlink(descriptor) in inodes for descriptor in (entry / "fd").iterdir()):
                    return f"{(entry / 'comm').read_text().strip()}, process {entry.name}"
    return None


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
