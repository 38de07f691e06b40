"""Files and folders by path or by URI: local ones, and whatever pyarrow or fsspec has a file system for."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import pyarrow
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, FSSpecHandler, LocalFileSystem, PyFileSystem

from stn_core.errors import InvalidInput

OWN = "_stn"
"""The folder in a destination that holds what a job knows of itself."""
TMP = f"{OWN}/tmp"
"""What nobody needs when no job runs."""


class Child(NamedTuple):
    """A file or a folder in a folder; ``bytes`` of a file."""

    name: str
    is_folder: bool
    bytes: int


class Place:
    """A folder, named by a path or a URI; its methods take paths below it. InvalidInput if there is no such system."""

    def __init__(self, given: str) -> None:
        self.given = given
        self.system, self.path = _resolved(given)
        self.is_local = isinstance(self.system, LocalFileSystem)
        self.address = given if "://" in given else self.path
        """What names the same folder to a process that is elsewhere."""
        self._made: set[str] = set()

    def shown(self, below: str) -> str:
        """The path as it was given, and that below."""
        return os.path.join(self.given, below)

    def info(self, below: str = "") -> FileInfo:
        """Whether it is a file, a folder or not there, and its size; InvalidInput if that cannot be told."""
        try:
            return self.system.get_file_info(self.at(below))
        except OSError as error:
            raise InvalidInput(f"cannot reach {self.shown(below)!r}: {_why(error)}") from None

    def children(self, below: str = "") -> list[Child]:
        """What is in a folder, by name; nothing if it is not there. Hidden names are left out."""
        at = self.at(below)
        try:
            found = list(_scanned(at) if self.is_local else self._selected(at))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InvalidInput(f"cannot read the folder {self.shown(below)!r}: {_why(error)}") from None
        return sorted(child for child in found if not child.name.startswith("."))

    def read(self, below: str, offset: int = 0, count: int | None = None) -> bytes:
        """A file's bytes, or ``count`` of them from ``offset`` on; InvalidInput if it cannot be read."""
        try:
            if self.is_local:
                with open(self.at(below), "rb", buffering=0) as file:
                    file.seek(offset)
                    return file.read(-1 if count is None else count)
            with self.system.open_input_file(self.at(below)) as stream:
                return bytes(stream.read() if count is None else stream.read_at(count, offset))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read the file {self.shown(below)!r}: {_why(error)}") from None

    def open(self, below: str) -> Any:
        """A file to read from anywhere in it; InvalidInput if that fails."""
        try:
            return self.system.open_input_file(self.at(below))
        except OSError as error:
            raise InvalidInput(f"cannot read the file {self.shown(below)!r}: {_why(error)}") from None

    @contextlib.contextmanager
    def whole(self, below: str) -> Iterator[IO[bytes]]:
        """A stream to a file that takes its place when the block ends well; it is there whole or not at all."""
        part = f"{TMP}/{uuid.uuid4().hex}"
        try:
            with self._created(part) as stream:
                yield stream
            self._folder_of(below)
            if self.is_local:
                os.replace(self.at(part), self.at(below))
            else:
                self.system.move(self.at(part), self.at(below))
        except OSError as error:
            raise InvalidInput(f"cannot write {self.shown(below)!r}: {_why(error)}") from None

    def write(self, below: str, content: bytes) -> None:
        """Writes a file, whole or not at all."""
        with self.whole(below) as stream:
            stream.write(content)

    def drop_temporary(self) -> None:
        """Removes what lies in ``TMP``: also what writers that were killed have left."""
        with contextlib.suppress(OSError):
            self.system.delete_dir(self.at(TMP))
        self._made.clear()

    def at(self, below: str) -> str:
        """The path within the file system."""
        return f"{self.path}/{below}" if below else self.path

    def _created(self, part: str) -> Any:
        self._folder_of(part)
        return open(self.at(part), "wb") if self.is_local else self.system.open_output_stream(self.at(part))

    def _folder_of(self, below: str) -> None:
        folder = self.at(below).rpartition("/")[0]
        if folder not in self._made:
            self.system.create_dir(folder, recursive=True)
            self._made.add(folder)

    def _selected(self, at: str) -> Iterator[Child]:
        for info in self.system.get_file_info(FileSelector(at)):
            yield Child(info.base_name, info.type == FileType.Directory, info.size or 0)


def _scanned(at: str) -> Iterator[Child]:
    with os.scandir(at) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Child(entry.name, True, 0)
            elif entry.is_file():
                yield Child(entry.name, False, entry.stat().st_size)


def _resolved(given: str) -> tuple[FileSystem, str]:
    if "://" not in given:
        return LocalFileSystem(), os.path.abspath(given)
    try:
        system, path = FileSystem.from_uri(given)
    except pyarrow.ArrowInvalid:  # no scheme of pyarrow's
        system, path = _by_fsspec(given)
    except OSError as error:
        raise InvalidInput(f"cannot reach {given!r}: {_why(error)}") from None
    return system, path.rstrip("/")


def _by_fsspec(given: str) -> tuple[FileSystem, str]:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(given)
    except (ValueError, ImportError) as error:
        raise InvalidInput(
            f"{given!r}: expected a path, or a URI of a file system that is known here: {error}"
        ) from None
    return PyFileSystem(FSSpecHandler(system)), path


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).partition("\n")[0]
