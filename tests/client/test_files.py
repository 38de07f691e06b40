"""Pictures on the disk: which files a path names."""

import os
from pathlib import Path

import pytest
from stn_client import InvalidInput, picture_files
from stn_client.files import read_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("b.png", "a.JPG", "c.jpeg", "notes.txt", "below/d.png"):
        (tmp_path / name).write_bytes(b"some bytes")
    (tmp_path / "no file.png").mkdir()
    return tmp_path


def names(where: Path | str) -> list[str]:
    return [file.name for file in picture_files(where)]


def test_a_folder_is_its_pictures_by_name(folder: Path) -> None:
    assert names(folder) == names(str(folder)) == ["a.JPG", "b.png", "c.jpeg"]


def test_a_pattern_is_whatever_matches(folder: Path) -> None:
    assert names(folder / "*.png") == ["b.png"]
    assert names(f"{folder}/**/*.png") == ["b.png", "d.png"]
    assert names(folder / "*.txt") == ["notes.txt"]


def test_a_file_is_itself_even_if_it_looks_like_a_pattern(folder: Path) -> None:
    odd = folder / "what[1]?.png"
    odd.write_bytes(b"x")
    assert names(odd) == ["what[1]?.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "expected a file, a folder or a pattern, but there is no '.*nowhere'"),
        ("*.gif", r"expected files that match '.*\*.gif', found none"),
        ("below/empty", "expected PNG or JPEG files in the folder '.*empty', found none"),
    ],
)
def test_nothing_is_an_error(folder: Path, name: str, message: str) -> None:
    (folder / "below" / "empty").mkdir()
    with pytest.raises(InvalidInput, match=message):
        picture_files(folder / name)


def test_what_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    assert read_file(folder / "b.png") == b"some bytes"
    for name, message in (
        ("gone.png", "cannot read the file '.*gone.png': No such file or directory"),
        ("below", "expected a picture file, but '.*below' is none"),
        ("pipe", "expected a picture file, but '.*pipe' is none"),
        ("a\0b", "cannot read the file .*null"),
    ):
        with pytest.raises(InvalidInput, match=message):
            read_file(f"{folder}/{name}")
    monkeypatch.setattr("stn_client.files.MAX_FILE_BYTES", 3)
    with pytest.raises(InvalidInput, match=r"expected at most 3 bytes in '.*b.png', got 10"):
        read_file(folder / "b.png")
