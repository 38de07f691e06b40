"""Names for what is written, and files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from stn_cli.targets import LineFile, Targets, whole_file, write_whole
from stn_core.errors import InvalidInput


def names(targets: Targets, place: str, *endings: str) -> list[str]:
    return [str(file.relative_to(targets.out)) for file in targets.of(PurePath(place), endings or (".png",))]


def test_sources_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    targets = Targets(tmp_path, overwrite=False)
    assert names(targets, "x/a.jpg") == ["x/a.png"]
    assert names(targets, "a.png") == ["a.png"]
    assert names(targets, "a.jpg") == ["a~2.png"]
    assert names(targets, "a.webp") == ["a~3.png"]
    assert names(targets, "a.mask.png") == ["a.mask.png"]
    assert names(targets, "a.b.gif", ".png", ".mask.png") == ["a.b.png", "a.b.mask.png"]
    assert names(targets, "a.b.mask.gif") == ["a.b.mask~2.png"]


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.mask.png").symlink_to("nowhere")
    targets = Targets(tmp_path, overwrite=False)
    for place in ("a.jpg", "b.jpg"):
        with pytest.raises(InvalidInput, match=r"[ab](\.mask)?\.png' is there already; --overwrite replaces it"):
            targets.of(PurePath(place), [".png", ".mask.png"])
    assert names(Targets(tmp_path, overwrite=True), "a.jpg") == ["a.png"]
    with pytest.raises(InvalidInput, match="--out: expected a folder"):
        Targets(tmp_path / "a.png", overwrite=True)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "x" / "a.png"
    with pytest.raises(KeyboardInterrupt):
        _half_written(file)
    assert list(file.parent.iterdir()) == []
    write_whole(file, b"one")
    write_whole(file, b"two")
    assert [(one.name, one.read_bytes()) for one in file.parent.iterdir()] == [("a.png", b"two")]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"cannot write .*file/a.png': (Not a directory|File exists)"):
        write_whole(tmp_path / "file" / "a.png", b"")
    with pytest.raises(InvalidInput, match="cannot write .*: File name too long"):
        write_whole(tmp_path / ("a" * 300), b"")
    with pytest.raises(InvalidInput, match="cannot write"):
        LineFile(tmp_path / "file" / "lines").add({})


def test_lines_are_begun_with_the_first(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "x" / "lines")
    assert not (tmp_path / "x").exists()
    lines.add({"a": [1]})
    lines.add({"a": None})
    assert (tmp_path / "x" / "lines").read_text() == '{"a":[1]}\n{"a":null}\n'  # before it is closed
    lines.close()


def _half_written(file: Path) -> None:
    with whole_file(file) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
