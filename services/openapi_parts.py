"""Parts of the OpenAPI document that all its operations share."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from services.schemas import ref
from stn_core.errors import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, StnError

NUMBER = {"type": "integer", "minimum": 0}
OF_AN_ID = str.maketrans({"/": "_", ".": "_", "{": "", "}": ""})
_TITLES = {
    400: "Bad request",
    404: "Not found",
    406: "Not to be had in that form",
    408: "Came too slowly",
    413: "Too large",
    500: "Internal error",
    501: "Not served",
    503: "Try again later",
    504: "Timed out",
}


def problems(errors: Iterable[type[StnError]]) -> dict[str, Any]:
    """The answers that are ``errors``, by status, and that of an unexpected one."""
    codes: dict[int, list[str]] = defaultdict(list)
    every: tuple[type[StnError], ...] = (*errors, StnError)
    for error in every:
        codes[error.status].append(PROBLEM_TYPE_PREFIX + error.code)
    return {
        str(status): {
            "description": f"{_TITLES[status]}: {', '.join(names)}",
            "content": {PROBLEM_CONTENT_TYPE: {"schema": ref("Problem")}},
            **({"headers": {"retry-after": {"description": "Seconds", "schema": NUMBER}}} if status == 503 else {}),
        }
        for status, names in sorted(codes.items())
    }
