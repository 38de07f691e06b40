"""The socket between ``stn deploy`` and the launcher: whose it is, and how errors travel."""

import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from services.control import Control, ask, socket_of
from stn_core.errors import BadBundle, InvalidInput, StnError, Unavailable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def answer(request: dict[str, Any]) -> str:
    if request["do"] == "fail":
        raise ValueError("secret")
    if request["do"] == "refuse":
        raise BadBundle("it is broken")
    return f"did {request['do']}"


@pytest.mark.usefixtures("folder")
def test_what_is_asked_is_answered_and_errors_keep_their_kind() -> None:
    with Control(1, answer):
        assert ask(1, {"do": "this"}) == "did this"
        with pytest.raises(BadBundle, match="it is broken"):
            ask(1, {"do": "refuse"})
        with pytest.raises(StnError, match="log has the reason") as told:
            ask(1, {"do": "fail"})
        assert "secret" not in str(told.value)
        assert ask(1, {"do": "that"}) == "did that"
    with pytest.raises(Unavailable, match="no service"):
        ask(1, {"do": "this"})


@pytest.mark.usefixtures("folder")
def test_nobody_else_can_reach_it() -> None:
    with Control(2, answer):
        path = socket_of(2)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("folder")
def test_a_socket_left_by_a_launcher_that_was_killed_is_replaced() -> None:
    Control(3, answer).__enter__()
    with Control(3, answer):
        assert ask(3, {"do": "this"}) == "did this"


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    socket_of(4)
    (own,) = folder.iterdir()
    own.chmod(0o777)
    with pytest.raises(InvalidInput, match="mode 0700"):
        socket_of(4)
    own.rmdir()
    own.symlink_to(folder)
    with pytest.raises(InvalidInput, match="mode 0700"):
        socket_of(4)
