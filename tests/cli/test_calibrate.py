"""``stn calibrate`` as a user runs it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from stn_cli.main import run
from stn_core.bundle import find_bundle, read_manifest, sha256_of
from stn_core.confidence import DECISION_FILE
from stn_core.engine import Engine
from stn_core.errors import BadBundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_bundle("digits"), tmp_path / "digits"))


def _edit_files(bundle: Path, digest: str | None) -> None:
    """The manifest with another sha256 for the confidence, or without it."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["files"][DECISION_FILE]
    if digest:
        manifest["files"][DECISION_FILE] = digest
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def _stn(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit status."""
    monkeypatch.setattr(sys, "argv", ["stn", *arguments])
    with pytest.raises(SystemExit) as left:
        run()
    return left.value.code or 0


@pytest.mark.parametrize("came_with", ["no confidence", "one of another version"])
def test_a_bundle_of_before_gets_a_confidence_and_keeps_its_networks(
    bundle: Path, came_with: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(bundle)
    file = bundle / DECISION_FILE
    if came_with == "no confidence":
        file.unlink()
        _edit_files(bundle, None)
    else:
        file.write_text(file.read_text().replace("crispness", "crispiness"))
        _edit_files(bundle, sha256_of(file))
        with pytest.raises(BadBundle, match="calibrate the bundle again"):
            Engine.load(bundle)
    done = _stn(monkeypatch, "calibrate", "--bundle", str(bundle), "--data", "sample", "--images", "2000",
                "--recipe", "rotation")  # fmt: skip
    captured = capsys.readouterr()
    assert done == 0, captured.err
    assert "tutorial-mix" in captured.out
    assert f"wrote the confidence into {bundle}" in captured.out
    after = read_manifest(bundle)
    digest = after.files[DECISION_FILE]
    assert after == before.model_copy(update={"files": {**before.files, DECISION_FILE: digest}})
    assert list(after.files) == sorted(after.files)
    assert [entry.name for entry in bundle.parent.iterdir()] == [bundle.name]
    confidence = Engine.load(bundle).decide(np.zeros((3, 28, 28, 1), np.uint8)).decisions.confidence
    assert confidence is not None
    assert confidence.max() < 0.5


def test_data_that_do_not_fit_leave_the_bundle_as_it_was(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_manifest(bundle)
    np.savez(tmp_path / "two.npz", images=np.zeros((600, 28, 28), np.uint8), labels=np.arange(600) % 2)
    assert _stn(monkeypatch, "calibrate", "--bundle", str(bundle), "--data", str(tmp_path / "two.npz")) == 2
    assert "expected the bundle's 10 classes" in " ".join(capsys.readouterr().err.split())
    assert read_manifest(bundle) == before
