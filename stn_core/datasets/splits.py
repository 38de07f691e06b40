"""A labelled set of images, and its division into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadData, shortened

PARTS = ("train", "validation", "test")
IMBALANCE = 3
FEW_TEST_IMAGES = 100
LARGE_PX, ENOUGH_PX = 100, 64
LOOKED_AT, UNLIKE = 500, 0.1
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

    def border_unlike(self, value: float) -> float:
        """The share of the pixels at the images' borders that are not about ``value`` (0 black, 1 white)."""
        images = to_float(self.images[:: max(1, len(self) // LOOKED_AT)])
        sides = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
        border = np.concatenate([side.reshape(-1, images.shape[3]) for side in sides])
        return float(np.mean(np.abs(border - value).max(axis=1) > UNLIKE))

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

    ``origin`` says where the data came from; ``skipped`` lists the files that could not be read; ``notes`` say what
    was done to the images that nobody asked for.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    origin: str = ""
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()

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

    def warnings(self) -> list[str]:
        """What the user should know of this data before trusting what is trained on it, a line each."""
        counts = {part: np.bincount(getattr(self, part).labels, minlength=len(self.classes)) for part in PARTS}
        train, test = counts["train"], counts["test"]
        lines = list(self.notes)
        if max(self.image_shape[:2]) > LARGE_PX:
            height, width, _ = self.image_shape
            lines.append(
                f"images of {height} x {width} px train slowly; a --size of about {ENOUGH_PX} px a side is enough to "
                "see how they lie"
            )
        lines += _about_classes(self.classes, train, test)
        if len(self.test) < FEW_TEST_IMAGES:
            lines.append(f"the test set has only {len(self.test)} images: its measures are rough")
        if self.skipped:
            first = self.skipped[0]
            files = "1 unreadable file is" if len(self.skipped) == 1 else f"{len(self.skipped)} unreadable files are"
            lines.append(f"{files} left out, first {first.path}: {first.reason}")
        return lines

    def summary(self) -> str:
        """One line for the user: sizes, shape, classes, origin."""
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.validation, self.test))
        height, width, channels = self.image_shape
        skipped = f", {len(self.skipped)} unreadable files skipped" if self.skipped else ""
        return (
            f"{self.train.name}: {sizes} images (train / validation / test) of {height}x{width}x{channels}, "
            f"{len(self.classes)} classes, from {self.origin}{skipped}"
        )


def _about_classes(classes: Sequence[str], train: NDArray[np.int64], test: NDArray[np.int64]) -> list[str]:
    """What is odd about how many images of each class there are in the training set and in the test set."""
    lines = []
    absent = [name for name, count in zip(classes, train, strict=True) if count == 0]
    if absent:
        lines.append(f"{_classes(len(absent))} no image in the training set: {shortened(', '.join(absent))}")
    there = np.flatnonzero(train)
    few, many = there[train[there].argmin()], int(train.argmax())
    if train[many] > IMBALANCE * train[few]:
        lines.append(
            f"the classes are unequal: {train[many]:,} training images of {classes[many]!r}, {train[few]:,} of "
            f"{classes[few]!r}; images of the rarer ones are drawn more often"
        )
    unmeasured = [name for name, count in zip(classes, test, strict=True) if count == 0 and name not in absent]
    if unmeasured:
        lines.append(
            f"{_classes(len(unmeasured))} no image in the test set, so nothing tells how well they are read: "
            f"{shortened(', '.join(unmeasured))}"
        )
    return lines


def _classes(count: int) -> str:
    return f"{count} {'class has' if count == 1 else 'classes have'}"


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
