"""Data sets: MNIST, cluttered MNIST, a folder of class folders or IDX files, an ``.npz``. ``load`` is the one way in.

Nothing here loads TensorFlow except the download of MNIST.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stn_core.datasets.archive import LAYOUTS, datasets_of, divide, read_arrays
from stn_core.datasets.fitting import fitted
from stn_core.datasets.folder import load_folder
from stn_core.datasets.idx import is_idx_file, is_idx_folder, read_idx_folder
from stn_core.datasets.mnist import load_cluttered, load_mnist, load_sample, mnist_splits, sample_digits
from stn_core.datasets.splits import Dataset, SkippedFile, Splits, concatenate, to_float
from stn_core.errors import BadData
from stn_core.geometry import Size

__all__ = ["NAMED_SOURCES", "Dataset", "SkippedFile", "Splits", "concatenate", "load", "sample_digits", "to_float"]

NAMED_SOURCES = ("mnist", "sample", "cluttered-mnist")


def load(
    source: str,
    *,
    path: str | Path | None = None,
    seed: int = 0,
    size: Size | None = None,
    channels: int | None = None,
    download: bool = True,
) -> Splits:
    """The train, validation and test sets of a source; BadData says where it looked, what it expected and what came.

    ``source``: ``mnist``, ``cluttered-mnist`` (both looked for in ``path`` or, without it, in $STN_DATA, ./data,
    ../shared/data, ~/.keras/datasets; MNIST is then downloaded), ``sample`` (5,000 real MNIST digits that need no
    file), or data of one's own: a folder of class folders, a folder of IDX files, an ``.npz``. ``seed`` divides what
    is not divided yet. ``size`` (height, width) and ``channels`` (1 gray, 3 colour) are for data of one's own.
    """
    place = None if path is None else Path(path).expanduser()
    if source == "mnist":
        return load_mnist(place, download=download)
    if source == "cluttered-mnist":
        return load_cluttered(place)
    if source == "sample":
        return load_sample(seed)
    if channels not in (None, 1, 3):
        raise BadData(f"{source}: expected 1 (gray) or 3 (colour) channels, got {channels}")
    try:
        return _load_own(Path(source).expanduser(), seed, size, channels)
    except OSError as error:
        raise BadData(f"{source}: cannot be read: {error}") from error


def _load_own(location: Path, seed: int, size: Size | None, channels: int | None) -> Splits:
    if location.is_dir() and is_idx_folder(location):
        return _from_arrays(read_idx_folder(location), location.resolve().name, location, seed, size, channels)
    if location.is_dir():
        return load_folder(location, size=size, channels=channels, seed=seed)
    if location.is_file() and is_idx_file(location):
        raise BadData(f"{location}: one of a set of IDX files; give the folder they lie in, {location.parent}")
    if location.is_file():
        return _from_arrays(read_arrays(location), location.stem, location, seed, size, channels)
    raise BadData(
        f"{location}: expected {', '.join(NAMED_SOURCES)}, a folder with a folder of images for each class, a folder "
        f"of IDX files, or an .npz with {LAYOUTS}; there is no such name, folder or file"
    )


def _from_arrays(
    arrays: dict[str, NDArray[Any]], name: str, origin: Path, seed: int, size: Size | None, channels: int | None
) -> Splits:
    """MNIST under any file name is divided as MNIST is, so that its validation set stays the same."""
    parts = datasets_of(arrays, name=name, origin=str(origin))
    known = mnist_splits(parts, str(origin))
    if known is not None:
        name, parts = "mnist", {"train": known.train, "validation": known.validation, "test": known.test}
    parts = {part: fitted(data, size, channels) for part, data in parts.items()}
    return divide(parts, name=name, origin=str(origin), seed=seed)
