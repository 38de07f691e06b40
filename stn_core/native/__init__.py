"""The sampler in C, for inference: warps images without TensorFlow, as ``stn_core.sampler`` does with it.

``warp.c`` is compiled when the package is installed. No gradients; images are uint8 or float32, with constant fill.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import homography, tps
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import Size
from stn_core.transforms import check_shape

LIBRARY = "warp.so"
MAX_SIDE_PX = 32766
"""Of images and results: places of larger ones are not exact in float32, nor pixels counted in 32 bits."""
MIN_VALUES_A_THREAD = 1 << 14
"""Less is done sooner than another thread is woken."""
MAX_PLACES = 1 << 22
"""Of a spline, so many places at most are kept in memory at once."""

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


def warp(
    images: NDArray[Any], theta: NDArray[Any], size: Size | None = None, fill_fraction: float = 0.0, threads: int = 1
) -> NDArray[Any]:
    """``images [N, H, W, C]`` warped by ``theta`` (of any family): ``[N, *size, C]``, H and W unless given.

    uint8 images come back as uint8, rounded half to even; ``fill_fraction`` 1 is white in either datatype. BadTensor
    for other datatypes, Unsupported where the package was installed without a compiler.
    """
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4:
        raise BadTensor(f"images: expected uint8 or float32 [N, H, W, C], got {images.dtype} {list(images.shape)}")
    check_shape(theta.shape)
    if len(theta) != len(images):
        raise BadTensor(f"theta: expected {len(images)}, one for each image, got {len(theta)}")
    images, theta = np.ascontiguousarray(images), np.ascontiguousarray(theta, np.float64)
    in_size: Size = (images.shape[1], images.shape[2])
    for sides in (in_size, size or in_size):
        check_sides(sides)
    out = np.empty((len(images), *(size or in_size), images.shape[3]), images.dtype)
    if theta.shape[2] == 3:
        min_w = 0.0 if theta.shape[1] == 2 else homography.MIN_DENOMINATOR
        _run(images, (_address(theta), min_w, None, None), out, fill_fraction, threads)
    else:
        _warp_by_places(images, theta, out, fill_fraction, threads)
    return out


def check_sides(size: Size) -> None:
    """BadTensor if an image of ``size`` has sides that the sampler does not count to."""
    if max(size) > MAX_SIDE_PX:
        raise BadTensor(
            f"images: expected sides of at most {MAX_SIDE_PX} px, got {size[0]} x {size[1]}; scale the images down or "
            "cut them into tiles"
        )


def _warp_by_places(
    images: NDArray[Any], theta: NDArray[Any], out: NDArray[Any], fill_fraction: float, threads: int
) -> None:
    in_size, out_size = (images.shape[1], images.shape[2]), (out.shape[1], out.shape[2])
    step = max(1, MAX_PLACES // (out_size[0] * out_size[1]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        with np.errstate(invalid="ignore", over="ignore"):  # nothing of an image is at such a place
            x, y = tps.pixel_places(theta[part], in_size, out_size)
        places = (None, 0.0, _address(x), _address(y))
        _run(images[part], places, out[part], fill_fraction, threads)


def _run(images: NDArray[Any], places: tuple[Any, ...], out: NDArray[Any], fill_fraction: float, threads: int) -> None:
    """Warps all output rows, in parts of whole images where there are enough of them."""
    count, height, width = out.shape[:3]
    rows = count * height
    is_bytes = images.dtype == np.uint8
    source = (_address(images), int(is_bytes), *images.shape[1:], *places)
    target = (_address(out), height, width)
    fill = fill_fraction * 255 if is_bytes else fill_fraction
    parts = min(threads, out.size // MIN_VALUES_A_THREAD)
    if parts <= 1:
        _warp_rows(source, target, 0, rows, fill)
        return
    whole = height if count >= parts else 1
    edges = [round(rows / whole * part / parts) * whole for part in range(parts + 1)]
    list(_pool(threads).map(lambda first, last: _warp_rows(source, target, first, last, fill), edges[:-1], edges[1:]))


def _warp_rows(source: tuple[Any, ...], target: tuple[Any, ...], first: int, last: int, fill: float) -> None:
    if _library().stn_warp(*source, *target, first, last, fill):
        raise MemoryError("no memory to warp images in")


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])  # array.ctypes.data, which is slower, is the same


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="warp")


@cache
def _library() -> Any:
    path = resources.files(__name__) / LIBRARY
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        raise Unsupported(
            "the sampler in C is missing, as this package was installed without a C compiler: install one (gcc), and "
            "the package again"
        ) from None
    library.stn_warp.argtypes = [
        _POINTER, ctypes.c_int, _INTEGER, _INTEGER, _INTEGER,
        _POINTER, ctypes.c_float, _POINTER, _POINTER,
        _POINTER, _INTEGER, _INTEGER, _INTEGER, _INTEGER, ctypes.c_float,
    ]  # fmt: skip
    return library
