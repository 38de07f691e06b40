"""The sampler in C, for inference: warps images without TensorFlow, as ``stn_core.sampler`` does with it.

``warp.c`` and the files beside it, which tell what lies inside an image and make images smaller, are compiled when the
package is installed. No gradients; images are uint8 or float32, with constant fill.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any, NamedTuple

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
MAX_PLACES = 1 << 20
"""Of a spline, about so many places at most are kept in memory at once."""

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


def warp(
    images: NDArray[Any], theta: NDArray[Any], size: Size | None = None, fill_fraction: float = 0.0, threads: int = 1
) -> NDArray[Any]:
    """``images [N, H, W, C]`` warped by ``theta`` (of any family): ``[N, *size, C]``, H and W unless given.

    uint8 images come back as uint8, rounded half to even; ``fill_fraction`` 1 is white in either datatype. BadTensor
    for other datatypes, Unsupported where the package was installed without a compiler.
    """
    _check_images(images)
    check_shape(theta.shape)
    if len(theta) != len(images):
        raise BadTensor(f"theta: expected {len(images)}, one for each image, got {len(theta)}")
    images, theta = np.ascontiguousarray(images), np.ascontiguousarray(theta, np.float64)
    count, height, width, channels = images.shape
    in_size: Size = (height, width)
    out_size = in_size if size is None else size
    check_sides(in_size)
    check_sides(out_size)
    out = np.empty((count, *out_size, channels), images.dtype)
    fill = fill_fraction * 255 if images.dtype == np.uint8 else fill_fraction
    for part in _parts(theta, in_size, out):
        source = (*_described(images if part.images is None else images[part.images]), *part.places)
        _run(library().stn_warp, source, part.out, threads, fill)
    return out


def inside(theta: NDArray[Any], in_size: Size, size: Size | None = None, threads: int = 1) -> NDArray[np.bool_]:
    """Whether each output pixel's centre is read from inside an image of ``in_size``, edges included: ``[N, *size]``.

    The places are those that ``warp`` reads from. Errors are as there.
    """
    check_shape(theta.shape)
    theta = np.ascontiguousarray(theta, np.float64)
    for sides in (in_size, size or in_size):
        check_sides(sides)
    out = np.empty((len(theta), *(size or in_size)), np.bool_)
    for part in _parts(theta, in_size, out):
        _run(library().stn_inside, (*in_size, *part.places), part.out, threads)
    return out


def reduced(images: NDArray[Any], size: Size, threads: int = 1) -> NDArray[Any]:
    """``images [N, H, W, C]`` averaged over areas to the smaller ``size``: ``[N, *size, C]``, uint8 or float32.

    Each pixel is the mean of the part of the image that it covers, so that nothing is moved. ``images`` themselves if
    that is their size; BadTensor if it is larger in either direction.
    """
    _check_images(images)
    if not (1 <= size[0] <= images.shape[1] and 1 <= size[1] <= images.shape[2]):
        raise BadTensor(f"size: expected no more than the image's {images.shape[1]} x {images.shape[2]}, got {size}")
    if images.shape[1:3] == tuple(size):
        return images
    images = np.ascontiguousarray(images)
    out = np.empty((len(images), *size, images.shape[3]), images.dtype)
    _run(library().stn_reduce, _described(images), out, threads)
    return out


def check_sides(size: Size) -> None:
    """BadTensor if an image of ``size`` has sides that the sampler does not count to."""
    if max(size) > MAX_SIDE_PX:
        raise BadTensor(
            f"images: expected sides of at most {MAX_SIDE_PX} px, got {size[0]} x {size[1]}; scale the images down or "
            "cut them into tiles"
        )


def _check_images(images: NDArray[Any]) -> None:
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4:
        raise BadTensor(f"images: expected uint8 or float32 [N, H, W, C], got {images.dtype} {list(images.shape)}")


def _described(images: NDArray[Any]) -> tuple[Any, ...]:
    return (address(images), int(images.dtype == np.uint8), *images.shape[1:])


class _Part(NamedTuple):
    """Some of the images, None for all, the places that are read for some rows of their output, and those rows."""

    images: slice | None
    places: tuple[Any, ...]
    out: NDArray[Any]


def _parts(theta: NDArray[Any], in_size: Size, out: NDArray[Any]) -> Iterable[_Part]:
    """All at once where theta tells the places; splines in parts, as theirs are computed before they are read."""
    if theta.shape[2] == 3:
        min_w = 0.0 if theta.shape[1] == 2 else homography.MIN_DENOMINATOR
        return (_Part(None, (address(theta), min_w, None, None), out),)
    return _spline_parts(theta, in_size, out)


def _spline_parts(theta: NDArray[Any], in_size: Size, out: NDArray[Any]) -> Iterator[_Part]:
    out_size = (out.shape[1], out.shape[2])
    step, rows = max(1, MAX_PLACES // (out_size[0] * out_size[1])), max(1, MAX_PLACES // out_size[1])
    for start in range(0, len(out), step):
        images = slice(start, start + step)
        for top in range(0, out_size[0], rows):
            band = range(top, min(top + rows, out_size[0]))
            with np.errstate(invalid="ignore", over="ignore"):  # nothing of an image is at such a place
                x, y = tps.pixel_places(theta[images], in_size, out_size, band)
            yield _Part(images, (None, 0.0, address(x), address(y)), out[images, top : band.stop])


def _run(function: Any, source: tuple[Any, ...], out: NDArray[Any], threads: int, *more: float) -> None:
    """All rows of ``out [N, H, W, ...]``, in parts of whole images where there are enough of them."""
    count, height, width, *_ = out.shape
    rows = count * height
    target = (address(out), height, width)
    parts = 1 if threads == 1 else min(threads, out.size // MIN_VALUES_A_THREAD)
    if parts <= 1:
        _run_rows(function, source, target, (0, rows), more)
        return
    whole = height if count >= parts else 1
    edges = [round(rows / whole * part / parts) * whole for part in range(parts + 1)]
    list(_pool(threads).map(lambda ends: _run_rows(function, source, target, ends, more), pairwise(edges)))


def _run_rows(
    function: Any, source: tuple[Any, ...], target: tuple[Any, ...], rows: tuple[int, int], more: tuple[float, ...]
) -> None:
    if function(*source, *target, *rows, *more):
        raise MemoryError("no memory to warp images in")


def address(array: NDArray[Any]) -> int:
    """Where the values of an array begin, for C."""
    if array.size and array.flags.carray:  # contiguous and writeable: a quarter of the time of the other way
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return int(array.__array_interface__["data"][0])


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="warp")


def library_path() -> str:
    """The library in C, whether or not it is there."""
    return str(resources.files(__name__) / LIBRARY)


def _declare_alone(library: Any) -> None:
    """The functions of ``alone.c``, which ``stn_core.backends.alone`` calls."""
    library.stn_session.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.stn_tensor.argtypes = [_POINTER, ctypes.c_size_t, _POINTER, ctypes.c_size_t]
    library.stn_alone.argtypes = [_POINTER, _POINTER, ctypes.c_int, _POINTER]
    for function in (library.stn_session, library.stn_tensor):
        function.restype = _POINTER
    for function in (library.stn_release_session, library.stn_release_tensor):
        function.argtypes, function.restype = [_POINTER], None
    library.stn_problem.restype = ctypes.c_char_p


@cache
def library() -> Any:
    """The functions in C; Unsupported where the package was installed without a compiler."""
    images: list[Any] = [_POINTER, ctypes.c_int, *[_INTEGER] * 3]
    places: list[Any] = [_POINTER, ctypes.c_float, _POINTER, _POINTER]
    rows: list[Any] = [_POINTER, *[_INTEGER] * 4]
    try:
        found = ctypes.CDLL(library_path())
        found.stn_warp.argtypes = images + places + rows + [ctypes.c_float]
        found.stn_reduce.argtypes = images + rows
        found.stn_inside.argtypes = [_INTEGER, _INTEGER, *places, *rows]
        _declare_alone(found)
    except (OSError, AttributeError):
        raise Unsupported(
            "the sampler in C is missing or older than the package, which needs a C compiler when it is installed: "
            "install one (gcc), and the package again"
        ) from None
    found.stn_inside.restype = None
    return found
