"""Annotations by the names of their files: as a JSON object, or as JSON lines with ``file`` and ``annotations``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from stn_cli.sources import Source
from stn_core.annotations import Annotations
from stn_core.errors import InvalidInput, StnError, brief

FILE, ANNOTATIONS = "file", "annotations"


class AnnotationsByFile:
    """What is in the file ``path``; InvalidInput if it is of neither form. Each is checked when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = dict(_named(path))
        self._left = set(self._found)

    @property
    def left(self) -> list[str]:
        """The names that nothing was asked for by."""
        return sorted(self._left)

    def of(self, source: Source) -> Annotations | None:
        """Those of a source, by its path or by its place below the folder it was found in; None if there are none."""
        return self.at(source.name) or self.at(str(source.place))

    def at(self, name: str) -> Annotations | None:
        """Those by this very name; InvalidInput, with the name, if they are none."""
        if name not in self._found:
            return None
        self._left.discard(name)
        try:
            return Annotations.from_json(self._found[name])
        except StnError as error:
            raise InvalidInput(f"{self._path}: {name}: {error}") from None


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The documents in a file of JSON lines, with their numbers from 1; InvalidInput says where it is none."""
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, orjson.loads(line)
    except OSError as error:
        raise InvalidInput(f"cannot read the file {str(path)!r}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{path}: expected a JSON object on line {number}, got what does not parse: {error}"
        ) from None


def _named(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        whole = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read the file {str(path)!r}: {error.strerror}") from None
    except orjson.JSONDecodeError:
        whole = None
    if isinstance(whole, dict) and not {FILE, ANNOTATIONS} <= whole.keys():
        yield from whole.items()
        return
    for number, line in read_lines(path):
        if not isinstance(line, dict) or not isinstance(line.get(FILE), str) or ANNOTATIONS not in line:
            raise InvalidInput(
                f'{path}: expected {{"{FILE}": name, "{ANNOTATIONS}": {{...}}}} on line {number}, or one object with '
                f"annotations by the names of the files, got {brief(line)}"
            )
        yield line[FILE], line[ANNOTATIONS]
