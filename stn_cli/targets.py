"""Where results go below ``--out``: names that are each given once, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path, PurePath
from typing import BinaryIO

import orjson

from stn_core.errors import InvalidInput


class Targets:
    """Files below ``out``; none that is there already is written, unless it may be ``overwrite``-d."""

    def __init__(self, out: Path, overwrite: bool) -> None:
        if out.exists() and not out.is_dir():
            raise InvalidInput(f"--out: expected a folder, but {str(out)!r} is none")
        self.out, self._overwrite = out, overwrite
        self._taken: set[str] = set()

    def of(self, place: PurePath, endings: Sequence[str]) -> list[Path]:
        """A file for each of the ``endings``, named after ``place`` below the folder that the source was found in.

        Where another source of this run has that name, a number tells them apart. InvalidInput if a file is there.
        """
        stem, number = str(place.with_suffix("")), 1
        names = [stem + ending for ending in endings]
        while not self._taken.isdisjoint(names):
            number += 1
            names = [f"{stem}~{number}{ending}" for ending in endings]
        self._taken.update(names)
        files = [self.out / name for name in names]
        for file in files:
            self.check(file)
        return files

    def check(self, file: Path) -> None:
        """InvalidInput if ``file`` may not be written."""
        if not self._overwrite and os.path.lexists(file):
            raise InvalidInput(f"{str(file)!r} is there already; --overwrite replaces it")


def shown(file: str | Path) -> str:
    """The path as texts show it, whatever bytes it has."""
    return os.fsencode(file).decode("utf-8", "replace")


def write_whole(file: Path, content: bytes) -> None:
    """Writes ``file``, with the folders that it lies in; InvalidInput, and no file, if that fails."""
    try:
        with whole_file(file) as stream:
            stream.write(content)
    except OSError as error:
        raise InvalidInput(f"cannot write {str(file)!r}: {error.strerror}") from None


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """A stream to a file that takes its place when the block ends well, and is gone if it does not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".stn-{os.getpid()}.part")  # hidden, and no longer than any name may be
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


class LineFile:
    """A file of JSON lines, one for each result, begun with the first; it is whole lines however the run ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: FileIO | None = None

    def add(self, document: object) -> None:
        """Writes one line; InvalidInput if that fails."""
        line = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        try:
            if self._stream is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._stream = FileIO(self._file, "wb")
            self._stream.write(line)
        except OSError as error:
            raise InvalidInput(f"cannot write {str(self._file)!r}: {error.strerror}") from None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
