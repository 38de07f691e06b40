"""Data sets: MNIST, cluttered MNIST, a folder of class folders, an ``.npz``. ``load`` is the one way in.

Nothing here loads TensorFlow except the download of MNIST.
"""

from __future__ import annotations

from pathlib import Path

from stn_core.datasets.archive import LAYOUTS, datasets_of, divide, read_arrays
from stn_core.datasets.folder import load_folder
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
    file), a folder of class folders, or an ``.npz``. ``seed`` divides what is not divided yet. ``size`` (height,
    width) and ``channels`` (1 gray, 3 colour) are for folders.
    """
    place = None if path is None else Path(path).expanduser()
    if source == "mnist":
        return load_mnist(place, download=download)
    if source == "cluttered-mnist":
        return load_cluttered(place)
    if source == "sample":
        return load_sample(seed)
    location = Path(source).expanduser()
    if location.is_dir():
        return load_folder(location, size=size, channels=channels, seed=seed)
    if location.is_file():
        return _load_archive(location, seed)
    raise BadData(
        f"{source}: expected {', '.join(NAMED_SOURCES)}, a folder with a folder of images for each class, or an .npz "
        f"with {LAYOUTS}; there is no such name, folder or file"
    )


def _load_archive(file: Path, seed: int) -> Splits:
    """An ``.npz``; MNIST under any file name is divided as MNIST is, so that its validation set stays the same."""
    parts = datasets_of(read_arrays(file), name=file.stem, origin=str(file))
    return mnist_splits(parts, str(file)) or divide(parts, name=file.stem, origin=str(file), seed=seed)
