"""``stn evaluate`` as a user runs it, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

QUICK = ["evaluate", "--data", "sample", "--limit", "100"]
BRANCHES = ["scale", "rotate", "shear", "scale+translate", "scale+rotate+shear+translate"]


def _stn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stn_cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_one_recipe_is_measured_by_family_into_json_page_and_terminal(tmp_path: Path) -> None:
    done = _stn(*QUICK, "--json", "out/all.json", "--report", "out/all.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("accuracy, distorted", "pose-free, median, px", "rotate", "collapsed", "wrote out/all.html"):
        assert text in done.stdout
    found = json.loads((tmp_path / "out" / "all.json").read_text())
    assert [family["name"] for family in found["families"]] == BRANCHES
    assert sum(family["images"] for family in found["families"]) == found["images"]
    assert found["corner_error_px"]["median"] < 0.3 * found["corner_error_unrectified_px"]["median"]
    assert found["pose_fitted_on"].startswith("100 others of")
    assert found["collapse"] is False
    page = (tmp_path / "out" / "all.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "the worst 50" in page


def test_several_recipes_stand_side_by_side(tmp_path: Path) -> None:
    recipes = ["rotation", "perspective", "elastic"]
    options = [word for name in recipes for word in ("--recipe", name)]
    done = _stn(*QUICK, *options, "--part", "validation", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["recipe"] for one in found] == recipes
    assert found[2]["round_trip_psnr_db"] is None  # a spline has no inverse
    assert found[0]["round_trip_psnr_db"] > 15
    assert {one["pose_fitted_on"] for one in found} == {"the same images"}
    assert all(name in done.stdout for name in recipes)


def test_a_bundle_that_zooms_away_fails_loudly(tmp_path: Path) -> None:
    from stn_core.bundle import load_network, read_manifest, write_bundle

    networks = {name: load_network("digits", name) for name in ("localization", "classifier")}
    last = networks["localization"].layers[-1]
    last.set_weights([np.zeros_like(last.get_weights()[0]), np.array([10.0, 0, 0, 0, 10, 0])])
    shipped = read_manifest("digits")
    fields = shipped.model_dump(exclude={"files", "name", "recipe"})
    write_bundle(tmp_path / "b", networks, {}, **{**fields, "name": "gone", "recipe": shipped.recipe})
    done = _stn(*QUICK, "--bundle", "b", "--json", "out.json", "--report", "r.html", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "collapse: 100.0% of the images of tutorial-mix are zoomed" in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["collapse"] is True
    assert "<b>Collapse.</b>" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "tset"], "expected train, validation or test"),
        (["--limit", "0"], "--limit"),
        (["--report", "report.pdf"], "--report: expected the name of an .html file"),
        (["--json", "."], "--json: expected the name of a file, got the folder"),
        (["--recipe", "no-such-recipe"], "neither a file nor the name of a shipped recipe"),
        (["--recipe", "rotation", "--recipe", "translated-clutter"], "makes images of 60 x 60 x 1"),
    ],
)
def test_a_mistake_ends_in_one_clear_line_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = _stn(*QUICK, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "accuracy" not in done.stdout
