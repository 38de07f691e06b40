"""Reads a folder of IDX files, the format MNIST, Fashion-MNIST, KMNIST and EMNIST are distributed in.

    train-images-idx3-ubyte[.gz]  train-labels-idx1-ubyte[.gz]     required
    t10k-images-idx3-ubyte[.gz]   t10k-labels-idx1-ubyte[.gz]      optional; ``test-`` too
    classes.txt                                                    optional: the names, a line each

A file is four bytes (0, 0, the type of a value, the number of dimensions), the dimensions as big-endian 32-bit
numbers, and the values.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadData, brief

CLASSES_FILE = "classes.txt"
MAX_BYTES = 1 << 31
_NAME = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[.-]idx\d-ubyte(\.gz)?")
_UNSIGNED_BYTE = 0x08
_DIMENSIONS = {"images": (3, 4), "labels": (1,)}
_LETTERS = {"images": "x", "labels": "y"}


def is_idx_folder(folder: Path) -> bool:
    """Whether there are files named as IDX sets are."""
    return any(_NAME.fullmatch(entry.name) for entry in folder.iterdir())


def is_idx_file(file: Path) -> bool:
    """Whether a file is named as those of IDX sets are."""
    return _NAME.fullmatch(file.name) is not None


def read_idx_folder(folder: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of the folder's files, by the keys of an ``.npz``: ``x_train``, ``y_train``, ``x_test``, ...

    BadData if a file of a pair is missing or broken, or if the folder holds several sets.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        f"{_LETTERS[kind]}_{part}": read_idx(file, _DIMENSIONS[kind]) for (part, kind), file in _find(folder).items()
    }
    names = folder / CLASSES_FILE
    if names.is_file():
        arrays["classes"] = _class_names(names)
    return arrays


def read_idx(file: Path, dimensions: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes with one of the numbers of ``dimensions``; gzip by its name."""
    try:
        with cast("IO[bytes]", gzip.open(file) if file.suffix == ".gz" else file.open("rb")) as opened:
            shape = _read_shape(opened, file, dimensions)
            size = math.prod(shape)
            content = opened.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{file}: cannot be read: {error}; if it was downloaded, fetch it again") from error
    if len(content) != size:
        came = f"{len(content):,}" if len(content) < size else "more"
        raise BadData(
            f"{file}: its header says {_by(shape)}, so expected {size:,} bytes of values, got {came}: it was cut or "
            "damaged; fetch it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _find(folder: Path) -> dict[tuple[str, str], Path]:
    """The files by part and kind; of one that is there packed and unpacked, the unpacked."""
    found: dict[tuple[str, str], Path] = {}
    prefixes = set()
    for file in sorted(folder.iterdir(), reverse=True):  # "name.gz" comes before "name", which takes its place
        name = _NAME.fullmatch(file.name)
        if name is not None and file.is_file():
            prefixes.add(name["prefix"])
            found["train" if name["part"] == "train" else "test", name["kind"]] = file
    if len(prefixes) > 1:
        raise BadData(f"{folder}: expected one IDX set, found {brief(sorted(prefixes))}; give each a folder of its own")
    there = {part for part, _ in found} | {"train"}
    missing = [f"{part}-{kind}" for part in sorted(there) for kind in _DIMENSIONS if (part, kind) not in found]
    if missing:
        names = brief(sorted(file.name for file in found.values()))
        raise BadData(f"{folder}: expected IDX files of {' and '.join(missing)} too, found only {names}")
    return found


def _read_shape(opened: IO[bytes], file: Path, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    head = opened.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise BadData(
            f"{file}: expected an IDX file, which begins with two zero bytes, got {head.hex(' ') or 'nothing'}"
        )
    if head[2] != _UNSIGNED_BYTE or head[3] not in dimensions:
        raise BadData(
            f"{file}: expected unsigned bytes (type 08) in {' or '.join(map(str, dimensions))} dimensions, got type "
            f"{head[2]:02x} in {head[3]}"
        )
    sides = opened.read(4 * head[3])
    if len(sides) < 4 * head[3]:
        raise BadData(f"{file}: it ends within its header; fetch it again")
    shape = struct.unpack(f">{head[3]}I", sides)
    if math.prod(shape) > MAX_BYTES:
        raise BadData(f"{file}: expected at most {MAX_BYTES:,} bytes of values, its header says {_by(shape)}")
    return shape


def _class_names(file: Path) -> NDArray[np.str_]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{file}: expected the class names, a line each, in UTF-8: {error}") from None
    return np.array([line.strip() for line in lines if line.strip()], np.str_)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
