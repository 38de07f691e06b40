"""``stn map``: points through the thetas that ``stn rectify`` printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from stn_command import Stn

QUARTER = {"theta": [[0, 1, 0], [-1, 0, 0]], "rectified_size": [40, 40], "source_size": [120, 240]}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    lines: list[dict[str, Any]] = [
        {"file": "a.png", **QUARTER}, {"file": "gone.png", "error": {}}, {"file": "b.png", **QUARTER},
    ]  # fmt: skip
    (tmp_path / "results.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return tmp_path / "results.jsonl"


def test_there_and_back(stn: Stn, results: Path, tmp_path: Path) -> None:
    given = {
        "keypoints_px": [[30, 20], [50, 20]],
        "boxes_px": [[30, 20, 35, 28]],
        "polygons_px": [[[0, 0], [40, 0], [0, 40]]],
    }
    (tmp_path / "p.json").write_text(json.dumps({"b.png": given}))
    (there,) = stn("map", "results.jsonl", "--points", "p.json").entries
    assert there["file"] == "b.png"
    np.testing.assert_allclose(there["keypoints_px"], [[120, 30], [120, -30]], atol=1e-9)
    assert there["keypoints_inside"] == [True, False]
    np.testing.assert_allclose(there["boxes_px"], [[120, 15, 168, 30]])
    np.testing.assert_allclose(there["polygons_px"], [[[0, 120], [0, 0], [240, 120]]], atol=1e-9)
    back = {key: there[key] for key in ("keypoints_px", "boxes_px", "polygons_px")}
    (tmp_path / "q.json").write_text(json.dumps({"b.png": back}))
    (again,) = stn("map", "results.jsonl", "--points", "q.json", "--direction", "to_rectified").entries
    for key in back:
        np.testing.assert_allclose(again[key], given[key], atol=1e-9)


def test_what_rectify_printed_serves(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(stn("rectify", "scans", "--json").stdout)
    (tmp_path / "p.json").write_text('{"scans/3.png": {"keypoints_px": [[3, 4]]}}')
    (entry,) = stn("map", "r.jsonl", "--points", "p.json").entries
    assert entry["file"] == "scans/3.png"
    assert np.isfinite(entry["keypoints_px"]).all()


@pytest.mark.parametrize(
    ("points", "status", "message"),
    [
        ({"c.png": {}}, 2, "no result in results.jsonl is of the file 'c.png'"),
        ({"gone.png": {}}, 1, "expected theta, rectified_size, source_size, but theta is not there"),
        ({"a.png": {"mask": [[1]]}}, 1, "masks move with their images"),
        ({"a.png": {"points": []}}, 1, "expected some of keypoints_px"),
    ],
)
def test_a_mistake(points: object, status: int, message: str, stn: Stn, results: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(points))
    done = stn("map", "results.jsonl", "--points", "p.json")
    assert done.status == status
    assert message in done.stdout + done.stderr


def test_other_mistakes(stn: Stn, results: Path, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{}")
    assert stn("map", "results.jsonl", "--points", "p.json").status == 0
    assert stn("map", "results.jsonl", "--points", "p.json", "--direction", "up").status == 2
    (tmp_path / "bad.jsonl").write_text("[]")
    bad = stn("map", "bad.jsonl", "--points", "p.json")
    assert (bad.status, "line 1: expected a result of stn rectify --json" in bad.stderr) == (2, True)
