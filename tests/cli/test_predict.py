"""``stn predict``: pictures of any size read, one row or one object a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stn_command import Stn

from stn_core.fullsize import localize_full
from stn_core.motion import motion_of
from stn_core.pictures import decode_picture
from stn_core.resizing import as_input

WIDTHS = [28, 42, 56]


def test_a_folder_is_read_as_the_engine_reads_it(stn: Stn, scans: list[int], engine: object, tmp_path: Path) -> None:
    done = stn("predict", "scans", "--json")
    assert (done.status, len(done.entries)) == (0, 10)
    assert "10 of 10 files done;" in done.stderr
    assert [entry["file"] for entry in done.entries] == [f"scans/{number}.png" for number in range(10)]
    pictures = [decode_picture(tmp_path / entry["file"]) for entry in done.entries]
    theta = localize_full(engine, pictures)
    small = np.stack([as_input(picture, (28, 28, 1)) for picture in pictures])
    label, probabilities = engine.classify(engine.warp(small, theta))
    for number, entry in enumerate(done.entries):
        assert entry["source_size"] == [28 + 28 * (number % 2), WIDTHS[number % 3]]
        assert np.allclose(entry["theta"], theta[number], atol=1e-6)
        assert np.allclose(entry["probabilities"], probabilities[number], atol=1e-5)
        assert (entry["label"], entry["class"]) == (label[number], str(label[number]))
        assert entry["probability"] == max(entry["probabilities"])
        assert "decision" not in entry
    assert sum(entry["label"] == label for entry, label in zip(done.entries, scans, strict=True)) >= 8


def test_the_table_says_the_same(stn: Stn, scans: list[int]) -> None:
    entries = stn("predict", "scans", "--json").entries
    heading, *rows = stn("predict", "scans/*.png").stdout.splitlines()
    assert heading.split() == ["class", "probability", "turn,", "deg", "scale", "file"]
    for row, entry in zip(rows, entries, strict=True):
        numbers = [entry["class"], f"{entry['probability']:.4f}", f"{entry['turn_deg']:.1f}", f"{entry['scale']:.2f}"]
        assert row.split() == [*numbers, entry["file"]]


def test_the_turn_and_the_scale_are_those_of_the_picture(
    stn: Stn, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    digit = Image.fromarray(digits[0][1, ..., 0])
    digit.save(tmp_path / "straight.png")
    digit.rotate(30, Image.Resampling.BILINEAR).save(tmp_path / "turned.png")
    straight, turned = stn("predict", "straight.png", "turned.png", "--json").entries
    for entry in (straight, turned):
        measured = motion_of([entry["theta"]], (28, 28), (28, 28))
        assert entry["turn_deg"] == pytest.approx(measured.turn_deg[0], abs=0.2)
        assert entry["scale"] == pytest.approx(measured.scale[0])  # whatever the number of pixels
    assert turned["turn_deg"] > straight["turn_deg"] + 10


def test_what_is_bad_is_one_row_and_the_rest_is_done(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    whole = (tmp_path / "scans" / "1.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[:-60])
    (tmp_path / "empty").mkdir()
    words = ["scans/0.png", "nope.png", "broken.png", "empty", "scans/1.png", "scans/2.png", "scans"]
    done = stn("predict", "--json", *words)
    assert done.status == 1
    assert "13 of 16 files done, 3 failed;" in done.stderr
    assert [entry["file"] for entry in done.entries][:6] == words[:6]
    missing, broken, empty = (entry["error"] for entry in done.entries[1:4])
    assert missing["detail"].endswith("cannot read the file 'nope.png': No such file or directory")
    assert (broken["type"], broken["status"]) == ("urn:stn:error:bad-tensor", 400)
    assert "broken: " in broken["detail"]
    assert empty["detail"] == "images: expected pictures in the folder 'empty', found none"
    alone = stn("predict", "--json", "nope.png")
    assert (alone.status, alone.entries) == (1, [done.entries[1]])
    table = stn("predict", *words[:3])
    assert table.stdout.splitlines()[2].split(maxsplit=2)[:2] == ["error", "nope.png:"]
    # A bad one changes nothing of the others.
    good = stn("predict", "--json", "scans").entries
    assert [entry["label"] for entry in done.entries[6:]] == [entry["label"] for entry in good]


def test_a_picture_that_is_too_large_is_one_row(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "scans" / "4.png")
    done = stn("predict", "scans", "--json")
    assert done.status == 1
    assert ["error" in entry for entry in done.entries] == [number == 4 for number in range(10)]
    assert done.entries[4]["error"]["type"] == "urn:stn:error:too-large"


def test_a_name_may_be_any_bytes(stn: Stn, scans: list[int], tmp_path: Path) -> None:
    (tmp_path / "scans" / "3.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/scans/\xff[.png"))
    done = stn("predict", "scans", "--json")
    assert done.status == 0
    assert [entry["file"] for entry in done.entries][-1] == "scans/\N{REPLACEMENT CHARACTER}[.png"
    (tmp_path / "scans" / "4.png").rename(tmp_path / "scans" / "\n\x1b[2J.png")
    shown = stn("predict", "scans").stdout
    assert shown.count("\n") == 11
    assert "\x1b" not in shown


def test_paths_come_from_the_standard_input(stn: Stn, scans: list[int]) -> None:
    done = stn("predict", "-", "--json", stdin=b"scans/4.png\nscans/3.png\n")
    assert [entry["file"] for entry in done.entries] == ["scans/4.png", "scans/3.png"]
    nothing = stn("predict", "-", "--json")
    assert (nothing.status, nothing.stdout) == (0, "")
    assert "0 of 0 files done" in nothing.stderr


def test_with_a_limit_the_decision_is_told(stn: Stn, scans: list[int]) -> None:
    decided = stn("predict", "scans", "--json", "--max-turn-deg", 0).entries
    assert {entry["decision"] for entry in decided} == {"kept"}
    assert {entry["reason"] for entry in decided} <= {"turn", "already-straight", "scale", "shear", "content-lost"}
    assert all(entry["theta"] == [[1, 0, 0], [0, 1, 0]] for entry in decided)
    by_the_bundle = stn("predict", "scans", "--json", "--decide").entries
    assert {entry["decision"] for entry in by_the_bundle} <= {"rectified", "kept"}
    sure = stn("predict", "scans", "--min-confidence", "0.01")
    heading, first, *_ = sure.stdout.splitlines()
    assert heading.split()[-3:] == ["decision", "confidence", "file"]
    assert 0 <= float(first.split()[-2]) <= 1
    refused = stn("predict", "scans", "--min-confidence", "2")
    assert refused.status == 2
    assert "--min-confidence" in refused.stderr


def test_more_files_than_one_request_takes_keep_their_order(
    stn: Stn, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "many").mkdir()
    for number in range(300):
        Image.fromarray(digits[0][number, ..., 0]).save(tmp_path / "many" / f"{number:03}.png")
    (tmp_path / "many" / "150.png").write_bytes(b"none")
    entries = stn("predict", "many", "--json").entries
    assert [entry["file"] for entry in entries] == [f"many/{number:03}.png" for number in range(300)]
    right = sum(entry.get("label") == label for entry, label in zip(entries, digits[1][:300], strict=True))
    assert right >= 290
    assert [number for number, entry in enumerate(entries) if "error" in entry] == [150]
