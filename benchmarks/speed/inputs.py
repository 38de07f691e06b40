"""What both sides of a contest are given: the same images and transforms, by NumPy alone.

Large images are noise, drawn anew by each side from the same seed: what a pixel holds is nothing to a warp. Real digits
come from our side alone, which hands them over in files, in a folder that the variable ``STN_CONTEST`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIABLE = "STN_CONTEST"
SEED = 2_017
MAX_TURN_DEG, SCALES, MAX_SHIFT = 60.0, (0.7, 1.3), 0.2
"""Of the thetas; a shift is in halves of a side."""


def random_images(shape: tuple[int, int, int, int], dtype: str) -> NDArray[Any]:
    """Noise ``[N, H, W, C]``: uint8, or float32 in [0, 1)."""
    generator = np.random.default_rng(SEED)
    if dtype == "uint8":
        return generator.integers(0, 256, shape, np.uint8)
    return generator.random(shape, np.float32)


def random_thetas(count: int) -> NDArray[np.float32]:
    """Turns, scales and shifts, ``[count, 2, 3]``: from output to input, in coordinates from -1 to 1 between edges."""
    generator = np.random.default_rng(SEED)
    angle = np.radians(generator.uniform(-MAX_TURN_DEG, MAX_TURN_DEG, count))
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=1)
    scaled = turn * generator.uniform(*SCALES, (count, 1, 1))
    shift = generator.uniform(-MAX_SHIFT, MAX_SHIFT, (count, 2, 1))
    return np.concatenate([scaled, shift], axis=2).astype(np.float32)


def full_theta(kind: str, height: int, width: int) -> NDArray[np.float64]:
    """What a large image is warped by: turned by 20 degrees and 0.9 times as large; or seen from the side."""
    if kind == "homography":
        return np.array([[0.9, 0.1, 0.0], [-0.05, 0.9, 0.05], [0.2, 0.1, 1.0]])
    cosine, sine = 0.9 * np.cos(np.radians(20)), 0.9 * np.sin(np.radians(20))
    return np.array([[cosine, -sine * height / width, 0.02], [sine * width / height, cosine, -0.03]])


def pixel_maps(thetas: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """The thetas in pixels, in their own shape ``[N, 2, 3]`` or ``[N, 3, 3]``, for inputs and outputs of one size.

    They take an output pixel (column, row) to how far right and down in the input it comes from; pixel j of n has its
    centre at (2 j + 1) / n - 1.
    """
    to_ends = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    lowest = np.tile(np.eye(3), (len(thetas), 1, 1))
    lowest[:, : thetas.shape[1]] = thetas
    maps: NDArray[np.float64] = (np.linalg.inv(to_ends) @ lowest @ to_ends)[:, : thetas.shape[1]]
    return maps


@contextmanager
def handed_over(**arrays: NDArray[Any]) -> Iterator[Path]:
    """A folder with the arrays, for the processes of a contest; gone with the block."""
    with TemporaryDirectory() as folder:
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array)
        yield Path(folder)


def given_file(name: str) -> Path:
    """A file in the folder that was handed over to this process."""
    return Path(os.environ[VARIABLE]) / name


def given(name: str) -> NDArray[Any]:
    """An array that was handed over to this process."""
    array: NDArray[Any] = np.load(given_file(f"{name}.npy"))
    return array
