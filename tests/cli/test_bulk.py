"""``--bulk``: the results of the commands without it, by real Ray Data jobs, however they are interrupted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pyarrow import parquet
from stn_command import Stn

from stn_bulk.ray_session import ray_session
from stn_core.pictures import decode_picture

STN_CLI = (sys.executable, "-m", "stn_cli")
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
SAME = {"name": "same", "steps": [{"op": "affine", "rotate_deg": [0, 0]}]}


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """A Ray that the jobs of this file share."""
    environment = dict(os.environ)
    with ray_session(None, 2):
        yield
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def classes(scans: list[int], tmp_path: Path) -> Path:
    """The folder ``classes`` with ten pictures in two class folders, and one file that is none."""
    for number in range(10):
        target = tmp_path / "classes" / ("even" if number % 2 == 0 else "odd") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "scans" / f"{number}.png", target)
    (tmp_path / "classes" / "odd" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "classes"


def rows(out: Path) -> list[dict[str, Any]]:
    lines = (line for part in sorted((out / "rows").iterdir()) for line in part.read_bytes().splitlines())
    return [orjson.loads(line) for line in lines]


def tree(out: Path) -> dict[str, bytes]:
    """The results in ``out``: all but what the job knows of itself."""
    files = (file for file in out.rglob("*") if file.is_file() and "_stn" not in file.parts)
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def test_rows_are_those_of_predict_and_bad_files_are_listed(stn: Stn, classes: Path, tmp_path: Path) -> None:
    words = ["predict", "classes", "-r", "--min-confidence", 0.9]
    expected = stn(*words, "--json").entries
    done = stn(*words, "--bulk", "--out", "o", "--shard-images", 4, "--json")
    assert done.status == 1
    assert "10 of 11 images done, 1 failed, see o/errors.jsonl" in done.stderr
    assert (done.entries[0]["images"], done.entries[0]["failed"]) == (11, 1)
    found = rows(tmp_path / "o")
    read = [entry for entry in expected if "error" not in entry]
    assert [row["file"] for row in found] == [entry["file"] for entry in read]
    for row, entry in zip(found, read, strict=True):
        assert row.keys() == entry.keys()
        for name, value in entry.items():
            if name in ("theta", "probabilities", "probability", "confidence", "turn_deg", "scale"):
                np.testing.assert_allclose(row[name], value, atol=1e-4)
            else:
                assert row[name] == value
    errors = [orjson.loads(line) for line in (tmp_path / "o" / "errors.jsonl").read_bytes().splitlines()]
    assert [error["file"] for error in errors] == ["classes/odd/broken.png"]
    assert "not a readable picture" in errors[0]["error"]["detail"]


def test_files_are_those_of_rectify(stn: Stn, classes: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"even/2.png": {"keypoints_px": [[3, 4]]}}')
    words = ["rectify", "classes", "-r", "--canvas", "fit", "--mask", "--annotations", "notes.json"]
    stn(*words, "--out", "one")
    assert stn(*words, "--bulk", "--out", "o").status == 1
    made = {name: content for name, content in tree(tmp_path / "o").items() if name.endswith(".png")}
    assert made == {name: content for name, content in tree(tmp_path / "one").items() if name.endswith(".png")}
    assert len(made) == 20
    (moved,) = [row for row in rows(tmp_path / "o") if "annotations" in row]
    (expected,) = [orjson.loads(line) for line in (tmp_path / "one" / "annotations.jsonl").read_bytes().splitlines()]
    np.testing.assert_allclose(moved["annotations"]["keypoints_px"], expected["annotations"]["keypoints_px"], atol=1e-3)
    assert moved["image"] == "even/2.png"


def test_copies_are_those_of_augment_in_their_class_folders(stn: Stn, classes: Path, tmp_path: Path) -> None:
    words = ["augment", "classes", "-r", "--recipe", "tutorial-mix", "--seed", 5, "--copies", 3]
    expected = stn(*words, "--out", "one", "--json").entries
    stn(*words, "--bulk", "--out", "o", "--shard-images", 3)
    made = {name: content for name, content in tree(tmp_path / "o").items() if name.endswith(".png")}
    assert made == {name: content for name, content in tree(tmp_path / "one").items() if name.endswith(".png")}
    assert len(made) == 30
    for row, entry in zip(rows(tmp_path / "o"), [one for one in expected if "error" not in one], strict=True):
        assert {**row, "image": None} == {**entry, "image": None}
        assert f"one/{row['image']}" == entry["image"]


def test_pictures_go_from_files_to_parquet_to_webdataset_and_back(stn: Stn, classes: Path, tmp_path: Path) -> None:
    (classes / "odd" / "broken.png").unlink()
    (tmp_path / "same.json").write_bytes(orjson.dumps(SAME))
    words = ["augment", "--bulk", "--recipe", "same.json", "--shard-images", 4]
    assert stn(*words, "classes/**/*.png", "--format", "parquet", "--out", f"local://{tmp_path}/p").status == 0
    table = parquet.read_table(tmp_path / "p" / "part-000000.parquet")
    assert table["name"].to_pylist() == ["even/0.png", "even/2.png", "even/4.png", "even/6.png"]
    assert table.schema.field("image").type == "binary"
    assert np.array(table["theta"].to_pylist()).shape == (4, 2, 3)
    assert stn(*words, f"file://{tmp_path}/p", "--format", "webdataset", "--out", f"file://{tmp_path}/w").status == 0
    with tarfile.open(tmp_path / "w" / "part-000000.tar") as tar:
        assert tar.getnames()[:2] == ["even/0.png", "even/0.json"]
        said = tar.extractfile("even/0.json")
        assert said is not None
        assert orjson.loads(said.read())["file"] == f"file://{tmp_path}/p/part-000000.parquet#0"
    assert stn(*words, f"local://{tmp_path}/w", "--out", "back").status == 0
    for file in classes.rglob("*.png"):
        there = tmp_path / "back" / file.relative_to(classes)
        assert np.array_equal(decode_picture(there), decode_picture(file))
    assert len(rows(tmp_path / "back")) == 10


def test_rows_of_predict_as_parquet(stn: Stn, classes: Path, tmp_path: Path) -> None:
    stn("predict", "classes/even", "--bulk", "--format", "parquet", "--out", "o", "--decide")
    found = parquet.read_table(tmp_path / "o" / "part-000000.parquet").to_pylist()
    assert [row["file"] for row in found] == [f"classes/even/{number}.png" for number in range(0, 10, 2)]
    assert set(found[0]) == {
        "file", "theta", "source_size", "label", "class", "probability", "probabilities", "turn_deg", "scale",
        "rectified_size", "decision", "reason", "confidence",
    }  # fmt: skip
    assert all(row["decision"] in ("rectified", "kept") and 0 <= row["confidence"] <= 1 for row in found)
    refused = stn("predict", "classes/even", "--bulk", "--format", "webdataset", "--out", "other")
    assert refused.status == 2
    assert "expected files or parquet" in refused.stderr


def test_a_job_that_was_killed_goes_on_and_its_bytes_are_those_of_one_that_was_not(
    stn: Stn, classes: Path, tmp_path: Path
) -> None:
    words = ["augment", "classes", "-r", "--bulk", "--recipe", "tutorial-mix", "--copies", "400", "--shard-images", "1"]
    stn(*words, "--out", "unbroken", "--workers", 1)
    process = subprocess.Popen(
        [*STN_CLI, *words, "--out", "broken", "--no-progress"],
        cwd=tmp_path,
        env=PATHS,
        stderr=subprocess.DEVNULL,
    )
    markers = tmp_path / "broken" / "_stn" / "done"
    deadline_s = time.monotonic() + 240
    while not (markers.is_dir() and any(markers.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = stn(*words, "--out", "broken", "--json")
    assert done.status == 1
    assert done.entries[0]["done_before"] >= 1
    assert tree(tmp_path / "broken") == tree(tmp_path / "unbroken")
    assert not (tmp_path / "broken" / "_stn" / "tmp").exists()
    again = stn(*words, "--out", "broken", "--json")
    assert again.entries[0]["done_before"] == 11
    found = [(row["file"], row["copy"]) for row in rows(tmp_path / "broken")]
    assert len(found) == len(set(found)) == 4000


def test_a_job_is_not_gone_on_with_otherwise(stn: Stn, classes: Path, tmp_path: Path) -> None:
    words = ["augment", "classes/even", "--bulk", "--recipe", "tutorial-mix", "--out", "o"]
    assert stn(*words, "--seed", 1).status == 0
    before = tree(tmp_path / "o")
    other = stn(*words, "--seed", 2)
    assert other.status == 2
    assert "seed: 1 there, 2 now" in other.stderr.replace("\n", " ")
    shutil.copy(classes / "even" / "0.png", classes / "even" / "new.png")
    assert "sources.images: 5 there, 6 now" in stn(*words, "--seed", 1).stderr.replace("\n", " ")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    full = stn(*words[:-1], "full")
    assert full.status == 2
    assert "'mine.txt' and no job" in full.stderr
    assert tree(tmp_path / "o") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scans", "--workers", 2], "--workers: expected --bulk with it"),
        (["scans", "--format", "parquet"], "--format: expected --bulk with it"),
        (["scans", "--bulk"], "give --out"),
        (["scans", "--bulk", "--out", "o", "--url", "http://there"], "give --url ''"),
        (["scans", "--bulk", "--out", "o", "--overwrite"], "--overwrite: a job goes on"),
        (["-", "--bulk", "--out", "o"], "got -"),
        (["scans", "--bulk", "--out", "o", "--format", "zip"], "--format: expected files, parquet, webdataset"),
        (["nowhere", "--bulk", "--out", "o"], "there is no 'nowhere'"),
        (["scans", "--bulk", "--out", "o", "--canvas", "round"], "canvas: expected one of crop, fit"),
        (["scans", "--bulk", "--out", "o", "--bundle", "none"], "bundle 'none'"),
        (["nosuch://there/x", "--bulk", "--out", "o"], "nosuch://there/x"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[Any], said: str, stn: Stn, scans: list[int], tmp_path: Path
) -> None:
    done = stn("rectify", *words)
    assert done.status == 2
    assert said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "o").exists()


def test_a_cluster_that_is_not_there_is_told_of_at_once(scans: list[int], tmp_path: Path) -> None:
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        done = subprocess.run(
            [*STN_CLI, "rectify", "scans", "--bulk", "--out", "o", "--address", address],
            cwd=tmp_path, env=PATHS, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert f"Ray at {address}: nobody answers" in done.stderr


def test_a_tar_that_is_none_is_told_of(stn: Stn, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing" * 200)
    done = stn("rectify", "x.tar", "--bulk", "--out", "o")
    assert done.status == 2
    assert "expected a tar that is not compressed" in done.stderr


def test_a_set_of_ray_is_distorted_whatever_its_blocks_are(digits: tuple[np.ndarray, np.ndarray]) -> None:
    import ray.data

    from stn_bulk.adapters import ray_distortions
    from stn_core.augment import augment
    from stn_core.draws import Numbering
    from stn_core.recipes import load_recipe

    images, recipe = digits[0][:60], load_recipe("tutorial-mix")
    expected = augment(images, recipe, 7, np.concatenate([Numbering().ids([image]) for image in images]))
    for blocks in (1, 3):
        source = ray.data.from_items(
            [{"image": image, "label": number} for number, image in enumerate(images)], override_num_blocks=blocks
        )
        found = sorted(ray_distortions(source, recipe, 7).take_all(), key=lambda row: row["label"])
        assert np.array_equal(np.stack([row["image"] for row in found]), expected.images)
        np.testing.assert_allclose(np.stack([row["theta"] for row in found]), expected.theta, atol=1e-6)
        assert all(row["exact"] for row in found)


def test_what_bulk_md_shows_of_training_loops_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert capsys.readouterr().out.startswith("(256, 28, 28, 1) (256,) (256, 2, 3)\n")
    assert names["batch"]["image"].shape[1:] == (28, 28, 1)
    assert names["batch"]["theta"].shape[1:] == (2, 3)
