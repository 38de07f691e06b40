"""What results have in common: rows, parts, tables, pictures, and points mapped through theta."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_client.mapping import Geometry, mapped_array, mapped_list
from stn_client.pictures import as_picture
from stn_core.errors import StnError, Unsupported
from stn_core.points import MappedPoints


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What results have in common: ``len(result)``, its rows by ``result[3]`` or in a ``for``, parts by ``result[:9]``.

    ``index`` has the places of the images in the call. ``errors`` has, by place, why an image has no answer; its row
    holds -1, NaN, False or black then.
    """

    index: range = range(0)
    errors: Mapping[int, StnError] = field(default_factory=dict)
    _images: ClassVar[str | None] = None
    _by_row: ClassVar[tuple[str, ...]] = ()
    """Properties that rows have too."""
    _untabled: ClassVar[tuple[str, ...]] = ()
    """Fields that no table has, beside the images."""

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
            if name not in (self._images, *self._untabled):
                table |= _flat(name, column)
        if self.errors:
            table["error"] = [str(self.errors.get(place, "")) or None for place in self.index]
        return pandas.DataFrame(table, index=self.index)

    def to_pil(self) -> list[Any]:
        """The images as PIL images; None where there is an error. Needs Pillow; Unsupported without it."""
        return [row.to_pil() for row in self]

    def _value(self, name: str, row: int) -> Any:
        value = getattr(self, name)
        return value[row] if isinstance(value, np.ndarray) else value

    def _columns(self) -> dict[str, NDArray[Any]]:
        own_first = sorted(fields(self), key=lambda one: one.kw_only is True)
        values = {one.name: getattr(self, one.name) for one in own_first}
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
        if self.error is not None:
            return None
        image = getattr(self, name)
        if image is None:
            raise Unsupported("to_pil: no images were asked for, by pictures=False")
        return as_picture(image, "to_pil")

    def to_source(self, points_px: ArrayLike) -> MappedPoints:
        """``Mapped.to_source`` of this image: points ``[..., 2]``."""
        return self._mapped("to_source", points_px)

    def to_rectified(self, points_px: ArrayLike) -> MappedPoints:
        """``Mapped.to_rectified`` of this image: points ``[..., 2]``."""
        return self._mapped("to_rectified", points_px)

    def _mapped(self, direction: str, points_px: ArrayLike) -> MappedPoints:
        if not isinstance(self._rows, Mapped):
            raise Unsupported(f"{direction}: a {type(self._rows).__name__} has no theta that straightened images")
        return self._rows[self._row :][:1]._map_list(direction, [points_px])[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in (*self._rows.__dataclass_fields__, *self._rows._by_row):
            raise AttributeError(f"a row of a result has no {name!r}")
        return self._rows._value(name, self._row)

    def __dir__(self) -> list[str]:
        own = {one.name for one in fields(self._rows) if one.name != "errors"}
        return sorted({*super().__dir__(), "error", *own, *self._rows._by_row})

    def __repr__(self) -> str:
        return f"<row {self._row} of a {type(self._rows).__name__} of {len(self._rows)}>"


@dataclass(frozen=True, kw_only=True)
class Mapped(Rows):
    """Results whose theta maps points between an image as it was sent, the *source*, and the rectified one.

    Points are (x, y) in pixels from the upper left corner; pixel i's centre is at i + 0.5, as in ``stn_core.points``.
    ``[N, ..., 2]`` gives one ``MappedPoints`` with ``points_px`` and the flags ``inside``; a list of N arrays
    ``[..., 2]``, of any lengths, gives a list of them. Where an image was kept, or has an error, that counts.
    """

    @overload
    def to_source(self, points_px: NDArray[Any]) -> MappedPoints: ...
    @overload
    def to_source(self, points_px: Sequence[ArrayLike]) -> list[MappedPoints]: ...
    def to_source(self, points_px: NDArray[Any] | Sequence[ArrayLike]) -> MappedPoints | list[MappedPoints]:
        """Points of the rectified images on their sources; BadTensor for other shapes."""
        return self._map("to_source", points_px)

    @overload
    def to_rectified(self, points_px: NDArray[Any]) -> MappedPoints: ...
    @overload
    def to_rectified(self, points_px: Sequence[ArrayLike]) -> list[MappedPoints]: ...
    def to_rectified(self, points_px: NDArray[Any] | Sequence[ArrayLike]) -> MappedPoints | list[MappedPoints]:
        """Points of the sources on the rectified images; BadTensor for other shapes, or a theta that is singular."""
        return self._map("to_rectified", points_px)

    def _map(self, direction: str, points_px: NDArray[Any] | Sequence[ArrayLike]) -> MappedPoints | list[MappedPoints]:
        if not isinstance(points_px, np.ndarray) or points_px.dtype == object:
            return self._map_list(direction, list(points_px))
        return mapped_array(direction, points_px, self._geometry())

    def _map_list(self, direction: str, points_px: Sequence[ArrayLike]) -> list[MappedPoints]:
        return mapped_list(direction, points_px, self._geometry())

    @abstractmethod
    def _geometry(self) -> Geometry: ...


def _flat(name: str, column: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """``column [N, ...]`` as one column a number of a row."""
    names = ["_".join([name, *map(str, place)]) for place in np.ndindex(column.shape[1:])]
    return dict(zip(names, column.reshape(len(column), len(names)).T, strict=True))
