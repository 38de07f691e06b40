"""Which files there are to be done: what paths, patterns and URIs name, in one order whatever the file system says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import chain
from typing import Literal, NamedTuple, get_args

from pyarrow.fs import FileType

from stn_bulk.places import OWN, Place
from stn_core.errors import InvalidInput

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
Kind = Literal["files", "parquet", "tar"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What a folder is read as: the first of which there is one in it."""
_NO_END = 1 << 30


class File(NamedTuple):
    """A source file: its path ``below`` the root, and its size."""

    below: str
    bytes: int


class Root(NamedTuple):
    """A folder, and the files of one kind that were asked for in it; there is one at least."""

    place: Place
    kind: Kind
    files: Iterator[File]


def find_root(given: str, recursive: bool, skipped: Place) -> Root:
    """What a path, a pattern or a URI names.

    A folder stands for the pictures in it, and below it if ``recursive``; or, if none lies in it itself, for its
    parquet files, or else its tars. Not entered is ``skipped``. InvalidInput if there is nothing.
    """
    if has_magic(given) and not os.path.lexists(given):
        return _matching(given, skipped)
    place = Place(given)
    found = place.info()
    if found.type == FileType.File:
        folder, _, name = given.rpartition("/")
        return Root(_folder(folder, given), _kind_of(name), iter([File(name, found.size or 0)]))
    if found.type != FileType.Directory:
        raise InvalidInput(f"images: expected a file, a folder or a pattern, but there is no {given!r}")
    names = [child.name for child in place.children() if not child.is_folder]
    kinds = [kind for kind in KINDS if any(_is_of(kind, name) for name in names)]
    wanted = kinds[0] if kinds else "files"
    files = (file for file in _walk(place, "", _NO_END if recursive else 1, skipped) if _is_of(wanted, file.below))
    return Root(place, wanted, _some(files, f"pictures in the folder {given!r}"))


def _matching(given: str, skipped: Place) -> Root:
    parts = given.split("/")
    plain = next(number for number, part in enumerate(parts) if has_magic(part))
    place, pattern = _folder("/".join(parts[:plain]), given), parts[plain:]
    levels = _NO_END if "**" in pattern else len(pattern)
    files = (file for file in _walk(place, "", levels, skipped) if _matches(file.below.split("/"), pattern))
    return Root(place, _kind_of(given), _some(files, f"files that match {given!r}"))


def _folder(path: str, given: str) -> Place:
    """The folder of a path: nothing is the one we are in, or the root of all."""
    return Place("/" if not path and given.startswith("/") else path)


def _walk(place: Place, below: str, levels: int, skipped: Place) -> Iterator[File]:
    """The files of a folder, then those of the folders in it, so many levels deep."""
    children = place.children(below)
    prefix = f"{below}/" if below else ""
    yield from (File(prefix + child.name, child.bytes) for child in children if not child.is_folder)
    for child in children if levels > 1 else ():
        inner = prefix + child.name
        if child.is_folder and child.name != OWN and place.at(inner) != skipped.path:
            yield from _walk(place, inner, levels - 1, skipped)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**" and _matches(parts, pattern[1:]):
        return True
    if not parts:
        return False
    rest = pattern if pattern[0] == "**" else pattern[1:]
    return (pattern[0] == "**" or fnmatchcase(parts[0], pattern[0])) and _matches(parts[1:], rest)


def _some(files: Iterator[File], wanted: str) -> Iterator[File]:
    first = next(files, None)
    if first is None:
        raise InvalidInput(f"images: expected {wanted}, found none")
    return chain([first], files)


def _is_of(kind: Kind, name: str) -> bool:
    if kind == "files":
        return os.path.splitext(name)[1].lower() in SUFFIXES
    return _kind_of(name) == kind


def _kind_of(name: str) -> Kind:
    suffix = os.path.splitext(name)[1].lower()
    return "parquet" if suffix == ".parquet" else "tar" if suffix == ".tar" else "files"
