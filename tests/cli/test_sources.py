"""Which files paths, folders, patterns and lists of paths stand for."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path, PurePath

import pytest

from stn_cli.sources import count_sources, find_sources


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "c.txt", ".hidden.png", "x/d.tiff", "x/y/e.webp", "out/f.png", "[1].png"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def found(*given: str, recursive: bool = False, skipped: str | None = None) -> list[tuple[str, str]]:
    return [(one.path, str(one.place)) for one in find_sources(given, recursive, skipped)]


def test_a_folder_stands_for_its_pictures_in_order() -> None:
    here = [("in/[1].png", "[1].png"), ("in/a.JPG", "a.JPG"), ("in/b.png", "b.png")]
    assert found("in") == here
    out, below = ("in/out/f.png", "out/f.png"), [("in/x/d.tiff", "x/d.tiff"), ("in/x/y/e.webp", "x/y/e.webp")]
    assert found("in", recursive=True) == [*here, out, *below]
    assert found("in", recursive=True, skipped=os.path.realpath("in/out")) == [*here, *below]
    assert count_sources(["in"], recursive=True) == 6


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "in" / "x" / "loop").symlink_to(tmp_path / "in")
    assert len(found("in", recursive=True)) == 6


def test_a_file_stands_for_itself_whatever_its_name_looks_like() -> None:
    assert found("in/c.txt", "in/[1].png", "nope.png") == [
        ("in/c.txt", "c.txt"), ("in/[1].png", "[1].png"), ("nope.png", "nope.png"),
    ]  # fmt: skip


def test_a_pattern_keeps_the_folders_below_its_plain_part() -> None:
    assert found("in/**/*.[tw]*") == [
        ("in/c.txt", "c.txt"),
        ("in/x/d.tiff", "x/d.tiff"),
        ("in/x/y/e.webp", "x/y/e.webp"),
    ]
    assert found("in/x/*/e.*") == [("in/x/y/e.webp", "y/e.webp")]


def test_paths_come_from_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"in/b.png\r\n\nin/x\n\xff.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    sources = list(find_sources(["-"], recursive=False))
    assert [one.path for one in sources] == ["in/b.png", "in/x/d.tiff", os.fsdecode(b"\xff.png")]
    assert sources[2].name == "\N{REPLACEMENT CHARACTER}.png"
    assert count_sources(["in", "-"], recursive=False) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("empty", "expected pictures in the folder 'empty', found none"),
        ("in/*.gif", "expected files that match 'in/*.gif', found none"),
    ],
)
def test_what_stands_for_no_file_is_told(given: str, message: str) -> None:
    Path("empty").mkdir()
    (source,) = find_sources([given], recursive=False)
    assert message in str(source.error)
    assert source.place == PurePath(PurePath(given).name)
