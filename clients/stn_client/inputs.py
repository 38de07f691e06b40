"""Checks what the caller gave before anything is sent; every error says what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stn_core.errors import BadRecipe, BadTensor, InvalidInput

EXPECTED_IMAGES = "images: expected a NumPy array [N, H, W, C] or [N, H, W], uint8 or floating in [0, 1]"
MAX_SEED = 2**63 - 1
UNIT_RANGE_TOLERANCE = 1e-3  # resampling by bicubic or area filters leaves a little more than [0, 1]


@dataclass(frozen=True)
class ImageBatch:
    """``array [N, H, W, C]``, uint8 or float32, as it is sent; ``gray`` if the channel axis was added here."""

    array: NDArray[Any]
    gray: bool

    @classmethod
    def of(cls, images: object, *, unit_range: bool = True) -> ImageBatch:
        """The batch that ``images`` is, its floats within [0, 1] if ``unit_range``; BadTensor if it is none."""
        array = _checked_layout(images)
        if array.dtype.kind == "f":
            array = _checked_floats(array, unit_range)
        gray = array.ndim == 3
        return cls(array[..., None] if gray else array, gray)

    def like_input(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images of an answer, ``[N, H, W, C]``, with the axes that the caller's had."""
        return images[..., 0] if self.gray and images.ndim == 4 and images.shape[-1] == 1 else images


def checked_theta(theta: object, count: int) -> NDArray[np.float32]:
    """``theta`` as float32 ``[count, ...]``: one for each image, or one without that axis for all; else BadTensor."""
    expected = (
        f"theta: expected finite numbers of the shape [{count}, 2, 3] (affine), [{count}, 3, 3] (homography) or "
        f"[{count}, K*K, 2] (thin-plate spline), or without the {count} one for all images alike"
    )
    try:
        array = np.asarray(theta)
    except ValueError:
        raise BadTensor(f"{expected}; got lists of unequal lengths") from None
    one = array.shape[-2:]
    # How many control points a spline may have is for the service to say.
    is_theta = one in ((2, 3), (3, 3)) or (len(one) == 2 and one[1] == 2 and math.isqrt(one[0]) ** 2 == one[0])
    if array.dtype.kind not in "fiu" or not is_theta or array.shape[:-2] not in ((count,), ()):
        raise BadTensor(f"{expected}; got {array.dtype} {list(array.shape)}")
    if not np.isfinite(array).all():
        raise BadTensor(f"{expected}; got NaN or infinity")
    return np.broadcast_to(array.astype(np.float32), (count, *one))


def checked_ids(ids: object, count: int) -> NDArray[np.uint64]:
    """``ids`` as uint64 ``[count]``; else BadTensor."""
    expected = f"ids: expected {count} whole numbers from 0, one for each image"
    array = np.asarray(ids)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise BadTensor(f"{expected}; got {array.dtype} {list(array.shape)}")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise BadTensor(f"{expected}; got {array.min()}")
    return array.astype(np.uint64)


def checked_recipe(recipe: object) -> str:
    """``recipe`` as the service takes it: a name, or a recipe's JSON; BadRecipe if it is neither."""
    if isinstance(recipe, str) and recipe:
        return recipe
    if isinstance(recipe, Mapping):
        try:
            return orjson.dumps(dict(recipe)).decode()
        except TypeError as error:
            raise BadRecipe(f"recipe: expected what JSON can hold; {error}") from None
    got = "an empty string" if recipe == "" else type(recipe).__name__
    raise BadRecipe(f"recipe: expected the name of a recipe, its JSON, or a dict; got {got}")


def checked_seed(seed: object) -> int:
    """``seed`` as an int; InvalidInput if it is none, or out of range."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"seed: expected a whole number from 0 to {MAX_SEED}, got {seed!r}")
    return int(seed)


def _checked_layout(images: object) -> NDArray[Any]:
    if not isinstance(images, np.ndarray):
        raise BadTensor(f"{EXPECTED_IMAGES}; got {type(images).__name__}")
    got = f"got {images.dtype} {list(images.shape)}"
    if images.ndim not in (3, 4) or not (images.dtype == np.uint8 or images.dtype.name in ("float32", "float64")):
        raise BadTensor(f"{EXPECTED_IMAGES}; {got}")
    if len(images) == 0:
        raise BadTensor(f"images: expected at least one image; {got}")
    if 0 in images.shape:
        raise BadTensor(f"images: expected images of at least one pixel; {got}")
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4) and min(images.shape[:2]) >= 8:
        # Taken as [N, H, W] this would be a batch of slivers: surely one image, or a batch without its batch axis.
        raise BadTensor(f"{EXPECTED_IMAGES}; {got}, which looks like one image [H, W, C]: send images[None]")
    return images


def _checked_floats(array: NDArray[Any], unit_range: bool) -> NDArray[np.float32]:
    low, high = float(array.min()), float(array.max())  # NaN if any value is
    most = float(np.finfo(np.float32).max)
    if not (-most <= low and high <= most):
        raise BadTensor(f"images: expected finite floating values, got {array.dtype} from {low:.6g} to {high:.6g}")
    if unit_range and not (low >= -UNIT_RANGE_TOLERANCE and high <= 1 + UNIT_RANGE_TOLERANCE):
        raise BadTensor(
            f"images: expected floating values in [0, 1], got {array.dtype} from {low:.6g} to {high:.6g}; "
            "send pixels of 0 to 255 as uint8, or divide them by 255"
        )
    return array.astype(np.float32, copy=False)
