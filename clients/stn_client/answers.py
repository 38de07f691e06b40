"""Reads the answers to a call's requests, and puts them together: one row an image, in the order of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stn_client.batches import Batch
from stn_client.errors import BadAnswer
from stn_client.flow import Response
from stn_client.models import OPTIONAL_OUTPUTS, Model, R
from stn_core.errors import BadTensor, StnError
from stn_core.tensors import datatype_of
from stn_core.wire import HEADER_LENGTH, decode_response

# What stands in the row of an image that has an error, by the kind of the datatype, ...
FILLS: dict[str, Any] = {"i": -1, "u": 0, "f": np.nan, "b": False}
# ... and the shape of a row where no image at all has an answer to take it from.
NO_ROW: dict[str, tuple[int, ...]] = {"label": (), "exact": (), "probabilities": (0,), "theta": (2, 3)}
NO_IMAGE = (0, 0)
DTYPES = {"INT64": np.int64, "FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_, None: np.uint8}


class Answer(NamedTuple):
    """The outputs of one request by name, and the parameters that the service gave with them."""

    outputs: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any]


class Part(NamedTuple):
    """What came of the images at ``places``: an answer with a row for each, or for some of them errors by place."""

    places: Sequence[int]
    answer: Answer | None
    errors: Mapping[int, StnError]


@dataclass(frozen=True)
class Settled:
    """What came of one batch, whose images are at ``index``."""

    index: range
    parts: Sequence[Part]


def read_answer(response: Response, model: Model[Any], batch: Batch) -> Answer:
    """What ``model`` answered; BadAnswer if an output is missing, or is not what the protocol says."""
    length = response.headers.get(HEADER_LENGTH)
    try:
        decoded = decode_response(response.body, None if length is None else int(length))
    except (StnError, ValueError) as error:
        raise BadAnswer(f"expected an answer of the v2 protocol from model {model.name}: {error}") from None
    images, found = batch.inputs["images"], decoded.outputs
    of_images = "UINT8" if images.dtype == object else datatype_of(images)
    outputs = {}
    for name, datatype in model.outputs.items():
        if name not in found:
            if name in OPTIONAL_OUTPUTS:
                continue
            raise BadAnswer(f"expected the output {name} from model {model.name}, got {', '.join(found) or 'none'}")
        output, expected = found[name], datatype or of_images
        if datatype_of(output) != expected or output.shape[:1] != images.shape[:1]:
            raise BadAnswer(
                f"{name}: expected {expected} [{len(images)}, ...] from model {model.name}, "
                f"got {datatype_of(output)} {list(output.shape)}"
            )
        if datatype is None and batch.gray and output.ndim == 4 and output.shape[-1] == 1:
            output = output[..., 0]  # as the caller's images were
        outputs[name] = output
    return Answer(outputs, decoded.parameters)


class Gathered(Generic[R]):
    """The result of the images at ``index``, as their parts come; its arrays are the caller's own.

    Where images come out in several sizes, they are an array of arrays.
    """

    def __init__(self, model: Model[R], index: range) -> None:
        self._model, self._index = model, index
        self._columns: dict[str, NDArray[Any]] = {}
        self._errors: dict[int, StnError] = {}
        self._parameters: Mapping[str, Any] = {}

    def add(self, settled: Settled) -> None:
        """Puts the rows of a batch into place."""
        for part in settled.parts:
            self._errors.update(part.errors)
            if part.answer is not None:
                self._add(part.places, part.answer)

    def result(self) -> R:
        """The result of all parts, with ``index`` and ``errors``."""
        errors = dict(sorted(self._errors.items()))
        if not self._columns:
            self._columns = {name: self._no_rows(name) for name in self._model.outputs if name not in OPTIONAL_OUTPUTS}
        bad = [place - self._index.start for place in errors]
        for column in self._columns.values():
            for row in bad:
                column[row] = np.zeros(NO_IMAGE, np.uint8) if column.dtype == object else FILLS[column.dtype.kind]
        return self._model.result(self._columns, self._parameters, index=self._index, errors=errors)

    def _add(self, places: Sequence[int], answer: Answer) -> None:
        if not self._columns:
            self._parameters = answer.parameters
        elif self._columns.keys() != answer.outputs.keys():
            shown = "; ".join(sorted({", ".join(self._columns), ", ".join(answer.outputs)}))
            raise BadAnswer(f"expected the same outputs in every answer, got {shown}")
        first = self._index.start
        contiguous = isinstance(places, range)
        rows = slice(places[0] - first, places[-1] + 1 - first) if contiguous else [place - first for place in places]
        for name, values in answer.outputs.items():
            self._put(name, rows, values)

    def _put(self, name: str, rows: slice | list[int], values: NDArray[Any]) -> None:
        column = self._columns.get(name)
        if column is None:
            column = np.empty((len(self._index), *values.shape[1:]), values.dtype)
        elif column.dtype != object and (column.dtype, column.shape[1:]) != (values.dtype, values.shape[1:]):
            column = self._of_many_sizes(name, column, values)
        self._columns[name] = column
        if column.dtype != object:
            column[rows] = values
            return
        for row, value in zip(range(len(column))[rows] if isinstance(rows, slice) else rows, values, strict=True):
            column[row] = value.copy()

    def _of_many_sizes(self, name: str, column: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        if self._model.outputs[name] is not None:  # only images may differ
            shapes = sorted({f"{one.dtype} {['N', *one.shape[1:]]}" for one in (column, values)})
            raise BadAnswer(f"{name}: expected the same shape in every answer, got {', '.join(shapes)}")
        images = np.empty(len(column), object)
        for row, image in enumerate(column):
            images[row] = image
        return images

    def _no_rows(self, name: str) -> NDArray[Any]:
        datatype = self._model.outputs[name]
        return np.empty((len(self._index), *NO_ROW.get(name, NO_IMAGE)), DTYPES[datatype])


class Whole(Generic[R]):
    """The result of a call of ``count`` images; None if it is not known yet."""

    def __init__(self, model: Model[R], count: int | None) -> None:
        self._model = model
        self._gathered = None if count is None else Gathered(model, range(count))
        self._waiting: list[Settled] = []

    def add(self, settled: Settled) -> None:
        """Takes what came of the next batch."""
        if self._gathered is None:
            self._waiting.append(settled)
        else:
            self._gathered.add(settled)

    def result(self) -> R:
        """The result of all; BadTensor if there was nothing."""
        gathered = self._gathered
        if gathered is None:
            if not self._waiting:
                raise BadTensor("images: expected at least one image, got none")
            gathered = Gathered(self._model, range(self._waiting[-1].index.stop))
            self._waiting.reverse()
            while self._waiting:  # each is let go as it is copied
                gathered.add(self._waiting.pop())
        return gathered.result()
