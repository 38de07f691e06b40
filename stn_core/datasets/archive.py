"""Reads labelled images from an ``.npz`` file, never unpickling anything in it.

Two layouts are known, their keys in any case:

    images, labels                      one set, divided here into train, validation and test
    x_train, y_train, x_test, y_test    the layout of tf_keras.datasets; ``x_valid``/``x_val``/``x_validation`` (with y)
                                        is optional, and so is the test set

Either may hold ``classes``, the names in the order of the labels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.datasets.splits import TEST_FRACTION, VALIDATION_FRACTION, Dataset, Splits
from stn_core.errors import BadData
from stn_core.pictures import CHANNELS

MAX_UNNAMED_CLASSES = 1000  # a larger label with no ``classes`` key is more likely a mistake than a class
LAYOUTS = (
    "`images` and `labels`, or `x_train`, `y_train` and optionally `x_valid`, `y_valid`, `x_test`, `y_test`; "
    "with either, optionally `classes`"
)
_SPLIT_KEYS = {
    "train": ("train",),
    "validation": ("valid", "val", "validation"),
    "test": ("test",),
}
MAX_ARCHIVE_BYTES = 1 << 34
"""What the arrays of a file take in memory: a small file can hold any number of zeros."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz``, by key in lower case; BadData if it is missing, broken, or holds Python objects."""
    if not path.is_file():
        raise BadData(f"{path}: expected an .npz file, but there is none")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy and zipfile raise many kinds for broken files
        raise BadData(f"{path}: expected an .npz file (numpy.savez), but it cannot be read as one: {error}") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise BadData(f"{path}: expected an .npz file with named arrays, got a single .npy array")
    with archive:
        unpacked = sum(entry.file_size for entry in archive.zip.infolist())
        if unpacked > MAX_ARCHIVE_BYTES:
            raise BadData(f"{path}: expected arrays of at most {MAX_ARCHIVE_BYTES} bytes together, got {unpacked}")
        return {key.lower(): _member(archive, key, path) for key in archive.files}


def _member(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        member: NDArray[Any] = archive[key]
    except Exception as error:
        raise BadData(
            f"{path}: the array `{key}` cannot be read: {error}. Expected plain numbers or strings: Python objects are "
            f"refused, and a damaged file must be fetched again"
        ) from error
    return member


def datasets_of(arrays: dict[str, NDArray[Any]], *, name: str, origin: str) -> dict[str, Dataset]:
    """What there is of "train", "validation" and "test" in arrays by key; "train" always is."""
    found = _labelled_parts(arrays, origin)
    classes = _class_names(found, arrays.get("classes"), origin)
    return {
        part: Dataset(
            f"{name} ({part})" if len(found) > 1 else name,
            as_images(images, f"{origin}: images of {part}"),
            _as_labels(labels, classes, f"{origin}: labels of {part}"),
            classes,
        )
        for part, (images, labels) in found.items()
    }


def divide(parts: dict[str, Dataset], *, name: str, origin: str, seed: int) -> Splits:
    """Splits from what there is of "train", "validation" and "test": what is missing is taken out of train, by seed."""
    train = parts["train"]
    validation, test = parts.get("validation"), parts.get("test")
    if validation is None and test is None:
        train, validation, test = train.split((VALIDATION_FRACTION, TEST_FRACTION), seed)
    elif validation is None:
        train, validation = train.split((VALIDATION_FRACTION,), seed)
    elif test is None:
        train, test = train.split((TEST_FRACTION,), seed)
    assert validation is not None
    assert test is not None
    train, validation, test = (replace(part, name=name) for part in (train, validation, test))
    return Splits(train, validation, test, origin)


def _labelled_parts(arrays: dict[str, NDArray[Any]], origin: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    if "images" in arrays and "labels" in arrays:
        return {"train": (arrays["images"], arrays["labels"])}
    found = {}
    for part, spellings in _SPLIT_KEYS.items():
        for spelling in spellings:
            x_key, y_key = f"x_{spelling}", f"y_{spelling}"
            if (x_key in arrays) != (y_key in arrays):
                present, absent = (x_key, y_key) if x_key in arrays else (y_key, x_key)
                raise BadData(f"{origin}: has `{present}` but not `{absent}`")
            if x_key in arrays:
                found[part] = (arrays[x_key], arrays[y_key])
    if "train" not in found:
        keys = ", ".join(f"`{key}`" for key in sorted(arrays)) or "nothing"
        raise BadData(f"{origin}: expected the arrays {LAYOUTS}; it holds {keys}")
    return found


def as_images(array: NDArray[Any], what: str) -> NDArray[Any]:
    """``[N, H, W, C]`` uint8 or float32 from what people store; BadData if it is not images.

    ``[N, H, W]`` is gray; ``[N, S * S]`` is flattened square gray images; bool is black and white; wider integers
    must be 0..255 and floats 0..1.
    """
    if array.ndim == 2:
        side = round(float(np.sqrt(array.shape[1])))
        if side * side != array.shape[1]:
            raise BadData(f"{what}: flattened images must be square, but {array.shape[1]} is no square number")
        array = array.reshape(len(array), side, side)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape:
        raise BadData(f"{what}: expected [N, H, W, C], [N, H, W] or [N, H*W], none of them 0, got {list(array.shape)}")
    if array.shape[3] not in CHANNELS:
        first = array.shape[1] in CHANNELS
        advice = "; they are first: give np.moveaxis(images, 1, -1)" if first else ""
        raise BadData(f"{what}: expected 1, 3 or 4 channels, as the last axis, got {list(array.shape)}{advice}")
    return _as_intensities(array, what)


def _as_intensities(array: NDArray[Any], what: str) -> NDArray[Any]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise BadData(f"{what}: expected numbers, got {array.dtype}")
    low, high = array.min(), array.max()
    limit = 1 if array.dtype.kind == "f" else 255
    if not (low >= 0 and high <= limit):  # false for NaN too
        advice = "; divide by 255, or store uint8" if array.dtype.kind == "f" and high <= 255 else ""
        raise BadData(f"{what}: expected {array.dtype} values from 0 to {limit}, got {low:.4g} to {high:.4g}{advice}")
    return array.astype(np.float32 if array.dtype.kind == "f" else np.uint8)


def _class_names(
    found: dict[str, tuple[NDArray[Any], NDArray[Any]]], given: NDArray[Any] | None, origin: str
) -> tuple[str, ...]:
    """The names stored with the data; else the label strings sorted; else the numbers from 0 to the largest label."""
    if given is not None:
        names = tuple(str(one) for one in given.ravel())
        if not names or len(set(names)) != len(names):
            raise BadData(f"{origin}: expected `classes` to hold different names, got {list(names)[:10]}")
        return names
    labels = np.concatenate([part.ravel() for _, part in found.values()])
    if labels.dtype.kind == "U":
        return tuple(str(one) for one in np.unique(labels))
    if labels.dtype.kind not in "iu" or not labels.size:
        raise BadData(f"{origin}: expected integer labels (or names), got {labels.size} of {labels.dtype}")
    if labels.max() >= MAX_UNNAMED_CLASSES:
        raise BadData(
            f"{origin}: the largest label is {labels.max()}; labels count the classes from 0. If there really are "
            f"that many classes, store their names under `classes`"
        )
    return tuple(str(number) for number in range(max(0, int(labels.max())) + 1))


def _as_labels(array: NDArray[Any], classes: tuple[str, ...], what: str) -> NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise BadData(f"{what}: expected one label an image, [N] or [N, 1], got {list(array.shape)}")
    if array.dtype.kind == "U":
        number_of = {name: number for number, name in enumerate(classes)}
        unknown = sorted(set(array.tolist()) - set(number_of))
        if unknown:
            raise BadData(f"{what}: expected names from `classes` ({', '.join(classes[:10])}), got {unknown[:10]}")
        return np.array([number_of[name] for name in array.tolist()], np.int64)
    if array.dtype.kind not in "iu":
        raise BadData(f"{what}: expected integers or names, got {array.dtype}")
    return array.astype(np.int64)
