"""Images with known answers: what the service must say of them, as the engine says it in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TOLERANCES = {"theta": 1e-3, "probabilities": 2e-3}
"""Of networks whose batches are summed in another order; labels are exact."""


@dataclass(frozen=True)
class Known:
    """Images ``[N, H, W, C]`` uint8, and by its version what each bundle answers for them."""

    images: Array
    answers: dict[str, dict[str, Array]]

    def version_of(self, rows: Array, answer: dict[str, Array]) -> str | None:
        """The version of the bundle that gives ``answer`` for the images ``rows``, all of it; None if none does."""
        for version, right in self.answers.items():
            if _equal(answer["label"], right["label"][rows]) and all(
                _close(answer[name], right[name][rows], most) for name, most in TOLERANCES.items()
            ):
                return version
        return None

    def save(self, path: Path) -> None:
        flat: dict[str, Any] = {
            f"{version}/{name}": array for version, each in self.answers.items() for name, array in each.items()
        }
        np.savez(path, images=self.images, **flat)

    @classmethod
    def load(cls, path: Path) -> Known:
        with np.load(path) as file:
            answers: dict[str, dict[str, Array]] = {}
            for key in file.files:
                if "/" in key:
                    version, _, name = key.rpartition("/")
                    answers.setdefault(version, {})[name] = file[key]
            return cls(file["images"], answers)


def known_digits(bundles: Sequence[str | Path] = ("digits",), count: int = 1024, seed: int = 0) -> Known:
    """``count`` real digits, distorted as the bundles were taught, and what each bundle answers for them.

    Where two labels are about as likely an answer may be either, so such digits are left out.
    """
    from stn_core.augment import augment
    from stn_core.datasets import sample_digits
    from stn_core.engine import Engine
    from stn_core.recipes import parse_recipe

    clean = sample_digits().images
    images = clean[np.random.default_rng(seed).choice(len(clean), 2 * count, replace=True)]
    images = augment(images, parse_recipe("tutorial-mix"), seed).images
    answers: dict[str, dict[str, Array]] = {}
    sure = np.ones(len(images), bool)
    for bundle in bundles:
        engine = Engine.load(bundle)
        rectified, theta = engine.rectify(images)
        label, probabilities = engine.classify(rectified)
        best = np.sort(probabilities, axis=1)
        sure &= best[:, -1] - best[:, -2] > 10 * TOLERANCES["probabilities"]
        answers[engine.manifest.version] = {"label": label, "probabilities": probabilities, "theta": theta}
    rows = np.flatnonzero(sure)[:count]
    chosen = {version: {name: array[rows] for name, array in each.items()} for version, each in answers.items()}
    return Known(np.ascontiguousarray(images[rows]), chosen)


def _equal(got: Array, right: Array) -> bool:
    return got.shape == right.shape and bool((got == right).all())


def _close(got: Array, right: Array, most: float) -> bool:
    return got.shape == right.shape and bool((np.abs(got - right) <= most).all())
