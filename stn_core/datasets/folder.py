"""Reads a folder with one folder of images for each class.

root/cat/1.png  root/dog/2.jpg                      divided here into train, validation and test
root/train/cat/...  root/test/cat/...               as divided (``val``, ``valid``, ``validation`` are optional)
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stn_core.datasets.archive import divide
from stn_core.datasets.splits import Dataset, SkippedFile, Splits
from stn_core.errors import BadData, StnError
from stn_core.geometry import Size
from stn_core.pictures import decode_picture, picture_size

SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm"])
Pixels = NDArray[np.uint8]
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class _Labelled:
    path: Path
    label: int


def load_folder(root: Path, *, size: Size | None = None, channels: int | None = None, seed: int = 0) -> Splits:
    """The splits of a folder of class folders.

    ``size`` (height, width) resizes every image; without it they keep the size they share if it is at most 64 px, and
    are resized to ``chosen_size`` if not, which ``Splits.notes`` then says. ``channels`` is 1 for gray and 3 for
    colour; None takes colour if any image has some. Files that cannot be read are listed in ``Splits.skipped``;
    BadData if a class is left without an image.
    """
    if channels not in (None, 1, 3):
        raise BadData(f"{root}: expected 1 (gray) or 3 (colour) channels, got {channels}")
    folders = _class_folders(root)
    roots = {_SPLIT_FOLDERS.get(folder.name.lower(), ""): folder for folder in folders}
    if not ("train" in roots and 1 < len(roots) == len(folders) and "" not in roots):
        roots = {"train": root}
    classes = tuple(folder.name for folder in _class_folders(roots["train"]))
    files = {part: _find(part_root, classes) for part, part_root in roots.items()}
    paths = [one.path for part in files.values() for one in part]
    chosen, note = (size, "") if size else chosen_size(paths)
    decoded, skipped = _decode_all(paths, chosen, channels)
    pictures = _in_equal_channels(decoded)
    name = root.resolve().name
    parts = {part: _dataset(f"{name} ({part})", found, pictures, classes) for part, found in files.items()}
    _refuse_empty_classes(parts["train"], roots["train"], skipped)
    splits = divide(parts, name=name, origin=str(root), seed=seed)
    return replace(splits, skipped=skipped, notes=(note,) if note else ())


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise BadData(f"{root}: expected a folder with a folder of images for each class, but there is no such folder")
    folders = [one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")]
    if not folders:
        loose = sum(one.suffix.lower() in SUFFIXES for one in root.iterdir())
        raise BadData(
            f"{root}: expected a folder of images for each class, found no folder in it"
            + (f" but {loose} images: put them into folders named after their classes" if loose else "")
        )
    return sorted(folders, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int | str]]:
    """Folder "9" before "10"."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]


def _find(root: Path, classes: Sequence[str]) -> list[_Labelled]:
    number_of = {name: number for number, name in enumerate(classes)}
    found = []
    for folder in _class_folders(root):
        if folder.name not in number_of:
            raise BadData(f"{folder}: this class is not among those of the training set ({', '.join(classes[:10])})")
        files = [one for one in sorted(folder.rglob("*")) if one.suffix.lower() in SUFFIXES and one.is_file()]
        found += [_Labelled(one, number_of[folder.name]) for one in files]
    if not found:
        raise BadData(f"{root}: found class folders, but no image in them ({', '.join(sorted(SUFFIXES))})")
    return found


def _decode_all(
    paths: list[Path], size: Size | None, channels: int | None
) -> tuple[dict[Path, Pixels], tuple[SkippedFile, ...]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes without the interpreter lock
        results = list(pool.map(lambda path: _decode(path, size, channels), paths))
    decoded = {path: one for path, one in zip(paths, results, strict=True) if not isinstance(one, str)}
    skipped = tuple(
        SkippedFile(str(path), one) for path, one in zip(paths, results, strict=True) if isinstance(one, str)
    )
    if not decoded:
        raise BadData(f"none of the {len(paths)} images can be read; the first: {skipped[0].path}: {skipped[0].reason}")
    return decoded, skipped


def _decode(path: Path, size: Size | None, channels: int | None) -> Pixels | str:
    """A picture as ``[H, W, C]``, of 1 or 3 channels as it is if ``channels`` is None; or why it cannot be read."""
    try:
        return decode_picture(path, channels=channels, size=size)
    except StnError as error:
        return str(error)


SMALLEST_PX, SHORTEST_SIDE_PX, LONGEST_SIDE_PX = 16, 28, 64
MULTIPLE_PX = 4  # nearly square is square, and halves twice without a rest


def chosen_size(paths: Sequence[Path]) -> tuple[Size | None, str]:
    """The size (height, width) for images that differ in size or are large, and a note that says so.

    None if they can stay as they are. Else the median height and width, scaled so that the longer side is from 28 to
    64 px: what a network trains on in minutes, and enough to see how an image lies.
    """
    sizes = np.array([size for size in map(_size_of, paths) if size is not None])
    if not len(sizes):
        return None, ""
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if (low == high).all() and high.max() <= LONGEST_SIDE_PX:
        return None, ""
    median = np.median(sizes, axis=0)
    scale = np.clip(median.max(), SHORTEST_SIDE_PX, LONGEST_SIDE_PX) / median.max()
    height, width = (max(SMALLEST_PX, MULTIPLE_PX * round(side * scale / MULTIPLE_PX)) for side in median.tolist())
    came = _by(low) if (low == high).all() else f"{_by(low)} to {_by(high)}"
    return (height, width), f"the images of {came} px are resized to {height} x {width}; --size chooses another"


def _by(size: NDArray[np.int64]) -> str:
    return f"{size[0]} x {size[1]}"


def _size_of(path: Path) -> Size | None:
    """The size a picture says it has, from its header; None if it cannot be read."""
    try:
        return picture_size(path)
    except StnError:
        return None


def _in_equal_channels(decoded: dict[Path, Pixels]) -> dict[Path, Pixels]:
    """All pictures with the same number of channels, colour if any has it."""
    channels = max(pixels.shape[2] for pixels in decoded.values())
    return {
        path: one if one.shape[2] == channels else np.repeat(one, channels, axis=2) for path, one in decoded.items()
    }


def _dataset(name: str, found: list[_Labelled], pictures: dict[Path, Pixels], classes: tuple[str, ...]) -> Dataset:
    readable = [one for one in found if one.path in pictures]
    if not readable:
        raise BadData(f"{name}: none of its {len(found)} images can be read")
    images = np.stack([pictures[one.path] for one in readable])
    return Dataset(name, images, np.array([one.label for one in readable], np.int64), classes)


def _refuse_empty_classes(train: Dataset, root: Path, skipped: tuple[SkippedFile, ...]) -> None:
    counts = np.bincount(train.labels, minlength=len(train.classes))
    empty = [name for name, count in zip(train.classes, counts, strict=True) if count == 0]
    if empty:
        reason = (
            f" ({len(skipped)} files cannot be read, first {skipped[0].path}: {skipped[0].reason})" if skipped else ""
        )
        raise BadData(
            f"{root}: expected an image in every class folder, none in {', '.join(empty[:10])}{reason}; "
            f"put images in, or remove the folder"
        )
