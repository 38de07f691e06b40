"""Forms the images of a call to batches, each of which becomes one request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stn_client.encoded import seen_size
from stn_client.images import Kind, Reading, Ready, ready, sent_dtype
from stn_client.inputs import Beside
from stn_client.splitting import Room
from stn_core.draws import Numbering
from stn_core.errors import StnError

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """Consecutive images of a call: ``index`` has the places of all, ``places`` of those that ``inputs`` have rows of.

    ``errors``, by place, has those that cannot be sent. ``gray``: the channel axis was added here.
    """

    index: range
    places: Sequence[int]
    inputs: Arrays
    gray: bool
    errors: Mapping[int, StnError]

    @property
    def source_size(self) -> tuple[int, int]:
        """The (height, width) of the images; zeros where the beginning of an encoded picture does not tell."""
        images = self.inputs["images"]
        if images.dtype == object:
            return seen_size(images[0]) or (0, 0)
        return images.shape[1], images.shape[2]

    def halves(self) -> tuple[Batch, Batch]:
        """The images to be sent in two parts; the errors stay out."""
        middle = len(self.places) // 2
        first, second = slice(None, middle), slice(middle, None)
        return self._part(first), self._part(second)

    def _part(self, rows: slice) -> Batch:
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return Batch(self.index, self.places[rows], inputs, self.gray, {})


def bare(error: StnError) -> StnError:
    """``error`` to be kept: without the frames that it passed, which hold images."""
    error.__traceback__ = error.__context__ = None
    return error


class Failed(NamedTuple):
    """The end of a source that cannot go on: ``error`` is raised when all before it is done."""

    error: Exception


Formed: TypeAlias = Batch | Failed


class Alongside(NamedTuple):
    """What goes with the images, by the name of the input; ``numbering`` gives ids to those that bring none."""

    given: Mapping[str, Beside]
    numbering: Numbering | None = None

    @property
    def row_bytes(self) -> int:
        ids_bytes = 0 if self.numbering is None else np.uint64().itemsize
        return sum(beside.row_bytes for beside in self.given.values()) + ids_bytes

    def inputs(self, images: NDArray[Any] | None, count: int, rows: slice | list[int]) -> Arrays:
        """All inputs of ``images``, which are the ``rows`` of the next ``count`` ones of the call; None if none is."""
        beside = {name: beside.take(count)[rows] for name, beside in self.given.items()}
        if images is None:
            return {}
        if self.numbering is not None:
            whole = images if images.dtype == object else np.ascontiguousarray(images)
            beside["ids"] = self.numbering.ids(whole)
        return {"images": images, **beside}


def form_array(array: NDArray[Any], room: Room, alongside: Alongside, copies: int = 1) -> Iterator[Batch]:
    """The batches of ``[N, H, W, C]`` or ``[N, H, W]``, each image so many times; of one copy they share its memory."""
    gray = array.ndim == 3
    sent_as = sent_dtype(array.dtype)
    image_bytes = array[0].size * sent_as.itemsize + alongside.row_bytes
    for places in room.split(len(array) * copies, image_bytes):
        rows = slice(places.start, places.stop) if copies == 1 else np.arange(places.start, places.stop) // copies
        images = array[rows].astype(sent_as, copy=False)
        inputs = alongside.inputs(images[..., None] if gray else images, len(places), slice(None))
        yield Batch(places, places, inputs, gray, {})


def form(images: Iterable[object], former: Former) -> Iterator[Formed]:
    """The batches of any iterable, which is read no further than the next batch needs."""
    failed: Exception | None = None
    try:
        for image in images:
            yield from former.push(image)
    except Exception as error:  # the caller's own iterable may raise anything
        failed = error
    yield from former.end(failed)


async def form_async(images: AsyncIterable[object], former: Former) -> AsyncIterator[Formed]:
    """``form`` of an asynchronous iterable; files are read in a thread."""
    failed: Exception | None = None
    try:
        async for image in images:
            is_file = isinstance(image, str | os.PathLike)
            for batch in await asyncio.to_thread(former.push, image) if is_file else former.push(image):
                yield batch
    except Exception as error:
        failed = error
    for last in former.end(failed):
        yield last


class Former:
    """Groups images one after another, as long as they are of one kind and there is room.

    Each is there ``copies`` times. One that cannot be sent raises its error, or takes its place if ``keep``.
    """

    def __init__(self, room: Room, alongside: Alongside, reading: Reading, keep: bool, copies: int = 1) -> None:
        self._room, self._alongside = room, alongside
        self._reading, self._keep = reading, keep
        self._copies = copies
        self._row_bytes = alongside.row_bytes
        self._start = 0
        self._kind: Kind | None = None
        self._begin()

    def push(self, image: object) -> Sequence[Batch]:
        """Takes the next image; the batches that are full with it, or were full without it."""
        one: Ready | StnError
        try:
            one = ready(image, self._reading)
            self._room.check(one.sent_bytes + self._row_bytes)
        except StnError as error:
            if not self._keep:
                error.add_note(f"this is image {(self._start + self._count) // self._copies}")
                raise
            one = bare(error)
        return [batch for _ in range(self._copies) for batch in self._push(one)]

    def _push(self, one: Ready | StnError) -> Sequence[Batch]:
        full: tuple[Batch, ...] = ()
        if isinstance(one, StnError):
            self._errors[self._start + self._count] = one
        else:
            if self._held and not self._has_room_for(one):
                full = (self._close(),)
            self._held.append(one.data)
            self._kind = one.kind
            self._sent_bytes += one.sent_bytes + self._row_bytes
            self._decoded_bytes += one.decoded_bytes
        self._count += 1
        return (*full, self._close()) if self._count == self._room.images else full

    def end(self, failed: Exception | None) -> Sequence[Formed]:
        """What is left at the end, and why it is the end if the source ``failed``."""
        rest: tuple[Batch, ...] = ()
        try:
            rest = (self._close(),) if self._count else ()
        except StnError as error:  # it was there before
            failed = error
        return rest if failed is None else (*rest, Failed(failed))

    def _begin(self) -> None:
        self._count = self._sent_bytes = self._decoded_bytes = 0
        self._kind = None
        self._held: list[bytes] = []
        self._errors: dict[int, StnError] = {}

    def _has_room_for(self, one: Ready) -> bool:
        return (
            one.kind == self._kind
            and self._sent_bytes + one.sent_bytes + self._row_bytes <= self._room.enough_bytes
            and self._decoded_bytes + one.decoded_bytes <= self._room.decoded_bytes
        )

    def _close(self) -> Batch:
        index = range(self._start, self._start + self._count)
        kind, held, errors = self._kind, self._held, self._errors
        self._start = index.stop
        self._begin()
        places = [place for place in index if place not in errors] if errors else index
        rows = [place - index.start for place in places] if errors else slice(None)
        inputs = self._alongside.inputs(kind and kind.joined(held), len(index), rows)
        return Batch(index, places, inputs, kind is not None and kind.gray, errors)
