"""The results of one shard as files: pictures and JSON lines, a parquet file, or a WebDataset tar; each is whole."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Literal, Protocol

import orjson
import pyarrow
from pyarrow.parquet import ParquetWriter

from stn_bulk.places import Place
from stn_bulk.results import ANNOTATIONS, Result

Format = Literal["files", "parquet", "webdataset"]
_GROUP_BYTES, _GROUP_ROWS = 2**25, 1000

_THETA = pyarrow.list_(pyarrow.list_(pyarrow.float64()))
_SIZE = pyarrow.list_(pyarrow.int64())
_TYPES = {
    "file": pyarrow.string(),
    "copy": pyarrow.int64(),
    "decision": pyarrow.string(),
    "reason": pyarrow.string(),
    "confidence": pyarrow.float32(),
    "label": pyarrow.int64(),
    "class": pyarrow.string(),
    "probability": pyarrow.float32(),
    "probabilities": pyarrow.list_(pyarrow.float32()),
    "theta": _THETA,
    "theta_rectifying": _THETA,
    "exact": pyarrow.bool_(),
    "rectified_size": _SIZE,
    "source_size": _SIZE,
    "size": _SIZE,
    "turn_deg": pyarrow.float64(),
    "scale": pyarrow.float64(),
    ANNOTATIONS: pyarrow.string(),
    "name": pyarrow.string(),
    "image": pyarrow.binary(),
    "mask": pyarrow.binary(),
}
"""Of every column that a result may have, its type in a parquet file."""


class Part(Protocol):
    """Takes the results of a shard, one after another."""

    def add(self, result: Result) -> None: ...


def part_name(kind: Format, number: int) -> str:
    """Where the part of a shard lies below the destination."""
    ending = {"files": "jsonl", "parquet": "parquet", "webdataset": "tar"}[kind]
    return f"{'rows/' if kind == 'files' else ''}part-{number:06d}.{ending}"


@contextlib.contextmanager
def new_part(out: Place, kind: Format, number: int, columns: list[str]) -> Iterator[Part]:
    """The part of the shard of that number; it is there, whole, when the block ends well."""
    with out.whole(part_name(kind, number)) as stream:
        if kind == "files":
            yield _Lines(out, stream)
        elif kind == "parquet":
            schema = pyarrow.schema([(name, kind) for name, kind in _TYPES.items() if name in columns])
            with ParquetWriter(stream, schema) as writer:
                rows = _Rows(writer, schema)
                yield rows
                rows.flush()
        else:
            with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                yield _Samples(tar)


class _Lines:
    """Pictures as files of their own, and a JSON line a row that names them."""

    def __init__(self, out: Place, stream: IO[bytes]) -> None:
        self._out, self._stream = out, stream

    def add(self, result: Result) -> None:
        for name, content in result.files.values():
            self._out.write(name, content)
        self._stream.write(_json({**result.row, **{column: name for column, (name, _) in result.files.items()}}))


class _Rows:
    """A parquet file with the pictures in it; ``name`` is what the image would be called as a file."""

    def __init__(self, writer: ParquetWriter, schema: pyarrow.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, result: Result) -> None:
        row = {**result.row, **{column: content for column, (_, content) in result.files.items()}}
        if "image" in result.files:
            row["name"] = result.files["image"][0]
        if ANNOTATIONS in row:
            row[ANNOTATIONS] = orjson.dumps(row[ANNOTATIONS], option=orjson.OPT_SERIALIZE_NUMPY).decode()
        self._rows.append(row)
        self._bytes += sum(len(content) for _, content in result.files.values())
        if self._bytes >= _GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows, self._bytes = [], 0


class _Samples:
    """A WebDataset: of each image its file, and its row as JSON, under one key."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, result: Result) -> None:
        for name, content in result.files.values():
            self._member(name, content)
        self._member(os.path.splitext(result.files["image"][0])[0] + ".json", _json(result.row))

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # of no time and nobody, so that it is the same whenever it is made
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        self._tar.members = []  # type: ignore[attr-defined]  # which it else keeps


def _json(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
