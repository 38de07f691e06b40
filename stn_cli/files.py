"""Runs a command over files: each is prepared, sent, and joined again with what came of it, in its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stn_client.results import Rows

from stn_cli.report import Entry, Report, failure
from stn_cli.sources import Source
from stn_core.annotations import Annotations
from stn_core.errors import StnError

R = TypeVar("R", bound=Rows)


@dataclass
class Job:
    """One file on its way: what is sent of it, where the results go, and what goes with it."""

    source: Source
    image: Any
    targets: Sequence[Path] = ()
    annotations: Annotations | None = None
    entries: list[Entry] = field(default_factory=list)
    rows_to_come: int = 1
    failed: bool = False


Prepare = Callable[[Source], Job]
"""The job of a source; a StnError is what came of it."""
Finish = Callable[[Job, Any, int], Entry]
"""What came of a row of a job, of which it is the copy of that number; a StnError likewise."""


class Files:
    """The files of one run, between being sent and being answered; of all others nothing is kept."""

    def __init__(self, sources: Iterable[Source], prepare: Prepare, finish: Finish, copies: int = 1) -> None:
        self._sources, self._prepare, self._finish, self._copies = sources, prepare, finish, copies
        self._ahead: deque[Job | Sequence[Entry]] = deque()
        self._report: Report | None = None

    def images(self) -> Iterator[Any]:
        """What is to be sent, one after another; what fails before stays behind in its place."""
        for source in self._sources:
            try:
                if source.error is not None:
                    raise source.error
                job = self._prepare(source)
                job.rows_to_come = self._copies
            except StnError as error:
                self._ahead.append([failure(source.name, error)])
                if self._report is not None and (done := self._without_images()):
                    self._report.add(done)  # where nothing is under way: there may be many, and no image for long
            else:
                self._ahead.append(job)
                yield job.image

    def run(self, report: Report, parts: Generator[R, None, None], rows_of: Callable[[R], Iterable[Any]]) -> None:
        """Has ``report`` tell what comes of all files; ``rows_of`` gives a part's rows, each with its ``error``."""
        with report, closing(parts):
            self._report = report
            for done in self._settled(parts, rows_of):
                report.add(done)
        report.end()

    def _settled(self, parts: Iterable[R], rows_of: Callable[[R], Iterable[Any]]) -> Iterator[list[Sequence[Entry]]]:
        """What came of the files that each of ``parts`` finishes, in their order; at last of those that are left."""
        for part in parts:
            done: list[Sequence[Entry]] = []
            for row in rows_of(part):
                done += self._without_images()
                job = self._ahead[0]
                assert isinstance(job, Job)
                self._add(job, row)
                if job.rows_to_come == 0:
                    done.append(job.entries)
                    self._ahead.popleft()
            yield done
        yield self._without_images()

    def _without_images(self) -> list[Sequence[Entry]]:
        done: list[Sequence[Entry]] = []
        while self._ahead:
            first = self._ahead[0]
            if isinstance(first, Job):
                break
            done.append(first)
            self._ahead.popleft()
        return done

    def _add(self, job: Job, row: Any) -> None:
        number = self._copies - job.rows_to_come
        job.rows_to_come -= 1
        try:
            if row.error is not None:
                raise row.error
            job.entries.append(self._finish(job, row, number))
        except StnError as error:
            if not job.failed:  # the others of its copies need not say so, too
                job.entries.append(failure(job.source.name, error))
            job.failed = True
