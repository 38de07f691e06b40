"""The commands run in this process, on pictures of real digits; and a gateway on a socket, without Ray."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from stn_command import Done, Stn

from services.gateway import make_app
from services.links import local_links
from stn_cli import main
from stn_cli.in_process import settings_of


@pytest.fixture
def stn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Stn:
    """Runs ``stn`` with these words, in the test's folder, and with ``stdin``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STN_URL", raising=False)

    def run(*words: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["stn", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main.run()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Done(int(end.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def scans(tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]) -> list[int]:
    """The labels of ten digits, which lie in the folder ``scans`` as 0.png to 9.png, of three sizes, some in colour."""
    (tmp_path / "scans").mkdir()
    for number in range(10):
        picture = Image.fromarray(digits[0][number, ..., 0])
        picture = picture.resize((28 + 14 * (number % 3), 28 + 28 * (number % 2)))
        (picture.convert("RGB") if number % 4 == 0 else picture).save(tmp_path / "scans" / f"{number}.png")
    return [int(label) for label in digits[1][:10]]


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """A gateway of the shipped bundle at an address of its own, which compares every request to ``predict``."""
    settings = settings_of("digits", "auto").model_copy(update={"shadow_share": 1.0})
    app = make_app(settings, local_links(settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "uvicorn did not start"
        time.sleep(0.01)
    yield "http://{}:{}".format(*server.servers[0].sockets[0].getsockname())
    server.should_exit = True
    thread.join()
