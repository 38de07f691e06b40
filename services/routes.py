"""What a route is: one table makes both the routes and the OpenAPI document that describes them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

from services.problems import Handler
from stn_core.errors import StnError, UnknownModel

MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


class ApiRoute(NamedTuple):
    """A route of the protocol, and what the document says of it; an unexpected error (500) goes without saying."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    answer: str | None
    """The schema of the JSON in an answer of status 200; None if there is no such answer."""
    errors: tuple[type[StnError], ...] = ()
    body: str | None = None
    """The schema of the JSON in a request."""


def of_model(
    method: str,
    name: str,
    handler: Handler,
    tag: str,
    summary: str,
    answer: str,
    errors: Iterable[type[StnError]] = (),
    body: str | None = None,
) -> list[ApiRoute]:
    """The route ``name`` of a model, with and without the model's version in its path."""
    return [
        ApiRoute(method, base + name, handler, tag, summary, answer, (UnknownModel, *errors), body)
        for base in (MODEL, VERSION)
    ]


class Parameter(NamedTuple):
    """A parameter of a route, in the query string or the body."""

    name: str
    schema: dict[str, Any]
    """What it may be, as JSON Schema."""
    description: str


class DescribedRoute(NamedTuple):
    """A route for files, or about recipes, and what the OpenAPI document says of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    parameters: tuple[Parameter, ...]
    takes: tuple[str, ...]
    """The media types of its bodies."""
    gives: tuple[str, ...]
    """The media types of its answers."""
    example: str
    """A command that calls it, below the service's address ``$URL``."""


def json_answer(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
