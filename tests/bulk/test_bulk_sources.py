"""What a job finds: one order, names given once, and pictures in whatever form a source has them."""

from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from picture_files import saved
from PIL import Image
from pyarrow import parquet

from stn_bulk.pictures import Failure, Picture, pictures_of
from stn_bulk.places import Place
from stn_bulk.shards import Cut, Names, Shard, Sources, name_of, shards_of
from stn_core.errors import InvalidInput

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3)
FILE = saved(Image.fromarray(PIXELS))


def found(*given: str, recursive: bool = False, images: int = 100, dots: bool = True) -> list[Shard]:
    return list(shards_of(Sources(given, recursive), Place("/nowhere"), Cut((".png",), images, dots)))


def names(*given: str, recursive: bool = False) -> list[str]:
    return [name_of(shard, item) for shard in found(*given, recursive=recursive) for item in shard["items"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "inner/c.png", "inner/deep/d.png", "_stn/e.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(FILE)
    return tmp_path


def test_a_folder_stands_for_its_pictures_by_name(folder: Path) -> None:
    assert names(str(folder)) == [f"{folder}/a.JPG", f"{folder}/b.png"]
    deep = [f"{folder}/inner/c.png", f"{folder}/inner/deep/d.png"]
    assert names(str(folder), recursive=True) == [f"{folder}/a.JPG", f"{folder}/b.png", *deep]
    assert names(f"file://{folder}/inner", recursive=True) == [f"file://{name}" for name in deep]


def test_a_pattern_stands_for_what_matches(folder: Path) -> None:
    assert names(f"{folder}/*/*.png") == [f"{folder}/inner/c.png"]
    assert names(f"local://{folder}/**/?.png")[1:] == [
        f"local://{folder}/inner/c.png", f"local://{folder}/inner/deep/d.png",
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="found none"):
        names(f"{folder}/*.webp")


def test_a_file_system_of_fsspec_is_read_and_written_whole() -> None:
    place = Place("memory://here")
    place.write("in/a.png", FILE)
    with contextlib.suppress(RuntimeError), place.whole("in/b.png") as stream:
        stream.write(FILE)
        raise RuntimeError
    assert [child.name for child in place.children("in")] == ["a.png"]
    (shard,) = found("memory://here/in")
    (picture,) = pictures_of(shard, "image", with_opacity=False)
    assert isinstance(picture, Picture)
    assert picture.file == "memory://here/in/a.png"
    assert np.array_equal(picture.pixels[..., 0], PIXELS)


def test_shards_hold_so_many(folder: Path) -> None:
    for number in range(5):
        (folder / f"{number}.png").write_bytes(FILE)
    assert [len(shard["items"]) for shard in found(str(folder), images=3)] == [3, 3, 1]
    assert found(str(folder), images=3) == found(str(folder), images=3)


def test_files_that_a_shell_has_named_are_cut_alike(folder: Path) -> None:
    given = [f"{folder}/a.JPG", f"{folder}/b.png", f"{folder}/inner/c.png"]
    shards = found(*given)
    assert [len(shard["items"]) for shard in shards] == [2, 1]
    assert names(*given) == given


def test_names_are_given_once() -> None:
    by_folder = Names(Cut((".png", ".mask.png"), 1, dots=True), by_folder=True)
    assert [by_folder.of(name) for name in ("a.jpg", "a.png", "a.mask.png", "x/a.png")] == [
        "a", "a~2", "a.mask~2", "x/a",
    ]  # fmt: skip
    keys = Names(Cut((".png",), 1, dots=False), by_folder=False)
    assert [keys.of(name) for name in ("v1.0/a.b.png", "v1.0/a_b.png")] == ["v1.0/a_b", "v1.0/a_b~2"]


def test_members_of_a_tar_stay_below_the_destination(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (("../../up.png", FILE), ("/0.png", FILE), ("0.json", b"{}"), ("c/1.jpg", FILE)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (shard,) = found(str(tmp_path))
    assert [item["stem"] for item in shard["items"]] == ["up", "0", "c/1"]
    assert name_of(shard, shard["items"][2]) == f"{tmp_path}/x.tar#c/1.jpg"
    for picture in pictures_of(shard, "image", with_opacity=False):
        assert isinstance(picture, Picture)
        assert np.array_equal(picture.pixels[..., 0], PIXELS)


def tensors() -> pyarrow.Array:
    from ray.data.extensions import ArrowTensorArray

    return ArrowTensorArray.from_numpy(np.stack([PIXELS, PIXELS]))


@pytest.mark.parametrize(
    "column",
    [
        lambda: pyarrow.array([FILE, FILE]),
        lambda: pyarrow.array([{"bytes": FILE, "path": "x.png"}] * 2),
        lambda: pyarrow.array([PIXELS.tolist()] * 2),
        lambda: pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.stack([PIXELS, PIXELS])),
        tensors,
    ],
    ids=["files", "structs", "lists", "tensors", "tensors of Ray"],
)
def test_a_column_may_hold_files_or_arrays(column: Any, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"image": column()}), tmp_path / "x.parquet")
    (shard,) = found(str(tmp_path))
    first, second = pictures_of(shard, "image", with_opacity=False)
    assert isinstance(first, Picture)
    assert isinstance(second, Picture)
    assert (first.stem, second.file) == ("x/00000000", f"{tmp_path}/x.parquet#1")
    assert np.array_equal(first.pixels, PIXELS[..., None])


def test_rows_that_are_no_picture_are_told_of(tmp_path: Path) -> None:
    lists = [None, [[1, 2], [3, 400]], [[1, 2], [3]], PIXELS.tolist()]
    parquet.write_table(pyarrow.table({"image": lists}), tmp_path / "x.parquet")
    (shard,) = found(str(tmp_path))
    pictures = list(pictures_of(shard, "image", with_opacity=False))
    said = [str(one.error) for one in pictures if isinstance(one, Failure)]
    assert len(said) == 3
    assert "got nothing" in said[0]
    assert "got 1 to 400" in said[1]
    assert "expected an encoded picture, or whole numbers" in said[2]
    with pytest.raises(InvalidInput, match="--column: expected a column of 'x.parquet', which has image"):
        list(shards_of(Sources((str(tmp_path),), column="pixels"), Place("/nowhere"), Cut((".png",), 9, dots=True)))


def test_rows_that_cannot_be_read_any_more_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"image": [FILE] * 4}), file, row_group_size=2, use_dictionary=False)
    (shard,) = found(str(tmp_path))
    second = parquet.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(file.read_bytes())
    content[second : second + 8] = b"\xff" * 8
    file.write_bytes(content)
    pictures = list(pictures_of(shard, "image", with_opacity=False))
    assert [isinstance(one, Picture) for one in pictures] == [True, True, False, False]


def test_groups_of_rows_are_read_as_they_are(tmp_path: Path) -> None:
    names = [f"{number % 2}/{number}.png" for number in range(10)]
    parquet.write_table(pyarrow.table({"name": names, "image": [FILE] * 10}), tmp_path / "x.parquet", row_group_size=3)
    shards = found(str(tmp_path), images=6)
    assert [[item["row"] for item in shard["items"]] for shard in shards] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert [picture.stem for picture in pictures_of(shards[1], "image", False) if isinstance(picture, Picture)] == [
        "0/6", "1/7", "0/8", "1/9",
    ]  # fmt: skip
