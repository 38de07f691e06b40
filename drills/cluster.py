"""Two machines on one: network namespaces with addresses of their own, a wire between them, and a Ray node in each."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drills.service import REPOSITORY, Config, Service
from services.launcher import environment
from services.ports import RAYS_NETWORK
from services.processes import descendants

HEAD, WORKER = "10.213.7.1", "10.213.7.2"
_NAMES = {HEAD: f"stn-head-{os.getpid()}", WORKER: f"stn-worker-{os.getpid()}"}
_GCS, _DASHBOARD, HTTP = 6379, 8265, 8000  # nobody else is in these namespaces
_CLONE_NEWNET = 0x40000000
_START_S = 180.0


@dataclass
class Cluster:
    """A head and a worker that come and go; what the service's users see is at the head's 127.0.0.1."""

    folder: Path
    variables: dict[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        return Service(self.nodes[HEAD], HTTP, self.folder / f"{HEAD}.log")

    def start(self, address: str) -> None:
        """A node on the machine of ``address``."""
        role = (
            ["--head", f"--port={_GCS}", "--include-dashboard=true", f"--dashboard-port={_DASHBOARD}"]
            if address == HEAD
            else [f"--address={HEAD}:{_GCS}"]
        )
        common = ["--block", f"--node-ip-address={address}", "--num-cpus=2", "--object-store-memory=100000000"]
        common += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
        if address == HEAD:
            common.append(f"--temp-dir={self.folder}")
        command = ["ip", "netns", "exec", _NAMES[address], sys.executable, "-m", "ray.scripts.scripts", "start"]
        with Path(self.folder, f"{address}.log").open("ab") as log:
            self.nodes[address] = subprocess.Popen(
                [*command, *role, *common],
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, address: str) -> None:
        """kill -9 of a node's raylet, which is what the node is; what it ran ends with it."""
        for pid in descendants(self.nodes[address].pid):
            with contextlib.suppress(OSError):
                if b"raylet/raylet\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        self.end(address)

    def end(self, address: str) -> None:
        """Ends whatever is left of a node, by process id."""
        node = self.nodes.pop(address)
        for pid in (node.pid, *descendants(node.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def deploy(self, config: Config) -> None:
        """``serve deploy``, as for any Ray cluster."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [
            sys.executable,
            "-m",
            "ray.serve.scripts",
            "deploy",
            str(path),
            "-a",
            f"http://127.0.0.1:{_DASHBOARD}",
        ]
        done = subprocess.run(
            command, cwd=REPOSITORY, env={**os.environ, **self.variables}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"serve deploy failed: {(done.stdout + done.stderr)[-1000:]}")

    def replicas(self) -> dict[str, dict[str, str]]:
        """Of each deployment the running replicas by their ids: the addresses of the machines they are on."""
        application = self._asked("serve/applications/")["applications"].get("stn", {})
        return {
            name: {one["replica_id"]: one["node_ip"] for one in deployment["replicas"] if one["state"] == "RUNNING"}
            for name, deployment in application.get("deployments", {}).items()
        }

    def wait_until_up(self) -> None:
        """Returns when the head can be asked for its nodes."""
        deadline_s = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError, ValueError):
                self._asked("serve/applications/")
                return
            if time.monotonic() > deadline_s or self.nodes[HEAD].poll() is not None:
                raise TimeoutError(f"the head did not start: {Path(self.folder, f'{HEAD}.log').read_text()[-1000:]}")
            time.sleep(0.2)

    def _asked(self, path: str) -> Any:
        headers = {"authorization": f"Bearer {self.variables['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"http://127.0.0.1:{_DASHBOARD}/api/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def can_have_machines() -> bool:
    """Whether this user may make network namespaces."""
    with contextlib.suppress(OSError):
        name = f"stn-probe-{os.getpid()}"
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
        if made:
            subprocess.run(["ip", "netns", "del", name], check=True)
        return made
    return False


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Two machines with a Ray node in each; this process is on the head's machine until the block ends."""
    with tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as folder, _machines():
        said = {RAYS_NETWORK: "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        one = Cluster(Path(folder), environment({**os.environ, **said}, folder) | said)
        try:
            one.start(HEAD)
            one.wait_until_up()
            one.start(WORKER)
            yield one
        finally:
            for address in list(one.nodes):
                one.end(address)


@contextlib.contextmanager
def _machines() -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        for name in _NAMES.values():
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        head, worker = _NAMES[HEAD], _NAMES[WORKER]
        _ip("-n", head, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", worker)
        for address, name in _NAMES.items():
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
        with Path("/run/netns", head).open() as there:
            _enter(there.fileno())
        yield
    finally:
        _enter(home)
        os.close(home)
        for name in _NAMES.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
