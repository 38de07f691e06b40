"""``stn augment``: what ``POST /v1/augment`` makes, as files, with theta and annotations beside."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from PIL import Image
from stn_command import Stn

from stn_core.annotations import Annotations
from stn_core.moving import move
from stn_core.pictures import decode_picture


def by_v1(url: str, file: Path, **parameters: Any) -> list[dict[str, Any]]:
    with file.open("rb") as content:
        answer = httpx.post(f"{url}/v1/augment", files={"image": content}, data=parameters, timeout=60)
    return answer.json()["results"][0]["copies"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", ["in process", "by a service"])
def test_copies_are_those_of_the_routes_for_files(
    way: str, stn: Stn, scans: list[int], gateway_url: str, tmp_path: Path
) -> None:
    Image.open("scans/1.png").save("scans/same.bmp")  # equal pixels, which have equal copies
    url = ["--url", gateway_url] if way == "by a service" else []
    words = ["--recipe", "perspective", "--seed", 7, "--copies", 3, "--out", "o", "--json"]
    done = stn("augment", "scans/0.png", "scans/1.png", "scans/same.bmp", *words, *url)
    assert done.status == 0
    assert "3 of 3 files done" in done.stderr
    assert [(entry["file"], entry["copy"]) for entry in done.entries[:4]] == [
        ("scans/0.png", 0), ("scans/0.png", 1), ("scans/0.png", 2), ("scans/1.png", 0),
    ]  # fmt: skip
    for file in ("0.png", "1.png", "same.bmp"):
        entries = [entry for entry in done.entries if entry["file"] == f"scans/{file}"]
        expected = by_v1(gateway_url, tmp_path / "scans" / file, recipe="perspective", seed=7, copies=3)
        for entry, one in zip(entries, expected, strict=True):
            assert Path(entry["image"]).name == f"{Path(file).stem}-{entry['copy']}.png"
            made = decode_picture(tmp_path / entry["image"])
            assert np.array_equal(made, decode_picture(base64.b64decode(one["image"])))
            assert {name: entry[name] for name in ("theta", "theta_rectifying", "exact")} == {
                name: one[name] for name in ("theta", "theta_rectifying", "exact")
            }
    lines = [orjson.loads(line) for line in (tmp_path / "o" / "augmented.jsonl").read_bytes().splitlines()]
    assert lines == done.entries


def test_one_copy_has_the_name_of_its_source(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    recipe = {"name": "mine", "steps": [{"op": "affine", "rotate_deg": [90, 90]}]}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    notes = {"keypoints_px": [[3, 4]], "boxes_px": [[2, 3, 10, 12]]}
    (tmp_path / "notes.json").write_text(json.dumps({"3.png": notes}))
    done = stn("augment", "scans", "--recipe", "mine.json", "--out", "o", "--annotations", "notes.json", "--json")
    assert (done.status, len(done.entries)) == (0, 10)
    assert {file.name for file in (tmp_path / "o").iterdir()} == {"augmented.jsonl", *(f"{k}.png" for k in range(10))}
    entry = done.entries[3]
    sizes = tuple(entry["source_size"]), tuple(entry["size"])
    assert entry["annotations"] == move(Annotations.from_json(notes), entry["theta"], *sizes).to_json()
    assert "annotations" not in done.entries[2]
    again = stn("augment", "scans/3.png", "--recipe", "mine.json", "--out", "p", "--seed", 5, "--json")
    assert np.allclose(again.entries[0]["theta"], entry["theta"])  # there is nothing to draw
    assert stn("augment", "scans", "--recipe", "mine.json", "--out", "q").stdout.splitlines()[0].split() == [
        "copy", "px", "exact", "file",
    ]  # fmt: skip


def test_a_spline_has_no_inverse_and_elastic_is_not_exact(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (entry,) = stn("augment", "scans/1.png", "--recipe", "elastic", "--out", "o", "--json").entries
    assert entry["theta_rectifying"] is None
    assert np.shape(entry["theta"]) == (16, 2)


def test_what_is_bad_is_one_row_and_the_rest_is_done(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((tmp_path / "scans" / "1.png").read_bytes()[:-60])
    words = ["scans/0.png", "broken.png", "nope.png", "scans/2.png"]
    done = stn("augment", *words, "--recipe", "rotation", "--copies", 2, "--out", "o", "--json")
    assert done.status == 1
    assert [entry["file"] for entry in done.entries] == [words[0], words[0], words[1], words[2], words[3], words[3]]
    assert ["error" in entry for entry in done.entries] == [False, False, True, True, False, False]
    assert "2 of 4 files done, 2 failed" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "message"),
    [("nope", "nope"), ("broken.yaml", "recipe"), ("canvas.json", "canvas")],
)
def test_a_recipe_that_is_none_ends_it(recipe: str, message: str, stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("steps: [")
    (tmp_path / "canvas.json").write_text('{"name": "x", "steps": [], "canvas": 5}')
    done = stn("augment", "scans", "--recipe", recipe, "--out", "o")
    assert done.status == 2
    assert message in done.stderr
    assert not (tmp_path / "o").exists()
