"""What comes of pictures: a row each, and the files made of it; engine and recipe are ``stn_core``'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stn_bulk.pictures import Failure, Picture
from stn_core.annotations import Annotations
from stn_core.augment import Augmentation, augment
from stn_core.canvas import MAX_PIXELS, Frame, Wanted, output_window
from stn_core.decision import Limits
from stn_core.draws import Numbering
from stn_core.engine import Engine
from stn_core.errors import StnError, TooLarge
from stn_core.fullsize import warp_full
from stn_core.motion import motion_shown
from stn_core.moving import move
from stn_core.png import encode_png
from stn_core.recipes import Recipe, distorted_size
from stn_core.resizing import as_input

ANNOTATIONS = "annotations"
_FASTEST = 1  # of the levels of a PNG, as `stn rectify` writes them
_PIXELS_AT_ONCE = 2**22


class Result(NamedTuple):
    """What is told of an image, by column; and what was made, by column: each file's name and its bytes."""

    row: dict[str, Any]
    files: dict[str, tuple[str, bytes]]


class Task(Protocol):
    """What is done to pictures: a pure function of each, whatever the others are, but for the last bits of floats."""

    def run(self, pictures: Sequence[Picture]) -> Iterator[Result | Failure]:
        """The results of each of ``pictures``, in their order."""


class Straightening:
    """Rows of ``stn predict``; and the images of ``stn rectify``, where some are ``wanted``.

    ``limits`` are those that are not the bundle's own; None decides nothing.
    """

    def __init__(self, engine: Engine, limits: dict[str, Any] | None, wanted: Wanted | None, mask: bool) -> None:
        self._engine, self._manifest = engine, engine.manifest
        self._limits: Limits | None = None if limits is None else engine.limits.changed(limits)
        self._wanted, self._mask = wanted, mask

    def run(self, pictures: Sequence[Picture]) -> Iterator[Result | Failure]:
        failures: dict[int, Failure] = {}
        small: dict[int, NDArray[Any]] = {}
        for number, picture in enumerate(pictures):
            try:
                small[number] = as_input(picture.pixels, self._manifest.input_shape)
            except StnError as error:
                failures[number] = Failure(picture.file, error)
        told = self._look(np.stack(list(small.values()))) if small else []
        made: dict[int, Result] = {}
        for number, row in zip(small, told, strict=True):
            try:
                made[number] = self._made(pictures[number], row)
            except StnError as error:
                failures[number] = Failure(pictures[number].file, error)
        self._measure([result.row for result in made.values()])
        for number in range(len(pictures)):
            yield made.get(number) or failures[number]

    def _look(self, images: NDArray[Any]) -> list[dict[str, Any]]:
        """What the networks find in small images, and what is decided: a row each, with the theta to be applied."""
        engine, columns = self._engine, {}
        if self._limits is None:
            straight, theta = engine.rectify(images)
        else:
            decided = engine.decide(images, self._limits)
            straight, theta, decisions = decided.images, decided.theta_applied, decided.decisions
            columns["decision"] = np.where(decisions.rectified, "rectified", "kept").tolist()
            columns["reason"] = decisions.reasons()
            nothing = [None] * len(images)
            columns["confidence"] = nothing if decisions.confidence is None else list(decisions.confidence)
        labels, probabilities = engine.classify(straight)
        columns["label"] = labels.tolist()
        columns["class"] = [self._manifest.classes[label] for label in labels]
        columns["probability"] = list(probabilities.max(axis=1))
        columns["probabilities"] = list(probabilities)
        columns["theta"] = list(theta)
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _made(self, picture: Picture, row: dict[str, Any]) -> Result:
        source_size = (picture.pixels.shape[0], picture.pixels.shape[1])
        files = {}
        if self._wanted is None:
            input_size = self._manifest.input_shape[:2]
            frame = Frame(source_size, input_size, self._manifest.rectified_size or input_size)
            theta, size = output_window(row["theta"], frame, Wanted(max_pixels=MAX_PIXELS))
        else:
            full = warp_full(picture.pixels, row["theta"], self._manifest, self._wanted, self._mask, threads=1)
            theta, size = full.theta, (full.image.shape[0], full.image.shape[1])
            files["image"] = (f"{picture.stem}.png", encode_png(full.image, level=_FASTEST))
            if full.mask is not None:
                mask = full.mask[..., None] * np.uint8(255)
                files["mask"] = (f"{picture.stem}.mask.png", encode_png(mask, level=_FASTEST))
        sizes = {"rectified_size": size, "source_size": source_size}
        row = {"file": picture.file, **row, "theta": theta, **sizes}
        if picture.annotations is not None:
            moved = move(Annotations.from_json(picture.annotations), theta, source_size, size)
            row[ANNOTATIONS] = moved.to_json()
        return Result(row, files)

    def _measure(self, rows: list[dict[str, Any]]) -> None:
        """Adds by how much each was turned and scaled."""
        if rows:
            theta, source, rectified = (
                np.array([row[name] for row in rows]) for name in ("theta", "source_size", "rectified_size")
            )
            turn_deg, scale = motion_shown(theta, source, rectified)
            for row, turned, scaled in zip(rows, turn_deg.tolist(), scale.tolist(), strict=True):
                row["turn_deg"], row["scale"] = turned, scaled
                row["theta"] = row["theta"].tolist()


class Augmenting:
    """Rows and images of ``stn augment``: ``copies`` of each picture."""

    def __init__(self, recipe: Recipe, seed: int, copies: int) -> None:
        self._recipe, self._seed, self._copies = recipe, seed, copies

    def run(self, pictures: Sequence[Picture]) -> Iterator[Result | Failure]:
        for shape, alike in groupby(pictures, key=lambda picture: picture.pixels.shape):
            group = list(alike)
            try:
                height, width = distorted_size(self._recipe, (shape[0], shape[1]))
                if height * width > MAX_PIXELS:
                    raise TooLarge(f"images: expected at most {MAX_PIXELS} pixels to be made, got {height} x {width}")
            except StnError as error:  # of images of this size, so of all
                yield from (Failure(picture.file, error) for picture in group)
                continue
            yield from self._run_alike(group, max(1, _PIXELS_AT_ONCE // max(height * width, shape[0] * shape[1])))

    def _run_alike(self, pictures: list[Picture], at_once: int) -> Iterator[Result | Failure]:
        """Of pictures of one size, so many images at a time."""
        ids = np.concatenate([Numbering().ids([picture.pixels] * self._copies) for picture in pictures])
        failed: set[int] = set()
        for first in range(0, len(ids), at_once):
            numbers = np.arange(first, min(first + at_once, len(ids)))
            sources = numbers // self._copies
            images = np.stack([pictures[source].pixels for source in sources])
            made = augment(images, self._recipe, self._seed, ids[numbers])
            for place, (source, copy) in enumerate(
                zip(sources.tolist(), (numbers % self._copies).tolist(), strict=True)
            ):
                if source not in failed:
                    try:
                        yield self._result(pictures[source], copy, made, place)
                    except StnError as error:
                        failed.add(source)
                        yield Failure(pictures[source].file, error)

    def _result(self, source: Picture, copy: int, made: Augmentation, place: int) -> Result:
        theta, exact, image = made.theta[place], bool(made.exact[place]), made.images[place]
        rectifying = None if made.theta_rectifying is None else made.theta_rectifying[place].tolist()
        source_size, size = (source.pixels.shape[0], source.pixels.shape[1]), (image.shape[0], image.shape[1])
        row: dict[str, Any] = {"file": source.file, "copy": copy, "theta": theta.tolist()}
        row |= {"theta_rectifying": rectifying, "exact": exact, "source_size": source_size, "size": size}
        if source.annotations is not None:
            moved = move(Annotations.from_json(source.annotations), theta, source_size, size)
            row[ANNOTATIONS] = replace(moved, exact=exact).to_json()
        name = f"{source.stem}.png" if self._copies == 1 else f"{source.stem}-{copy}.png"
        return Result(row, {"image": (name, encode_png(image))})
