"""A labelled set of images, and its division into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadData

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.1


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images ``[N, H, W, C]`` (uint8, or float32 in 0..1), labels int64 ``[N]``, and the names of the classes.

    Checked when made: a data set that exists is usable. BadData says what is wrong with it otherwise.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
            raise BadData(
                f"{self.name}: expected images [N, H, W, C] of uint8 or float32, "
                f"got {list(images.shape)} of {images.dtype}"
            )
        if 0 in images.shape:
            raise BadData(f"{self.name}: expected at least one image of at least one pixel, got {list(images.shape)}")
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise BadData(
                f"{self.name}: expected one int64 label for each of the {len(images)} images, "
                f"got {list(labels.shape)} of {labels.dtype}"
            )
        outside = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if outside.size:
            raise BadData(
                f"{self.name}: expected labels from 0 to {len(self.classes) - 1} ({len(self.classes)} classes), "
                f"but label number {outside[0]} is {labels[outside[0]]} ({outside.size} are out of range)"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """The images and labels at ``indices``, in that order."""
        return Dataset(self.name, self.images[indices], self.labels[indices], self.classes)

    def limit(self, count: int | None, seed: int = 0) -> Dataset:
        """About ``count`` images, every class in its share; all if ``count`` is None or no less than there are.

        At least one image of each class stays, so that the result may be a little larger or smaller than ``count``.
        """
        if count is None or count >= len(self):
            return self
        if count < 1:
            raise BadData(f"{self.name}: expected a limit of at least one image, got {count}")
        random = np.random.default_rng(seed)
        share = count / len(self)
        kept = [random.permutation(m)[: max(1, round(len(m) * share))] for m in self._members()]
        return self.take(np.sort(np.concatenate(kept)))

    def split(
        self, fractions: Sequence[float] = (VALIDATION_FRACTION, TEST_FRACTION), seed: int = 0
    ) -> tuple[Dataset, ...]:
        """``(rest, part, part, ...)``, a part for each fraction, every class in its share, the same for the same seed.

        A small class fills the rest first, then the last part (the test set), then the others: one image goes to the
        rest, of two one is for the test, and from three up (with two fractions) each part has one.
        """
        random = np.random.default_rng(seed)
        parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
        for members in self._members():
            shuffled, start = random.permutation(members), 0
            for number, count in enumerate(_shares(len(members), fractions)):
                parts[number + 1].append(shuffled[start : start + count])
                start += count
            parts[0].append(shuffled[start:])
        indices = [np.sort(np.concatenate(part)) for part in parts]
        if any(index.size == 0 for index in indices):
            raise BadData(
                f"{self.name}: too small to divide into {len(parts)} parts with an image each: expected a class "
                f"with at least {len(parts)} images, but the largest of {len(self.classes)} has "
                f"{max(len(m) for m in self._members())}"
            )
        return tuple(self.take(index) for index in indices)

    def _members(self) -> list[NDArray[np.int64]]:
        """For each class that has images, where they are."""
        return [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]


@dataclass(frozen=True)
class SkippedFile:
    """A file that could not be read as an image, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Splits:
    """Train, validation and test sets with images of one shape and the same classes.

    ``origin`` says where the data came from; ``skipped`` lists the files that could not be read.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    origin: str = ""
    skipped: tuple[SkippedFile, ...] = ()

    def __post_init__(self) -> None:
        for part in (self.validation, self.test):
            if part.image_shape != self.train.image_shape:
                raise BadData(
                    f"{part.name}: expected images of one shape in all splits, got {list(self.train.image_shape)} "
                    f"and {list(part.image_shape)}"
                )
            if part.classes != self.train.classes:
                raise BadData(f"{part.name}: the splits have different classes")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.image_shape

    def summary(self) -> str:
        """One line for the user: sizes, shape, classes, origin."""
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        height, width, channels = self.image_shape
        skipped = f", {len(self.skipped)} unreadable files skipped" if self.skipped else ""
        return (
            f"{self.train.name}: {sizes} images (train / validation / test) of {height}x{width}x{channels}, "
            f"{len(self.classes)} classes, from {self.origin}{skipped}"
        )


def to_float(images: NDArray[Any]) -> NDArray[np.float32]:
    """uint8 images as float32 in 0..1; float images as they are."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False)


def concatenate(first: Dataset, second: Dataset) -> Dataset:
    """The images of both, one set after the other."""
    if first.image_shape != second.image_shape or first.classes != second.classes:
        raise BadData(f"{first.name} and {second.name}: expected the same image shape and classes")
    images = np.concatenate([first.images, second.images])
    return Dataset(first.name, images, np.concatenate([first.labels, second.labels]), first.classes)


def _shares(size: int, fractions: Sequence[float]) -> list[int]:
    """How many of a class of ``size`` each part gets; the rest always keeps one."""
    left, counts = size - 1, [0] * len(fractions)
    for number in reversed(range(len(fractions))):
        counts[number] = min(left, max(1, round(size * fractions[number])))
        left -= counts[number]
    return counts
