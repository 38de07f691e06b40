"""The pictures of a job cut into shards: the same sources give the same shards, whatever becomes of them.

A shard is a JSON object: ``kind`` (``files``, ``tar`` or ``parquet``); ``root``, as it was given, and ``folder``, the
same for a process that is elsewhere; ``within``, which file below it, for the last two kinds; and ``items``: of each
the ``stem`` that its results are named by, and where it lies.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from itertools import chain, groupby
from typing import Any, NamedTuple

import pyarrow
from pyarrow.parquet import ParquetFile

from stn_bulk.listing import SUFFIXES, Kind, Root, find_root
from stn_bulk.places import Place
from stn_core.errors import InvalidInput

NAME_COLUMNS = ("name", "path", "file", "__key__")
"""Columns of a parquet file that tell what a row's picture is called; the first that is there does."""
MAX_SHARD_BYTES = 2**26
_BUFFER_BYTES = 2**20

Item = dict[str, Any]
Shard = dict[str, Any]


class Sources(NamedTuple):
    """What to take: ``given`` paths, patterns or URIs, folders below folders if ``recursive``, of parquet ``column``.

    ``annotations_of`` gives those of a picture by its name and its place below its root; None if it has none.
    """

    given: tuple[str, ...]
    recursive: bool = False
    column: str = "image"
    annotations_of: Callable[[str, str], Any] | None = None


class Cut(NamedTuple):
    """How results are named and shards cut: ``endings`` of what is made of a stem, and images a shard at most.

    Without ``dots`` no name may have one before its ending.
    """

    endings: tuple[str, ...]
    images: int
    dots: bool


class Names:
    """Stems that are each given once: where one has been, a number tells the next apart.

    Of folders that come one after another, and are each another one, only the names in the last are remembered.
    """

    def __init__(self, cut: Cut, by_folder: bool) -> None:
        self._endings, self._dots, self._by_folder = cut.endings, cut.dots, by_folder
        self._taken: set[str] = set()
        self._folder: str | None = None

    def of(self, place: str) -> str:
        """The stem of the results of the picture at ``place``, its path below its root."""
        stem = os.path.splitext(place)[0]
        folder, _, name = stem.rpartition("/")
        if not self._dots:
            stem = stem[: len(stem) - len(name)] + name.replace(".", "_")
        if self._by_folder and folder != self._folder:
            self._taken.clear()
            self._folder = folder
        unique, number = stem, 1
        while not self._taken.isdisjoint(unique + ending for ending in self._endings):
            number += 1
            unique = f"{stem}~{number}"
        self._taken.update(unique + ending for ending in self._endings)
        return unique


def shards_of(sources: Sources, skipped: Place, cut: Cut) -> Iterator[Shard]:
    """The shards of all sources, in order; InvalidInput if one of ``sources`` names nothing, or is broken."""
    roots = _joined([find_root(given, sources.recursive, skipped) for given in sources.given])
    names = Names(cut, by_folder=len(roots) == 1 and roots[0].kind == "files")
    for root in roots:
        for within, items in _ITEMS[root.kind](root, names, sources, cut.images):
            shard: Shard = {"kind": root.kind, "root": root.place.given, "folder": root.place.address}
            shard |= {"within": within, "items": items}
            if sources.annotations_of is not None:
                for item in items:
                    found = sources.annotations_of(name_of(shard, item), _place_of(root.kind, item))
                    if found is not None:
                        item["annotations"] = found
            yield shard


def _joined(roots: list[Root]) -> list[Root]:
    """Those after one another that are of one folder, as of files that a shell has named, as one."""
    runs = (list(run) for _, run in groupby(roots, key=lambda root: (root.place.given, root.kind)))
    return [run[0]._replace(files=chain.from_iterable(root.files for root in run)) for run in runs]


def name_of(shard: Shard, item: Item) -> str:
    """What results call a picture: its path as it was given, with the number of its row or the name of its member."""
    path = os.path.join(shard["root"], item["at"] if shard["kind"] == "files" else shard["within"])
    return path if shard["kind"] == "files" else f"{path}#{item['row' if shard['kind'] == 'parquet' else 'at']}"


def _place_of(kind: Kind, item: Item) -> str:
    return str(item["stem"] if kind == "parquet" else item["at"])


def _parts(items: Iterable[Item], images: int) -> Iterator[list[Item]]:
    """Runs of ``items``: so many, or fewer of many bytes."""
    part: list[Item] = []
    weight = 0
    for item in items:
        if part and (len(part) == images or weight + item["bytes"] > MAX_SHARD_BYTES):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += item["bytes"]
    if part:
        yield part


Parts = Iterator[tuple[str, list[Item]]]


def _of_files(root: Root, names: Names, _: Sources, images: int) -> Parts:
    def items() -> Iterator[Item]:
        for below, size in root.files:
            try:
                below.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(below).decode("utf-8", "replace")
                yield {"stem": names.of(shown), "at": shown, "bytes": 0, "error": "its name is no UTF-8; rename it"}
            else:
                yield {"stem": names.of(below), "at": below, "bytes": size}

    for part in _parts(items(), images):
        yield "", part


def _of_tars(root: Root, names: Names, _: Sources, images: int) -> Parts:
    for below, _size in root.files:
        try:
            with (
                root.place.open(below) as stream,
                tarfile.open(fileobj=BufferedReader(stream, _BUFFER_BYTES), mode="r:") as tar,
            ):
                for part in _parts(_members(tar, names), images):
                    yield below, part
        except (tarfile.TarError, OSError) as error:
            raise InvalidInput(
                f"{root.place.shown(below)!r}: expected a tar that is not compressed: {str(error).splitlines()[0]}"
            ) from None


def _members(tar: tarfile.TarFile, names: Names) -> Iterator[Item]:
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # which it else keeps
        place = _below(member.name)
        if member.isfile() and place and os.path.splitext(place)[1].lower() in SUFFIXES:
            yield {"stem": names.of(place), "at": member.name, "offset": member.offset_data, "bytes": member.size}


def _of_parquet(root: Root, names: Names, sources: Sources, images: int) -> Parts:
    """Whole groups of rows, as they are read: several small ones, or one that is large."""
    for below, _ in root.files:
        try:
            with root.place.open(below) as stream, ParquetFile(stream) as file:
                for part in _rows(file, below, names, sources, images):
                    yield below, part
        except pyarrow.ArrowInvalid as error:
            raise InvalidInput(f"{root.place.shown(below)!r}: no parquet file: {str(error).splitlines()[0]}") from None


def _rows(file: ParquetFile, below: str, names: Names, sources: Sources, images: int) -> Iterator[list[Item]]:
    columns = {field.name: field.type for field in file.schema_arrow}
    if sources.column not in columns:
        raise InvalidInput(
            f"--column: expected a column of {below!r}, which has {', '.join(columns)}; got {sources.column!r}"
        )
    named = next((name for name in NAME_COLUMNS if name in columns and pyarrow.types.is_string(columns[name])), None)
    part: list[Item] = []
    row = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if part and len(part) + count > images:
            yield part
            part = []
        given = [None] * count if named is None else file.read_row_group(group, [named])[named].to_pylist()
        for name in given:
            place = _below(name) or f"{os.path.splitext(below)[0]}/{row:08d}.png"
            part.append({"stem": names.of(place), "row": row, "group": group, "bytes": 0})
            row += 1
    if part:
        yield part


def _below(name: str | None) -> str | None:
    """A name as a path that stays below a folder; None if nothing is left of it."""
    parts = [part for part in (name or "").split("://")[-1].split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or None


_ITEMS: dict[Kind, Callable[[Root, Names, Sources, int], Parts]] = {
    "files": _of_files,
    "parquet": _of_parquet,
    "tar": _of_tars,
}
