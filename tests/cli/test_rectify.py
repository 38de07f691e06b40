"""``stn rectify``: straight images at their own size, masks, and annotations that move along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image
from stn_command import Stn

from stn_core.annotations import Annotations
from stn_core.fullsize import rectify_full
from stn_core.moving import move
from stn_core.pictures import decode_picture


def pixels(file: Path | str) -> np.ndarray:
    return decode_picture(Path(file))


def test_images_are_what_the_library_makes(stn: Stn, scans: list[int], engine: object, tmp_path: Path) -> None:
    done = stn("rectify", "scans", "--out", "straight", "--canvas", "fit", "--mask", "--json")
    assert done.status == 0
    names = {file.name for file in (tmp_path / "straight").iterdir()}
    assert names == {f"{number}{ending}" for number in range(10) for ending in (".png", ".mask.png")}
    sources = [pixels(f"scans/{number}.png") for number in range(10)]
    expected = rectify_full(engine, sources, canvas="fit", with_mask=True)
    for entry, one in zip(done.entries, expected, strict=True):
        assert entry["rectified_size"] == list(one.image.shape[:2])
        assert np.allclose(entry["theta"], one.theta, atol=1e-5)
        made = pixels(entry["image"])
        assert made.shape[:2] == one.image.shape[:2]
        assert np.mean(np.abs(made.astype(int) - one.image[..., : made.shape[2]])) < 1
        with Image.open(entry["mask"]) as mask:
            assert np.mean((np.asarray(mask) > 0) == one.mask) > 0.99


def test_the_size_may_be_chosen(stn: Stn, scans: list[int]) -> None:
    entries = stn("rectify", "scans", "--out", "a", "--size", "30x50", "--json").entries
    assert {tuple(entry["rectified_size"]) for entry in entries} == {(30, 50)}
    assert pixels("a/3.png").shape[:2] == (30, 50)
    entries = stn("rectify", "scans", "--out", "b", "--max-side", "20", "--json").entries
    assert max(max(entry["rectified_size"]) for entry in entries) == 20


def test_without_a_folder_it_prints_thetas_and_writes_nothing(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    done = stn("rectify", "scans/1.png")
    assert done.stdout.splitlines()[0].split() == ["turn,", "deg", "scale", "px", "file"]
    (entry,) = stn("rectify", "scans/1.png", "--json").entries
    assert {"theta", "rectified_size", "source_size", "turn_deg", "scale"} < entry.keys()
    assert [file.name for file in tmp_path.iterdir()] == ["scans"]
    for option in (["--mask"], ["--annotations", "x.json"]):
        refused = stn("rectify", "scans", *option)
        assert (refused.status, "--out" in refused.stderr) == (2, True)


def test_folders_are_kept_and_names_told_apart(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "scans" / "deep").mkdir()
    (tmp_path / "scans" / "0.png").rename(tmp_path / "scans" / "deep" / "0.png")
    Image.open("scans/1.png").convert("L").save("scans/1.jpg")
    done = stn("rectify", "scans", "--recursive", "scans/deep/0.png", "scans/2.png", "--out", "o", "--json")
    assert done.status == 0
    images = {entry["file"]: entry["image"] for entry in done.entries[:11]}
    assert images["scans/deep/0.png"] == "o/deep/0.png"
    assert {images["scans/1.jpg"], images["scans/1.png"]} == {"o/1.png", "o/1~2.png"}
    assert [entry["image"] for entry in done.entries[-2:]] == ["o/0.png", "o/2~2.png"]
    assert len({entry["image"] for entry in done.entries}) == len(done.entries) == 13


def test_outputs_below_the_source_are_no_sources(stn: Stn, scans: list[int]) -> None:
    for _ in range(2):
        done = stn("rectify", "scans", "-r", "--out", "scans/out", "--overwrite", "--json")
        assert (done.status, len(done.entries)) == (0, 10)


def test_nothing_is_overwritten_unasked(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "1.png").write_bytes(b"mine")
    done = stn("rectify", "scans/0.png", "scans/1.png", "scans/2.png", "--out", "o", "--json")
    assert done.status == 1
    assert "'o/1.png' is there already; --overwrite replaces it" in done.entries[1]["error"]["detail"]
    assert (tmp_path / "o" / "1.png").read_bytes() == b"mine"
    assert pixels("o/2.png").size
    assert stn("rectify", "scans/1.png", "--out", "o", "--overwrite").status == 0
    assert pixels("o/1.png").size
    (tmp_path / "file").touch()
    assert stn("rectify", "scans/1.png", "--out", "file").status == 2


def test_what_is_not_sent_is_told_in_its_place(stn: Stn, scans: list[int]) -> None:
    assert stn("rectify", "scans/0.png", "scans/1.png", "scans/5.png", "--out", "o").status == 0
    done = stn("rectify", "scans", "nope.png", "scans/0.png", "--out", "o", "--json")
    assert [entry["file"] for entry in done.entries] == [
        *(f"scans/{k}.png" for k in range(10)),
        "nope.png",
        "scans/0.png",
    ]
    assert [k for k, entry in enumerate(done.entries) if "error" in entry] == [0, 1, 5, 10]
    everything = stn("rectify", "scans", "--out", "o", "--json")
    assert all("is there already" in entry["error"]["detail"] for entry in everything.entries)
    assert "0 of 10 files done, 10 failed" in everything.stderr


def test_a_kept_image_comes_back_as_it_came(stn: Stn, scans: list[int]) -> None:
    done = stn("rectify", "scans", "--out", "o", "--max-turn-deg", 0, "--max-scale", 0, "--json")
    for entry in done.entries:
        assert entry["decision"] == "kept"
        assert np.array_equal(pixels(entry["image"]), pixels(entry["file"]))


def test_annotations_move_with_their_image(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    given = {
        "0.png": {"keypoints_px": [[3, 4], [20, 11.5]], "boxes_px": [[2, 3, 10, 12]]},
        "scans/1.png": {"polygons_px": [[[1, 1], [9, 1], [9, 8]]]},
        "2.png": {"mask": [[1]]},
        "nope.png": {},
    }
    (tmp_path / "notes.json").write_text(json.dumps(given))
    done = stn("rectify", "scans", "--out", "o", "--canvas", "fit", "--annotations", "notes.json", "--json")
    assert done.status == 1
    assert "mask: expected the size of its image" in done.entries[2]["error"]["detail"]
    assert not (tmp_path / "o" / "2.png").exists()
    assert "annotations that were not used: 1, such as those of 'nope.png'" in done.stderr
    lines = [orjson.loads(line) for line in (tmp_path / "o" / "annotations.jsonl").read_bytes().splitlines()]
    assert lines == done.entries[:2]
    for line, one in zip(lines, given.values(), strict=False):
        sizes = tuple(line["source_size"]), tuple(line["rectified_size"])
        assert line["annotations"] == move(Annotations.from_json(one), line["theta"], *sizes).to_json()
        assert line["theta"] == done.entries[lines.index(line)]["theta"]
    again = stn("rectify", "scans/3.png", "--out", "o", "--annotations", "notes.json")
    assert (again.status, "annotations.jsonl' is there already" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--canvas", "round"], "expected 'crop' or 'fit'"),
        (["--size", "5"], "expected HEIGHTxWIDTH of 1 to 32766 px"),
        (["--size", "5x5", "--max-side", "5"], "leave one out"),
        (["--annotations", "nope.json", "--out", "o"], "cannot read the file 'nope.json'"),
        (["--bundle", "nope"], "name of a shipped bundle"),
        (["--engine", "nope"], "--engine: expected auto, onnx, tensorflow"),
    ],
)
def test_a_mistake_is_told_before_anything_is_done(words: list[str], message: str, stn: Stn, scans: list[int]) -> None:
    done = stn("rectify", "scans", *words)
    assert (done.status, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.split())
    assert not Path("o").exists()
