"""A job on disk: what is to be done and how, which shards are done, and what failed.

In the destination lies a folder ``_stn``: ``job.json``, which says all that the results follow from; ``shards.jsonl``,
a shard a line; and a file in ``done/`` for each shard that is done, with its counts and its failures. That file is
written last, whole or not at all, and nothing else tells that a shard is done: so a job that was killed goes on with
the others, and what it writes again of those under way are the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple, Self

import orjson
from pyarrow.fs import FileType

from stn_bulk.places import OWN, TMP, Place
from stn_bulk.shards import Shard
from stn_core.errors import InvalidInput, brief

ERRORS = "errors.jsonl"
_JOB, _SHARDS, _DONE = f"{OWN}/job.json", f"{OWN}/shards.jsonl", f"{OWN}/done"


class Line(NamedTuple):
    """Where in ``shards.jsonl`` a shard is told of, and how many images it has."""

    number: int
    offset: int
    bytes: int
    images: int


class Count(NamedTuple):
    """Images of shards that are done, and those of them that failed."""

    images: int
    failed: int


class Plan:
    """The shards of a job, in a temporary file; to be used in ``with``."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.lines: list[Line] = []
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        digest, offset = hashlib.sha256(), 0
        for number, shard in enumerate(shards):
            line = orjson.dumps(shard, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
            self._file.write(line)
            digest.update(line)
            self.lines.append(Line(number, offset, len(line), len(shard["items"])))
            offset += len(line)
        self.sha256 = digest.hexdigest()
        self.images = sum(line.images for line in self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def copy_to(self, stream: IO[bytes]) -> None:
        self._file.seek(0)
        while block := self._file.read(2**20):
            stream.write(block)


def begin(out: Place, plan: Plan, follows_from: Mapping[str, Any]) -> None:
    """Makes ``out`` this job's; InvalidInput if it is another job's, or holds what is no job's."""
    sources = {"sha256": plan.sha256, "images": plan.images, "shards": len(plan.lines)}
    job = orjson.loads(orjson.dumps({**follows_from, "sources": sources}))
    if out.info(_JOB).type == FileType.File:
        _check_same(out, orjson.loads(out.read(_JOB)), job)
        out.drop_temporary()
        return
    if out.info().type == FileType.File:
        raise InvalidInput(f"--out: expected a folder, but {out.given!r} is a file")
    others = [child.name for child in out.children() if child.name != OWN]
    if others:
        raise InvalidInput(
            f"--out: expected a folder that is empty, or this job's to go on with, but in {out.given!r} there is "
            f"{brief(others[0])} and no job; name another folder"
        )
    out.drop_temporary()
    with out.whole(_SHARDS) as stream:
        plan.copy_to(stream)
    out.write(_JOB, orjson.dumps(job, option=orjson.OPT_INDENT_2))


def read_shard(out: Place, offset: int, count: int) -> Shard:
    """The shard that so many bytes of ``shards.jsonl`` tell of."""
    shard: Shard = orjson.loads(out.read(_SHARDS, offset, count))
    return shard


def done_numbers(out: Place) -> set[int]:
    """The numbers of the shards that are done."""
    names = (child.name.partition(".") for child in out.children(_DONE))
    return {int(stem) for stem, _, ending in names if ending == "json" and stem.isdigit()}


def count_try(out: Place, number: int) -> int:
    """How many times the shard was begun since the job was, this one included."""
    name = f"{TMP}/tries/{number:06d}"
    tries = 1 + (int(out.read(name)) if out.info(name).type == FileType.File else 0)
    out.write(name, str(tries).encode())
    return tries


def mark_done(out: Place, number: int, images: int, failures: list[Mapping[str, Any]]) -> None:
    """Tells that a shard is done: the last that is written of it."""
    out.write(_done_name(number), orjson.dumps({"images": images, "failures": failures}))


def finish(out: Place, plan: Plan) -> Count:
    """Gathers the failures of all shards in ``errors.jsonl``, which is there only if there are some."""
    failed = 0
    with contextlib.ExitStack() as stack:
        errors: IO[bytes] | None = None
        for line in plan.lines:
            for failure in _failures(out, line.number):
                if errors is None:
                    errors = stack.enter_context(out.whole(ERRORS))
                errors.write(orjson.dumps(failure, option=orjson.OPT_APPEND_NEWLINE))
                failed += 1
    out.drop_temporary()
    return Count(plan.images, failed)


def _failures(out: Place, number: int) -> Iterator[Mapping[str, Any]]:
    yield from orjson.loads(out.read(_done_name(number)))["failures"]


def _done_name(number: int) -> str:
    return f"{_DONE}/{number:06d}.json"


def _check_same(out: Place, there: dict[str, Any], wanted: dict[str, Any]) -> None:
    others = list(_differences(there, wanted, ""))
    if others:
        raise InvalidInput(
            f"--out: {out.given!r} has a job that was begun otherwise, {'; '.join(others[:4])}; go on with it as it "
            "was begun, or name another folder"
        )


def _differences(there: Any, wanted: Any, place: str) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in {**there, **wanted}:
            yield from _differences(there.get(name), wanted.get(name), f"{place}.{name}" if place else name)
    elif there != wanted:
        yield f"{place}: {brief(there)} there, {brief(wanted)} now"
