"""The systemd unit: what it promises in docs/deploying.md, and that systemd reads it."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "stn.service"


def settings() -> dict[str, list[str]]:
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("MemoryMax", "4G"),
    ],
)
def test_it_is_hardened(name: str, value: str) -> None:
    assert settings()[name] == [value]


def test_it_has_longer_to_stop_than_a_request_may_take() -> None:
    assert int(settings()["TimeoutStopSec"][0]) > 30 + 20  # the request's time, and what the launcher waits for Ray


def test_it_listens_to_this_machine_alone_unless_told() -> None:
    assert "--host 127.0.0.1" in settings()["ExecStart"][0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_reads_it_and_finds_it_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name  # with a command that is there
    unit.write_text(UNIT.read_text().replace("/opt/stn/bin/stn", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exposure = float(told.strip().splitlines()[-1].partition(": ")[2].split()[0])
    assert exposure < 2, told
