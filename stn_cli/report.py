"""What the commands for files print: a table or JSON lines on the standard output, how far they are on the other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stn_cli.endings import FAILED, NobodyReads
from stn_core.errors import StnError

Entry = Mapping[str, Any]
"""What came of a file, or of a copy of it: ``file``, and numbers by name, or its problem document as ``error``."""


class Column(NamedTuple):
    """A column of the table: its heading, its width, and what it shows of an entry. The file's name is the last one."""

    heading: str
    width: int
    text: Callable[[Entry], str]


def failure(name: str, error: StnError) -> Entry:
    return {"file": name, "error": error.problem()}


class Report:
    """Prints entries as they come, and counts them; to be used in ``with``, which ends with a line on how it went.

    ``count`` tells how many files there are, where a bar asks for it.
    """

    def __init__(
        self, columns: Sequence[Column], as_json: bool, progress: bool | None, count: Callable[[], int | None]
    ) -> None:
        self._columns, self._as_json = columns, as_json
        self._in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar = self._new_bar() if (self._console.is_terminal if progress is None else progress) else None
        self._count = count
        self._files = self._failed = 0

    def __enter__(self) -> Self:
        self._started_s = time.perf_counter()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("files", total=self._count())
        if not self._as_json:
            headings = (column.heading.rjust(column.width) for column in self._columns)
            _print("  ".join([*headings, "file"]) + "\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is None or (self._files and issubclass(kind, StnError)):
            seconds = time.perf_counter() - self._started_s
            done = f"{self._files - self._failed:,} of {self._files:,} files done"
            failed = f", {self._failed:,} failed" if self._failed else ""
            self._console.print(f"{done}{failed}; {seconds:.1f} s, {self._files / seconds:.0f} a second")

    def add(self, files: Sequence[Sequence[Entry]]) -> None:
        """Prints what came of some files, of each an entry, or one a copy."""
        self._files += len(files)
        self._failed += sum(any("error" in entry for entry in entries) for entries in files)
        write = self._json if self._as_json else self._row
        _print("".join(write(entry) for entries in files for entry in entries))
        if self._bar is not None:
            self._bar.advance(self._task, len(files))

    def end(self) -> None:
        """Ends the command, with the status that tells of files that failed."""
        if self._failed:
            raise typer.Exit(FAILED)

    def _json(self, entry: Entry) -> str:
        return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE).decode()

    def _row(self, entry: Entry) -> str:
        if "error" in entry:
            cells = " " * (sum(column.width + 2 for column in self._columns) - 7)
            said = _printable(f"{entry['file']}: {entry['error']['detail']}")
            return f"{self._coloured('error')}{cells}  {said}\n"
        cells = "  ".join(column.text(entry).rjust(column.width) for column in self._columns)
        return f"{cells}  {_printable(entry['file'])}\n"

    def _coloured(self, text: str) -> str:
        return typer.style(text, fg="red", bold=True) if self._in_colour else text

    def _new_bar(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        # Rows go above the bar where both are on one terminal; else the standard output is none of the bar's business.
        return Progress(*columns, *times, console=self._console, transient=True, redirect_stdout=sys.stdout.isatty())


def print_json(document: object) -> None:
    """A JSON document as one line."""
    _print(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE).decode())


def _printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or more, which a file's name may hold."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _print(text: str) -> None:
    """NobodyReads if the reader of the standard output has gone."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise NobodyReads from None
