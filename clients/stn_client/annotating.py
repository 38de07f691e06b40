"""Annotations that move with the images that ``augment`` distorts, by the exact theta, in the client."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_client.mapping import Geometry
from stn_client.results import Augmentation
from stn_core.annotations import Annotations
from stn_core.errors import BadTensor, StnError
from stn_core.moving import move_each

Given = Iterable[Annotations | None]


def annotated(make: Callable[..., Augmentation], given: object, rows: int | None, copies: int) -> Callable[..., Any]:
    """``make``, and the annotations of what it makes, moved; each ``given`` one goes with so many ``copies``.

    ``rows`` is how many rows there will be, None if that is not known. Results must be made in the order of the images.
    BadTensor if these are no annotations, or not one, or None, for each image.
    """
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise BadTensor(f"annotations: expected an iterable of Annotations or None, got {type(given).__name__}")
    if rows is not None and isinstance(given, Sized) and len(given) * copies != rows:
        raise BadTensor(f"annotations: expected {rows // copies}, those of each image or None, got {len(given)}")
    waiting = chain.from_iterable(repeat(one, copies) for one in given)

    def make_annotated(outputs: Any, parameters: Any, **place: Any) -> Augmentation:
        made = make(outputs, parameters, **place)
        return replace(made, annotations=_moved(made, _next(waiting, len(made))))

    return make_annotated


def _next(waiting: Iterator[object], count: int) -> list[Annotations | None]:
    found: list[Annotations | None] = []
    for one in islice(waiting, count):
        if not isinstance(one, Annotations | None):
            raise BadTensor(f"annotations: expected stn_core.annotations.Annotations or None, got {type(one).__name__}")
        found.append(one)
    if len(found) < count:
        raise BadTensor("annotations: expected one for each image, or None, but there are more images than that")
    return found


def _moved(made: Augmentation, annotations: list[Annotations | None]) -> NDArray[Any]:
    """``MovedAnnotations``, or None, for each row of ``made``."""
    moved = np.empty(len(made), object)
    sizes = np.array([image.shape[:2] for image in made.images], np.int64)
    source_size = np.zeros_like(sizes) if made.source_size is None else made.source_size
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)  # of images with the same sizes
    for row in Geometry(made.theta, sizes, source_size).known():
        if annotations[row] is not None:
            groups[*source_size[row].tolist(), *sizes[row].tolist()].append(int(row))
    for (height, width, new_height, new_width), rows in groups.items():
        of_group = [one for row in rows if (one := annotations[row]) is not None]
        try:
            found = move_each(of_group, made.theta[rows], (height, width), (new_height, new_width))
        except StnError as error:
            error.add_note(f"in the annotations of images among {made.index[rows[0]]} to {made.index[rows[-1]]}")
            raise
        for row, each in zip(rows, found, strict=True):
            moved[row] = replace(each, exact=bool(made.exact[row]))
    return moved
