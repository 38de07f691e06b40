"""How commands end: no service, nobody who reads, Ctrl-C; with the exit statuses that their help tells."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stn_client import BadAnswer, ConnectionFailed, NotAllowed
from stn_command import Stn

from stn_cli.endings import EXIT_STATUSES, status_of
from stn_core.errors import BadRecipe, Overloaded, StnError, TimedOut

STN = f"{shlex.quote(sys.executable)} -m stn_cli"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionFailed(""), 3), (Overloaded(""), 3), (TimedOut(""), 3), (BadAnswer(""), 3),
        (NotAllowed(""), 2), (BadRecipe(""), 2), (StnError(""), 2),
    ],
)  # fmt: skip
def test_the_status_of_an_error(error: StnError, status: int) -> None:
    assert status_of(error) == status


def test_a_service_that_is_not_there(stn: Stn, scans: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["predict"], ["rectify"], ["augment", "--recipe", "rotation", "--out", "o"]):
        done = stn(*words, "scans", "--url", "http://127.0.0.1:9")
        assert (done.status, done.stdout) == (3, "")
        assert "127.0.0.1:9: cannot connect; is the service running there?" in done.stderr
    monkeypatch.setenv("STN_URL", "ftp://x")
    assert stn("shadow").status == 2


def test_what_is_not_installed(stn: Stn, scans: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.gateway", None)
    done = stn("predict", "scans")
    assert (done.status, done.stdout) == (2, "")
    assert "pip install 'stn-rectify[serve]' brings it; or give the address of a running service, --url" in done.stderr


def test_help_tells_the_statuses(stn: Stn) -> None:
    for command in ("predict", "rectify", "augment", "map", "shadow"):
        text = " ".join(stn(command, "--help").stdout.split())
        assert EXIT_STATUSES.split(";")[1].strip() in text


def test_a_reader_that_goes_ends_it_quietly(scans: list[int], tmp_path: Path) -> None:
    command = f"yes scans/1.png | head -2000 | {STN} predict - --json; echo status $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == "status 141\n"


def test_ctrl_c_leaves_whole_files_alone(scans: list[int], tmp_path: Path) -> None:
    yes = subprocess.Popen(["yes", "scans/1.png"], cwd=tmp_path, stdout=subprocess.PIPE)
    run = subprocess.Popen(
        [sys.executable, "-m", "stn_cli", "rectify", "-", "--out", "o"],
        cwd=tmp_path, stdin=yes.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + 120
        while not list(tmp_path.glob("o/*.png")):
            assert run.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
        yes.kill()
        yes.wait()
    assert run.returncode == 130
    assert "Traceback" not in said
    files = list((tmp_path / "o").iterdir())
    assert all(file.suffix == ".png" and file.read_bytes()[-8:-4] == b"IEND" for file in files)
