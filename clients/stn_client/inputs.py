"""Checks what goes with the images before anything is sent; every error says what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sized
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from stn_core.errors import BadRecipe, BadTensor, InvalidInput

MAX_SEED = 2**63 - 1


class Beside(NamedTuple):
    """What goes with each image: ``take(n)`` gives the rows of the next ``n`` images, of ``row_bytes`` each."""

    take: Callable[[int], NDArray[Any]]
    row_bytes: int


def theta_beside(theta: object, count: int | None) -> Beside:
    """The thetas of ``count`` images (None: of as many as come), given as one for all, one for each, or an iterator."""
    if isinstance(theta, Iterator):
        return _drawn("theta", theta, checked_theta)
    if count is not None:
        return _sliced("theta", checked_theta(theta, count))
    given = len(theta) if isinstance(theta, np.ndarray | list | tuple) and _rank(theta) == 3 else 0
    array = checked_theta(theta, given or 1)
    if given:
        return _sliced("theta", array)
    return Beside(lambda n: np.broadcast_to(array, (n, *array.shape[1:])), array.nbytes)


def ids_beside(ids: object, count: int | None) -> Beside:
    """The ids of ``count`` images (None: of as many as come), given as an array or an iterator."""
    if isinstance(ids, Iterator):
        return _drawn("ids", ids, checked_ids)
    if count is None:
        count = len(ids) if isinstance(ids, Sized) else 1
    return _sliced("ids", checked_ids(ids, count))


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


def _rank(array: object) -> int:
    try:
        return np.ndim(array)  # type: ignore[arg-type]
    except ValueError:  # lists of unequal lengths
        return 0


def _sliced(name: str, array: NDArray[Any]) -> Beside:
    at = 0

    def take(count: int) -> NDArray[Any]:
        nonlocal at
        rows, at = array[at : at + count], at + count
        _check_enough(name, len(rows), count)
        return rows

    return Beside(take, array.nbytes // len(array) if len(array) else 0)


def _drawn(name: str, rows: Iterator[Any], checked: Callable[[object, int], NDArray[Any]]) -> Beside:
    first = list(islice(rows, 1))
    row_bytes = checked(first, 1).nbytes if first else 0
    whole = chain(first, rows)

    def take(count: int) -> NDArray[Any]:
        taken = list(islice(whole, count))
        _check_enough(name, len(taken), count)
        return checked(taken, count)

    return Beside(take, row_bytes)


def _check_enough(name: str, given: int, count: int) -> None:
    if given < count:
        raise BadTensor(f"{name}: expected one for each image, but there are more images than that")
