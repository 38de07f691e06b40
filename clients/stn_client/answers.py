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
from stn_client.models import MASKS, PICTURES, SENT_SIZES, Model, R
from stn_core.errors import BadTensor, StnError
from stn_core.tensors import datatype_of
from stn_core.wire import HEADER_LENGTH, decode_response

# What stands in the row of an image that has an error, by the kind of the datatype, ...
FILLS: dict[str, Any] = {"i": -1, "u": 0, "f": np.nan, "b": False}
# ... and the shape of a row where no image at all has an answer to take it from.
NO_ROW: dict[str, tuple[int, ...]] = {
    "label": (), "exact": (), "probabilities": (0,), "theta": (2, 3), "rectified_size": (2,), "source_size": (2,),
}  # fmt: skip
NO_IMAGE = (0, 0)
DTYPES: dict[str, Any] = {
    "INT64": np.int64, "FP32": np.float32, "FP64": np.float64, "BOOL": np.bool_,
    PICTURES: np.uint8, MASKS: np.uint8, SENT_SIZES: np.int64,
}  # fmt: skip


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
    sent_as = "BYTES" if images.dtype == object else datatype_of(images)
    outputs: dict[str, NDArray[Any]] = {}
    for name in (*model.outputs, *model.by_choice):
        kind = model.kind(name)
        if kind == SENT_SIZES:
            outputs[name] = np.tile(np.array(batch.source_size, np.int64), (len(images), 1))
        elif name in found:
            outputs[name] = _checked(found[name], name, model, sent_as, len(images))
            if kind == MASKS or (kind == PICTURES and batch.gray):  # as the caller's images were
                outputs[name] = _without_one_channel(outputs[name])
        elif name not in model.by_choice:
            raise BadAnswer(f"expected the output {name} from model {model.name}, got {', '.join(found) or 'none'}")
    return Answer(outputs, decoded.parameters)


def _checked(output: NDArray[Any], name: str, model: Model[Any], sent_as: str, count: int) -> NDArray[Any]:
    expected = model.datatype(name, sent_as)
    if datatype_of(output) != expected or output.shape[:1] != (count,):
        raise BadAnswer(
            f"{name}: expected {expected} [{count}, ...] from model {model.name}, "
            f"got {datatype_of(output)} {list(output.shape)}"
        )
    return output


def _without_one_channel(output: NDArray[Any]) -> NDArray[Any]:
    return output[..., 0] if output.ndim == 4 and output.shape[-1] == 1 else output


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
            self._columns = {name: self._no_rows(name) for name in self._model.outputs}
        bad = [place - self._index.start for place in errors]
        columns = {name: self._filled(name, column, bad) for name, column in self._columns.items()}
        return self._model.result(columns, self._parameters, index=self._index, errors=errors)

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
            column[row] = value if isinstance(value, bytes) else value.copy()

    def _filled(self, name: str, column: NDArray[Any], bad: Sequence[int]) -> NDArray[Any]:
        """``column`` with what stands in the rows that have no answer; texts as such."""
        of_texts = self._model.kind(name) == "BYTES"
        for row in bad:
            if column.dtype != object:
                column[row] = FILLS[column.dtype.kind]
            else:
                column[row] = b"" if of_texts else np.zeros(NO_IMAGE, np.uint8)
        return np.array([text.decode("utf-8", "replace") for text in column]) if of_texts else column

    def _of_many_sizes(self, name: str, column: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        if self._model.kind(name) not in (PICTURES, MASKS):  # only images may differ
            shapes = sorted({f"{one.dtype} {['N', *one.shape[1:]]}" for one in (column, values)})
            raise BadAnswer(f"{name}: expected the same shape in every answer, got {', '.join(shapes)}")
        images = np.empty(len(column), object)
        for row, image in enumerate(column):
            images[row] = image
        return images

    def _no_rows(self, name: str) -> NDArray[Any]:
        return np.empty((len(self._index), *NO_ROW.get(name, NO_IMAGE)), DTYPES[self._model.kind(name)])


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
