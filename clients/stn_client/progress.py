"""Tells how far a call is: to a function of the caller, or with a bar on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from stn_core.errors import InvalidInput

Progress: TypeAlias = bool | Callable[[int, int | None], object]
Tell: TypeAlias = Callable[[int], None]


def checked_progress(progress: object) -> Progress:
    """``progress``; InvalidInput if it is none."""
    if isinstance(progress, bool) or callable(progress):
        return progress
    raise InvalidInput(f"progress: expected True, False or a function of (done, total), got {type(progress).__name__}")


@contextmanager
def telling(progress: Progress, what: str, total: int | None) -> Iterator[Tell]:
    """A function to be told of so many more images done of ``total``, which is None where it is not known."""
    if callable(progress):
        yield _counting(progress, total)
    elif progress:
        with _bar(what, total) as tell:
            yield tell
    else:
        yield lambda images: None


def _counting(report: Callable[[int, int | None], object], total: int | None) -> Tell:
    done = 0

    def tell(images: int) -> None:
        nonlocal done
        done += images
        report(done, total)

    return tell


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"))
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda images: bar.advance(task, images)
