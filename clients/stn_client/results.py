"""What the service answers: one frozen dataclass a model, with arrays that are the caller's own, ``N`` rows each.

``theta`` maps normalized output points to normalized input points, and is of one of three families, told apart by its
shape: affine ``[N, 2, 3]``, homography ``[N, 3, 3]``, thin-plate spline ``[N, K*K, 2]``.

``rectified`` and ``images`` come as the images went: in their datatype, and without a channel axis if they had none;
encoded pictures come as uint8 ``[N, H, W, C]``. Where they differ in size they are an array ``[N]`` of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import BadTensor, StnError, Unsupported


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What results have in common: ``len(result)``, its rows by ``result[3]`` or in a ``for``, parts by ``result[:9]``.

    ``index`` has the places of the images in the call. ``errors`` has, by place, why an image has no answer; its row
    holds -1, NaN, False or black then.
    """

    index: range = range(0)
    errors: Mapping[int, StnError] = field(default_factory=dict)
    _images: ClassVar[str | None] = None

    def __len__(self) -> int:
        return len(next(iter(self._columns().values())))

    @overload
    def __getitem__(self, rows: slice) -> Self: ...
    @overload
    def __getitem__(self, rows: int) -> Row: ...
    def __getitem__(self, rows: slice | int) -> Self | Row:
        if not isinstance(rows, slice):
            return Row(self, range(len(self))[rows])
        index = self.index[rows]
        kept = {place: error for place, error in self.errors.items() if place in index}
        columns = {name: column[rows] for name, column in self._columns().items()}
        return replace(self, index=index, errors=kept, **columns)

    def __iter__(self) -> Iterator[Row]:
        return (Row(self, row) for row in range(len(self)))

    def to_pandas(self) -> Any:
        """A data frame with one row an image, numbered by place, and a column for each number but the pixels.

        An array gives columns like ``theta_0_2``; ``probability`` is that of the label; ``error`` is there if there are
        any. Needs pandas; Unsupported without it.
        """
        try:
            import pandas
        except ImportError:
            raise Unsupported("to_pandas needs pandas, which is not installed: pip install pandas") from None
        table: dict[str, Any] = {}
        for name, column in self._columns().items():
            if name == "probabilities":
                table["probability"] = column.max(axis=1) if column.size else np.nan
            if name != self._images:
                table |= _flat(name, column)
        if self.errors:
            table["error"] = [str(self.errors.get(place, "")) or None for place in self.index]
        return pandas.DataFrame(table, index=self.index)

    def to_pil(self) -> list[Any]:
        """The images as PIL images; None where there is an error. Needs Pillow; Unsupported without it."""
        return [row.to_pil() for row in self]

    def _columns(self) -> dict[str, NDArray[Any]]:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


class Row:
    """One image of a result: the same fields without the N, its place ``index``, and its ``error`` or None."""

    __slots__ = ("_row", "_rows")

    def __init__(self, rows: Rows, row: int) -> None:
        self._rows, self._row = rows, row

    @property
    def index(self) -> int:
        return self._rows.index[self._row]

    @property
    def error(self) -> StnError | None:
        return self._rows.errors.get(self.index)

    def to_pil(self) -> Any:
        """The image as a PIL image; None if there is an error. Needs Pillow; Unsupported without it."""
        name = self._rows._images
        if name is None:
            raise Unsupported(f"to_pil: a {type(self._rows).__name__} has no images")
        return None if self.error is not None else _as_pil(getattr(self, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._rows.__dataclass_fields__:
            raise AttributeError(f"a row of a result has no {name!r}")
        value = getattr(self._rows, name)
        return value[self._row] if isinstance(value, np.ndarray) else value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), "error", *(one.name for one in fields(self._rows) if one.name != "errors")})

    def __repr__(self) -> str:
        return f"<row {self._row} of a {type(self._rows).__name__} of {len(self._rows)}>"


@dataclass(frozen=True)
class Prediction(Rows):
    """``label [N]``, ``probabilities [N, K]``, and the ``theta`` that made ``rectified`` from the image."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    theta: NDArray[np.float32]
    rectified: NDArray[Any]
    _images: ClassVar[str | None] = "rectified"


@dataclass(frozen=True)
class Rectification(Rows):
    """``rectified`` images, and the ``theta`` that made each: ``rectified(u) = image(theta u)``."""

    rectified: NDArray[Any]
    theta: NDArray[np.float32]
    _images: ClassVar[str | None] = "rectified"


@dataclass(frozen=True)
class Classification(Rows):
    """``label [N]`` and ``probabilities [N, K]`` of the images as they are."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Warping(Rows):
    """Warped ``images``: ``warped(u) = image(theta u)``."""

    images: NDArray[Any]
    _images: ClassVar[str | None] = "images"


@dataclass(frozen=True)
class Augmentation(Rows):
    """Distorted ``images``, of the canvas' size if the recipe has one: ``distorted(u) = original(theta u)``.

    ``theta_rectifying`` is the inverse of ``theta`` and straightens them; None for a spline, which has no inverse. Both
    are exact where ``exact [N]`` is true; where it is false, an ``elastic`` step moved pixels too. ``by_imgaug`` names
    the recipe's steps that no warp composes with, which imgaug applies image by image and so much slower.
    """

    images: NDArray[Any]
    theta: NDArray[np.float64]
    theta_rectifying: NDArray[np.float64] | None
    exact: NDArray[np.bool_]
    by_imgaug: tuple[str, ...]
    _images: ClassVar[str | None] = "images"


def _flat(name: str, column: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """``column [N, ...]`` as one column a number of a row."""
    names = ["_".join([name, *map(str, place)]) for place in np.ndindex(column.shape[1:])]
    return dict(zip(names, column.reshape(len(column), len(names)).T, strict=True))


def _as_pil(image: NDArray[Any]) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise Unsupported("to_pil needs Pillow, which is not installed: pip install pillow") from None
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim == 3 and image.shape[-1] not in (3, 4):
        raise BadTensor(f"to_pil: expected images of 1, 3 or 4 channels, got {image.shape[-1]}")
    if image.dtype.kind == "f":
        image = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(image))
