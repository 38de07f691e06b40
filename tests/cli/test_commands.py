"""The commands as a user runs them, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from service_process import MARK, processes_marked
from stn_client import Client

from services.processes import free_ports

SHORT = ["--data", "sample", "--batch-size", "32", "--localization-steps", "20", "--classifier-steps", "20"]


def _stn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stn_cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_train_then_evaluate(tmp_path: Path) -> None:
    trained = _stn(
        "train", "--out", "b", "--recipe", "rotation", "--name", "turned", "--log-dir", "logs", *SHORT, cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    assert "wrote b" in trained.stdout
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["name"] == "turned"
    assert manifest["recipe"]["name"] == "rotation"
    evaluated = _stn("evaluate", "--bundle", "b", "--data", "sample", "--json", "out.json", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "accuracy, distorted" in evaluated.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["images"] == 500
    assert result["accuracy_distorted"] == pytest.approx(manifest["metrics"]["accuracy_distorted"], abs=0.002)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "b", "--data", "no-such-data"], "no such name, folder or file"),
        (["train", "--out", "b", "--recipe", "no-such-recipe"], "neither a file nor the name of a shipped recipe"),
        (["train", "--out", "b", "--localization", "resnet"], "--localization: Value error, expected one of"),
        (["train", "--out", "b", "--batch-size", "0", "--data", "sample"], "--batch-size"),
        (["train", "--out", "b", "--jitter", "camera", "--data", "sample"], "--jitter"),
        (["train", "--out", "b", "--name", "No Name", *SHORT], "name"),
        (["evaluate", "--bundle", "no-such-bundle"], "name of a shipped bundle (digits)"),
        (["evaluate", "--part", "tset"], "expected train, validation or test"),
        (["serve", "--config", "no-such-config"], "expected cluster, embedded, local or a file"),
        (["serve", "--bundle", "no-such-bundle", "--port", "18999"], "name of a shipped bundle (digits)"),
        (["demo", "--url", "http://127.0.0.1:9", "--images", "1"], "127.0.0.1:9"),
    ],
)
def test_a_mistake_ends_in_one_clear_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = _stn(*arguments, cwd=tmp_path)
    assert result.returncode == (3 if "--url" in arguments else 2), result.stderr
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "b").exists()


def test_no_command_shows_the_commands(tmp_path: Path) -> None:
    shown = _stn(cwd=tmp_path)
    for command in ("train", "evaluate", "reproduce", "serve", "demo"):
        assert command in shown.stdout + shown.stderr


@pytest.mark.service
def test_demo_shows_the_batch_and_draws_the_picture(service_url: str, tmp_path: Path) -> None:
    shown = _stn("demo", "--url", service_url, "--images", "200", "--picture", "p/demo.png", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    figures = {
        line.rsplit(maxsplit=1)[0].strip(): float(line.rsplit(maxsplit=1)[1])
        for line in shown.stdout.splitlines()
        if line.strip().startswith("accuracy")
    }
    assert figures["accuracy with rectification"] > 0.97
    assert figures["accuracy with rectification"] > figures["accuracy without rectification"] + 0.04
    assert str(tmp_path / "p" / "demo.png") in shown.stdout.replace("\n", "")
    with Image.open(tmp_path / "p" / "demo.png") as picture:
        assert picture.width > 800


@pytest.mark.service
@pytest.mark.parametrize(
    ("sign", "status"), [(signal.SIGINT, 0), (signal.SIGHUP, 129)], ids=["Ctrl-C", "the terminal is closed"]
)
def test_demo_starts_the_service_keeps_it_up_and_takes_it_down(sign: int, status: int, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    mark = f"demo-{os.getpid()}-{port}"
    output = tmp_path / "demo.log"
    with output.open("w") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "stn_cli", "demo", "--port", str(port), "--images", "64"],
            cwd=tmp_path,
            env={**os.environ, MARK: mark},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell's background job, as a run of these tests may be, ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads here
        )
    try:
        _wait_for("The service keeps running", output, demo)
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.server_ready()
        taken = _stn("demo", "--port", str(port), cwd=tmp_path)
        assert taken.returncode == 2
        assert f"port {port} is in use" in taken.stderr
        os.killpg(demo.pid, sign)  # what a terminal does
        assert demo.wait(60) == status, output.read_text()
        assert "Traceback" not in output.read_text()
        assert not processes_marked(mark)
    finally:
        for pid in (demo.pid, *processes_marked(mark)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        demo.wait()


def _wait_for(text: str, output: Path, process: subprocess.Popen[bytes], timeout_s: float = 240) -> None:
    deadline_s = time.monotonic() + timeout_s
    while text not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline_s, output.read_text()
        time.sleep(0.2)
