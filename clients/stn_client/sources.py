"""Where the images of a call come from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from stn_client.batches import Alongside, Formed, Former, form, form_array, form_async
from stn_client.files import picture_files
from stn_client.images import EXPECTED_IMAGES, Reading, check_floats, check_layout, is_pil
from stn_client.splitting import Room
from stn_core.errors import BadTensor


@dataclass(frozen=True)
class Source:
    """Images as the caller gave them, checked as far as can be without reading them one by one.

    ``count`` is None where it shows at the end alone; each image is sent ``copies`` times, and counts as many. With
    ``keep``, one that cannot be sent harms no other.
    """

    images: Any
    count: int | None
    reading: Reading
    keep: bool
    copies: int = 1

    @classmethod
    def of(cls, images: object, reading: Reading, keep: bool, copies: int = 1) -> Source:
        """BadTensor or InvalidInput if ``images`` are none."""
        if isinstance(images, np.ndarray):
            check_layout(images)
            if not keep:
                check_floats(images, reading.unit_range)
        elif isinstance(images, str | os.PathLike):
            images = picture_files(images)
        elif isinstance(images, bytes | bytearray | memoryview) or is_pil(images):
            raise BadTensor(f"{EXPECTED_IMAGES}; got one image as {type(images).__name__}: send [image]")
        elif not isinstance(images, Iterable | AsyncIterable):
            raise BadTensor(f"{EXPECTED_IMAGES}; got {type(images).__name__}")
        count = len(images) if isinstance(images, np.ndarray | list | tuple) else None
        if count == 0:
            raise BadTensor(f"images: expected at least one image, got an empty {type(images).__name__}")
        return cls(images, None if count is None else count * copies, reading, keep, copies)

    @property
    def total(self) -> int | None:
        """How many images there are as far as the caller's object says: a number to be shown."""
        return len(self.images) * self.copies if isinstance(self.images, Sized) else None

    def batches(self, room: Room, alongside: Alongside) -> Iterator[Formed]:
        """The batches, formed as they are asked for; BadTensor if the images come asynchronously."""
        if isinstance(self.images, np.ndarray) and not (self.keep or self.reading.as_png):
            return form_array(self.images, room, alongside, self.copies)
        if not isinstance(self.images, Iterable):
            raise BadTensor(f"{EXPECTED_IMAGES}; got an asynchronous iterable, which an AsyncClient takes")
        return form(self.images, self._former(room, alongside))

    def batches_async(self, room: Room, alongside: Alongside) -> AsyncIterator[Formed] | None:
        """The batches of images that come asynchronously; None if these do not."""
        if not isinstance(self.images, AsyncIterable):
            return None
        return form_async(self.images, self._former(room, alongside))

    def _former(self, room: Room, alongside: Alongside) -> Former:
        return Former(room, alongside, self.reading, self.keep, self.copies)
