"""``stn export`` as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from stn_core.bundle import find_bundle, read_manifest
from stn_core.engine import Engine


def test_a_bundle_of_before_gets_the_files_that_serving_takes(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(find_bundle("digits"), tmp_path / "before"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    for file in bundle.glob("*.onnx"):
        file.unlink()
        del manifest["files"][file.name]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    before = read_manifest(bundle)
    images = np.random.default_rng(0).random((5, 28, 28, 1)).astype(np.float32)
    expected = Engine.load(bundle).localize(images)  # by TensorFlow, as there is nothing else
    done = subprocess.run(
        [sys.executable, "-m", "stn_cli", "export", "--bundle", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote classifier.onnx and localization.onnx into" in done.stdout
    after = read_manifest(bundle)
    assert after.model_copy(update={"files": {}}) == before.model_copy(update={"files": {}})
    assert after.files["decision.json"] == before.files["decision.json"]
    np.testing.assert_allclose(Engine.load(bundle, backend="onnx").localize(images), expected, atol=1e-5)
