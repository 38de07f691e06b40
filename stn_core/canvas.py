"""The window that a full-size output shows, and in how many pixels: geometry alone, no image is touched.

Theta is found on a small copy of an image, the network's input, which is the image stretched; so theta, in normalized
coordinates, is that of the image itself.

- ``crop`` is the network's own window, normalized output [-1, 1]². ``fit`` is the smallest one that the whole source
  lies in, at the same scale.
- Its resolution: along x and along y, a pixel steps by one source pixel, on the longer of the window's two sides that
  run there. The window of the identity has the size of the source; turned by 90 degrees, that of the source turned;
  twice as large, twice its height and width.
- Its shape: what is as wide as it is high in the small rectified image is so in the output, but for the stretch of the
  small copy, which is undone. Where theta itself stretches, as it does to undo a squeeze or a shear, the side that this
  makes longer has more pixels than it covers in the source; none has fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from stn_core import transforms
from stn_core.errors import BadTensor, InvalidInput, TooLarge, Unsupported, brief
from stn_core.geometry import CORNERS, MIN_DETERMINANT, Size
from stn_core.homography import MIN_DENOMINATOR

Canvas = Literal["crop", "fit"]
MAX_PIXELS = 2**26
MAX_SIDE_PX = 32766
"""As many as the sampler counts to (``stn_core.native``)."""
_STRAIGHT = ((2, 3), (3, 3))
_PROBES = 9


def _lines(points: int) -> NDArray[np.float64]:
    """Points of the window's sides ``[4, points, 2]``: of the two that run along x, then of those along y."""
    line = np.linspace(-1, 1, points)
    along_x = np.stack([np.stack([line, np.full(points, y)], axis=-1) for y in (-1.0, 1.0)])
    return np.concatenate([along_x, along_x[..., ::-1]])


_LINES, _BENT_LINES = _lines(2), _lines(65)


@dataclass(frozen=True)
class Wanted:
    """The output that is asked for.

    ``size`` (height, width) is taken as it is: of ``crop`` the window is stretched to it, of ``fit`` it is widened,
    and nothing is stretched. Without it the resolution is the source's, or such that the longer side has
    ``max_side_px``, if that is less. InvalidInput if they make no sense.
    """

    canvas: Canvas = "crop"
    size: Size | None = None
    max_side_px: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.canvas not in get_args(Canvas):
            raise InvalidInput(f"canvas: expected one of {', '.join(get_args(Canvas))}, got {brief(self.canvas)}")
        if self.size is not None and self.max_side_px is not None:
            raise InvalidInput("expected size or max_side_px, got both; leave one out")
        if self.size is not None and not (len(self.size) == 2 and all(_is_count(side) for side in self.size)):
            raise InvalidInput(f"size: expected (height, width) of at least 1 px each, got {brief(self.size)}")
        if self.max_side_px is not None and not _is_count(self.max_side_px):
            raise InvalidInput(f"max_side_px: expected at least 1 px, got {brief(self.max_side_px)}")


AS_IT_COMES = Wanted()


class Frame(NamedTuple):
    """What a theta was found in, sizes as (height, width): of the source, of its small copy, and of that rectified."""

    source: Size
    input: Size
    rectified: Size


class Window(NamedTuple):
    """``theta`` (of the network's family) maps the window's [-1, 1]² to the source; ``size`` is that of the output."""

    theta: NDArray[np.float64]
    size: Size


def output_window(theta: NDArray[Any], frame: Frame, wanted: Wanted) -> Window:
    """The window of one network's ``theta`` (``[2, 3]``, ``[3, 3]`` or ``[K², 2]``).

    TooLarge if the output has more than ``wanted.max_pixels``, or a side of more than ``MAX_SIDE_PX``. Unsupported for
    a homography whose horizon crosses the source (``fit``) or the window (where the output's size has to be found), and
    for a spline in ``fit``: it has no inverse, and seen through another window it is no spline of its kind. BadTensor
    for a theta that is not finite, or shows nothing.
    """
    theta = np.asarray(theta, np.float64)
    if not np.isfinite(theta).all():
        raise BadTensor("theta: expected finite numbers, got NaN or infinity; does the image hold some?")
    if wanted.canvas == "crop" and wanted.size is not None:
        _check_size(wanted.size, wanted)
        return Window(theta, wanted.size)
    low, high = _source_box(theta) if wanted.canvas == "fit" else (np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    px_of_unit = np.array(natural_size_px(theta, frame)[::-1]) / 2
    size = wanted.size or _size_of((high - low) * px_of_unit, wanted)
    _check_size(size, wanted)
    if wanted.canvas == "crop":
        return Window(theta, size)
    if wanted.size is not None:
        width_height = np.array(size[::-1])
        px_of_unit *= (width_height / ((high - low) * px_of_unit)).min()
        low, high = (low + high - width_height / px_of_unit) / 2, (low + high + width_height / px_of_unit) / 2
    return Window(_seen_through(theta, low, high), size)


def natural_size_px(theta: NDArray[Any], frame: Frame) -> tuple[float, float]:
    """Height and width of the network's window at the source's resolution, not rounded."""
    if theta.shape == (3, 3) and not (_depth(theta, CORNERS) > MIN_DENOMINATOR).all():
        raise Unsupported("theta: its horizon crosses the window, which so has no scale; give a size, in canvas crop")
    across, down = _sides(theta, frame)
    zooms = across.input_px / frame.rectified[1], down.input_px / frame.rectified[0]
    if min(zooms) < MIN_DETERMINANT:
        raise BadTensor("theta: expected a window with an area, but it shows a line or a point of the image")
    height, width = down.source_px * max(zooms) / zooms[1], across.source_px * max(zooms) / zooms[0]
    return height, width


def coarseness(theta: NDArray[Any], source: Size, size: Size) -> tuple[float, float]:
    """How many source pixels an output pixel covers, down and across the source, where in the output it is fewest.

    Of places that lie in the source; 1 if there are none.
    """
    at, right, below = transforms.map_points(np.asarray(theta)[None], _probes(size)).reshape(3, -1, 2)
    steps_px = np.hypot(right - at, below - at) * (np.array(source[::-1]) / 2)
    within = (np.abs(at) <= 1).all(axis=1)
    if not within.any():
        return 1.0, 1.0
    across, down = steps_px[within].min(axis=0).tolist()
    return down, across


@lru_cache(maxsize=64)
def _probes(size: Size) -> NDArray[np.float64]:
    """Places all over an output, then those a pixel to the right, and those a pixel below, ``[1, 3 P, 2]``."""
    height, width = size
    line = np.linspace(-1, 1, _PROBES)
    x, y = (grid.reshape(-1) for grid in np.meshgrid(line, line))
    points = np.stack([np.stack([x + dx, y + dy], axis=-1) for dx, dy in ((0, 0), (2 / width, 0), (0, 2 / height))])
    return points.reshape(1, -1, 2)


class _Side(NamedTuple):
    """How long a side of the window is, in pixels of the source and of the small input."""

    source_px: float
    input_px: float


def _sides(theta: NDArray[Any], frame: Frame) -> tuple[_Side, _Side]:
    """The longer one of the two sides that run along x, and of those along y."""
    lines = _LINES if theta.shape in _STRAIGHT else _BENT_LINES
    places = transforms.map_points(theta[None], lines.reshape(1, -1, 2)).reshape(lines.shape)
    steps = places[:, 1:] - places[:, :-1]
    halves = np.array([size[::-1] for size in (frame.source, frame.input)]) / 2
    lengths = np.hypot(*np.moveaxis(steps * halves[:, None, None], -1, 0)).sum(axis=-1)  # [2, 4]
    sides = [_Side(*pair) for pair in lengths.T.tolist()]
    return max(sides[:2]), max(sides[2:])


def _source_box(theta: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The upper left and the lower right corner, in normalized output coordinates, of what the source lies in."""
    if theta.shape not in _STRAIGHT:
        raise Unsupported(
            "canvas: fit asks where each point of the source comes to lie, and a thin-plate spline has no inverse that "
            "would tell; use crop"
        )
    inverse = transforms.as_shape(transforms.invert(theta[None]), (3, 3))[0]
    depth = _depth(inverse, CORNERS)
    if not (depth > 0).all():
        raise _crossed()
    corners = (CORNERS @ inverse[:2, :2].T + inverse[:2, 2]) / depth[:, None]
    return corners.min(axis=0), corners.max(axis=0)


def _seen_through(theta: NDArray[np.float64], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """Theta of the window from ``low`` to ``high``."""
    (half_width, half_height), (x, y) = (high - low) / 2, (high + low) / 2
    window = np.array([[half_width, 0.0, x], [0.0, half_height, y]])
    seen: NDArray[np.float64] = transforms.compose(theta[None], window[None])[0]
    if seen.shape == (3, 3):
        # As deep as the sampler sees, the source's corners have to be.
        depth = 1 / _depth(np.linalg.inv(seen), CORNERS)
        if not (depth > MIN_DENOMINATOR).all():
            raise _crossed()
    return seen


def _depth(theta: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """How far in front of a homography's horizon ``points [P, 2]`` are."""
    return np.asarray(points @ theta[2, :2] + theta[2, 2])


def _crossed() -> Unsupported:
    return Unsupported(
        "canvas: fit is to show the whole source, but the horizon of theta crosses it, or nearly: part of it would lie "
        "infinitely far away; use crop"
    )


def _size_of(width_height_px: NDArray[Any], wanted: Wanted) -> Size:
    longest = float(width_height_px.max())
    if wanted.max_side_px is not None and longest > wanted.max_side_px:
        width_height_px = width_height_px * (wanted.max_side_px / longest)
    width, height = (max(1, round(side)) for side in width_height_px.tolist())
    return height, width


def _check_size(size: Size, wanted: Wanted) -> None:
    height, width = size
    if max(size) > MAX_SIDE_PX or height * width > wanted.max_pixels:
        raise TooLarge(
            f"output: expected at most {wanted.max_pixels} pixels and sides of at most {MAX_SIDE_PX} px, got "
            f"{height} x {width}; give a smaller size, or max_side_px"
        )


def _is_count(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and side >= 1
