"""The pictures of a shard, read and decoded one after another; one that cannot be is told of, and the next is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile

from stn_bulk.places import Place
from stn_bulk.shards import Item, Shard, name_of
from stn_core.canvas import MAX_PIXELS
from stn_core.errors import BadTensor, InvalidInput, StnError
from stn_core.pictures import decode_picture

MAX_FILE_BYTES = 2**28
_READERS = 16
"""Files that are asked for at a time where each takes its way over a network."""
_ROWS = 64


class Picture(NamedTuple):
    """A picture ``uint8 [H, W, C]``, gray or in colour; what results call it, and how they are named."""

    file: str
    stem: str
    pixels: NDArray[np.uint8]
    annotations: Any | None


class Failure(NamedTuple):
    """A picture that nothing came of, and why."""

    file: str
    error: StnError


def pictures_of(shard: Shard, column: str, with_opacity: bool) -> Iterator[Picture | Failure]:
    """The pictures of ``shard`` in its order, with a fourth channel only ``with_opacity``."""
    contents = _rows(shard, column) if shard["kind"] == "parquet" else _files(shard)
    for item, content in zip(shard["items"], contents, strict=True):
        file = name_of(shard, item)
        try:
            if isinstance(content, StnError):
                raise content
            pixels = _decoded(content, 4 if with_opacity else None)
            yield Picture(file, item["stem"], pixels, item.get("annotations"))
        except StnError as error:
            yield Failure(file, error)


def _files(shard: Shard) -> Iterator[bytes | StnError]:
    """The bytes of files, or of members of a tar."""
    place = Place(shard["folder"])

    def read(item: Item) -> bytes | StnError:
        try:
            if "error" in item:
                raise InvalidInput(f"images: {item['error']}")
            if item["bytes"] > MAX_FILE_BYTES:
                raise InvalidInput(f"images: expected at most {MAX_FILE_BYTES} bytes, got {item['bytes']}")
            if shard["kind"] == "tar":
                return place.read(shard["within"], item["offset"], item["bytes"])
            return place.read(item["at"])
        except StnError as error:
            return error

    if place.is_local:
        yield from map(read, shard["items"])
        return
    with ThreadPoolExecutor(_READERS) as pool:
        items = iter(shard["items"])
        while part := list(islice(items, 2 * _READERS)):
            yield from pool.map(read, part)


def _rows(shard: Shard, column: str) -> Iterator[Any]:
    """The values of ``column`` in the shard's groups of rows; errors for those that cannot be read."""
    import ray.data  # noqa: F401  which makes its types of arrays known to pyarrow

    for group, items in groupby(shard["items"], key=lambda item: item["group"]):
        left = len(list(items))
        try:
            with Place(shard["folder"]).open(shard["within"]) as stream, ParquetFile(stream, pre_buffer=False) as file:
                for batch in file.iter_batches(_ROWS, [group], [column]):
                    yield from _values(batch.column(0))
                    left -= len(batch)
        except (StnError, pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            yield from [InvalidInput(f"images: cannot be read: {reason}")] * left


def _values(values: pyarrow.Array) -> Iterable[Any]:
    if isinstance(values, pyarrow.FixedShapeTensorArray):
        return values.to_numpy_ndarray()  # type: ignore[no-any-return]
    if isinstance(values, pyarrow.ExtensionArray):  # Ray's
        return values.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    return map(_plain, values)


def _plain(value: pyarrow.Scalar) -> Any:
    found = value.as_py()
    return found.get("bytes") if isinstance(found, dict) else found  # as Hugging Face has them


def _decoded(content: Any, channels: int | None) -> NDArray[np.uint8]:
    if isinstance(content, bytes):
        return np.ascontiguousarray(decode_picture(content, channels=channels, max_pixels=MAX_PIXELS))
    if content is None:
        raise InvalidInput("images: expected an encoded picture or an array, got nothing")
    try:
        values = np.asarray(content)
    except ValueError:  # rows of several lengths
        values = np.empty(0)
    pixels = values[..., None] if values.ndim == 2 else values
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] not in (1, 3, 4) or pixels.dtype.kind not in "iu":
        raise BadTensor(
            f"images: expected an encoded picture, or whole numbers [H, W] or [H, W, C] of 1, 3 or 4 channels, got "
            f"{values.dtype} {list(values.shape)}"
        )
    if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 255):
        raise BadTensor(f"images: expected numbers from 0 to 255, got {pixels.min()} to {pixels.max()}")
    return np.ascontiguousarray(pixels, np.uint8)
