"""The picture files that a command is given: files, folders, patterns, and lists of paths on the standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from glob import has_magic, iglob
from pathlib import PurePath
from typing import NamedTuple

from stn_cli.targets import shown
from stn_core.errors import InvalidInput, StnError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
STANDARD_INPUT = "-"


class Source(NamedTuple):
    """A file: its ``path``, where its results lie below another folder, and why it is none, if that is known."""

    path: str
    place: PurePath
    error: StnError | None = None

    @property
    def name(self) -> str:
        return shown(self.path)


def find_sources(given: Iterable[str], recursive: bool, skipped: str | None = None) -> Iterator[Source]:
    """The files that ``given`` names, one after another, read no further than they are taken.

    A folder stands for the pictures in it, by their suffix and in the order of their names, and below it if
    ``recursive``; a pattern for the files that match; ``-`` for the paths on the standard input, one a line. What
    names no file is a source with an error. The folder ``skipped`` is not entered.
    """
    for one in given:
        if one == STANDARD_INPUT:
            for line in sys.stdin.buffer:
                path = os.fsdecode(line.rstrip(b"\r\n"))
                if path:
                    yield from _found(path, recursive, skipped)
        else:
            yield from _found(one, recursive, skipped)


def count_sources(given: Sequence[str], recursive: bool, skipped: str | None = None) -> int | None:
    """How many there are; None where that shows at the end alone."""
    if STANDARD_INPUT in given:
        return None
    return sum(1 for _ in find_sources(given, recursive, skipped))


def _found(given: str, recursive: bool, skipped: str | None) -> Iterator[Source]:
    if os.path.isdir(given):
        found, wanted = _in_folder(given, PurePath(), recursive, skipped), "pictures in the folder"
    elif has_magic(given) and not os.path.lexists(given):
        found, wanted = _matches(given), "files that match"
    else:
        yield Source(given, _alone(given))
        return
    first = next(found, None)
    if first is None:
        yield _no_source(given, f"expected {wanted} {given!r}, found none")
        return
    yield first
    yield from found


def _in_folder(folder: str, below: PurePath, recursive: bool, skipped: str | None) -> Iterator[Source]:
    """The pictures in ``folder``, then those below it; names that begin with a dot are hidden."""
    try:
        with os.scandir(folder) as entries:
            shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda one: one.name)
    except OSError as error:
        yield _no_source(folder, f"cannot read the folder {folder!r}: {error.strerror}")
        return
    for entry in shown:
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
            yield Source(entry.path, below / entry.name)
    for entry in shown if recursive else ():
        if entry.is_dir(follow_symlinks=False) and (skipped is None or os.path.realpath(entry.path) != skipped):
            yield from _in_folder(entry.path, below / entry.name, recursive, skipped)


def _matches(pattern: str) -> Iterator[Source]:
    """The files that match, each with its place below the part of the pattern that is a plain path."""
    parts = PurePath(pattern).parts
    plain = next(number for number, part in enumerate(parts) if has_magic(part))
    for path in sorted(iglob(pattern, recursive=True)):
        if os.path.isfile(path):
            yield Source(path, PurePath(*PurePath(path).parts[plain:]))


def _no_source(path: str, reason: str) -> Source:
    return Source(path, _alone(path), InvalidInput(f"images: {reason}"))


def _alone(path: str) -> PurePath:
    return PurePath(PurePath(path).name or "image")
