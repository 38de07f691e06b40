"""Answers of the routes for files: one entry a file as JSON, or one image as PNG with the rest in headers."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from services.annotated import ANNOTATIONS
from services.asks import AUGMENT, Ask, is_picture
from services.batching import Array
from services.pipelines import Outcome
from services.problems import problem_headers
from services.protocol import ModelSpec
from stn_core.errors import PROBLEM_CONTENT_TYPE, Overloaded, StnError, shortened
from stn_core.png import encode_png

JSON, PNG = "application/json", "image/png"
MAX_HEADER_CHARACTERS = 2048
"""Of one value; proxies allow some 8 to 16 KiB of headers altogether."""
MAX_CLASSES = 100
"""Named with their probabilities, the most probable first."""
_VARY = {"vary": "accept"}


def json_answer(ask: Ask, names: Sequence[str | None], outcomes: Sequence[Outcome | StnError], path: str) -> Response:
    """An entry for each file, in their order: results, or an error.

    The status is 200 if one at least went well; else that of the first error, whose problem document the entries join.
    """
    results = [
        {"name": None if name is None else shortened(name), **_entry(ask, outcome)}
        for name, outcome in zip(names, outcomes, strict=True)
    ]
    document: dict[str, Any] = {"model": ask.spec.name, "version": ask.spec.version, "results": results}
    errors = [outcome for outcome in outcomes if isinstance(outcome, StnError)]
    if len(errors) < len(outcomes):
        return Response(_encoded(document), headers=_VARY, media_type=JSON)
    document = {**errors[0].problem(path), **document}
    headers = _VARY | problem_headers(errors[0])
    return Response(_encoded(document), errors[0].status, headers, media_type=PROBLEM_CONTENT_TYPE)


def png_answer(ask: Ask, outcome: Outcome | StnError) -> Response:
    """The image of the only file; the other outputs in headers ``stn-...``, each as JSON in ASCII.

    Raises the error that the file came to.
    """
    if isinstance(outcome, StnError):
        raise outcome
    headers = dict(_VARY)
    for name, value in orjson.loads(_encoded({**_row(ask.spec, outcome, 0), **outcome.parameters})).items():
        text = json.dumps(value)
        if len(text) <= MAX_HEADER_CHARACTERS:
            headers[f"stn-{name.replace('_', '-')}"] = text
    picture = outcome.outputs[_names(ask.spec, pictures=True)[0]]
    return Response(_png(picture[0]), headers=headers, media_type=PNG)


def _entry(ask: Ask, outcome: Outcome | StnError) -> dict[str, Any]:
    if isinstance(outcome, StnError):
        retry = {"retry_after_s": outcome.retry_after_s} if isinstance(outcome, Overloaded) else {}
        return {"error": {**outcome.problem(), **retry}}
    rows = [
        {**_row(ask.spec, outcome, k), **(_pictures(ask.spec, outcome, k) if ask.pictures else {})}
        for k in range(ask.copies)
    ]
    return {**({"copies": rows} if ask.spec.name == AUGMENT else rows[0]), **outcome.parameters}


def _row(spec: ModelSpec, outcome: Outcome, index: int) -> dict[str, Any]:
    """What the model says of image ``index`` beside images: its outputs by name, in its order."""
    said = [name for name in (*_names(spec, pictures=False), ANNOTATIONS) if name in outcome.outputs]
    values = {name: _plain(outcome.outputs[name][index]) for name in said}
    classes = spec.parameters.get("classes", ())
    scores = values.get("probabilities", ())
    if "label" not in values or len(scores) != len(classes) or not 0 <= values["label"] < len(classes):
        return values
    by_class: dict[str, Any] = {}
    for k in np.argsort(-scores, kind="stable")[:MAX_CLASSES]:
        by_class.setdefault(classes[k], scores[k])  # two classes may have one name
    label = values["label"]
    first = {"label": label, "class": classes[label], "probability": scores[label]}
    return {**first, **values, "probabilities": by_class}


def _pictures(spec: ModelSpec, outcome: Outcome, index: int) -> dict[str, str]:
    """Images as base64 of PNG: the one that the model makes as ``image``, any others by the outputs' names."""
    main, *others = _names(spec, pictures=True)
    keys = {main: "image", **{name: name for name in others}}
    return {
        key: base64.b64encode(_png(outcome.outputs[name][index])).decode()
        for name, key in keys.items()
        if name in outcome.outputs
    }


def _png(picture: Any) -> bytes:
    """An image of an output, which is pixels or a PNG already."""
    return picture if isinstance(picture, bytes) else encode_png(picture)


def _names(spec: ModelSpec, pictures: bool) -> list[str]:
    return [tensor.name for tensor in spec.outputs if is_picture(tensor) is pictures]


def _plain(value: Any) -> Any:
    """A value of an output as orjson takes it: numbers keep their datatype, and so the digits that tell them apart."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.str_):
        return str(value)
    if not isinstance(value, np.ndarray):
        return value
    array: Array = value
    if array.dtype.kind in "OSU":
        return [_plain(item) for item in array]
    return np.ascontiguousarray(array)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
