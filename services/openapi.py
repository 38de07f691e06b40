"""The OpenAPI 3.1 document, made from the table that the routes are made from."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import stn_core
from services.examples import Example, examples_of
from services.openapi_files import file_operation
from services.openapi_parts import NUMBER, OF_AN_ID, problems
from services.protocol import SERVER_NAME, ModelSpec
from services.routes import ApiRoute, DescribedRoute
from services.schemas import SCHEMAS, ref
from stn_core.wire import HEADER_LENGTH

_JSON, _BINARY = "application/json", "application/octet-stream"
_TEXTS = {"Page": "text/html", "Metrics": "text/plain"}
_KEYS = {  # asked for where the service has them; without, nobody is
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where they are asked for (else 401)"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in a header of its own"},
}
_INTRODUCTION = (
    "Straightens images, classifies them, warps them by given transforms and distorts them by recipes. It speaks the "
    "Open Inference Protocol v2 (KServe, Triton): a batch of images is one tensor."
)
_INFERENCE_NOTES = (
    "Tensors travel as JSON, or as binary data behind it: the header Inference-Header-Content-Length then says how "
    "many bytes of the body are JSON. With the length 0 the whole body is one image of predict, rectify or classify. "
    "Bodies may be compressed (Content-Encoding: gzip or deflate); so is the answer where Accept-Encoding names one of "
    "the two alone."
)


def openapi_document(
    routes: Iterable[ApiRoute], file_routes: Iterable[DescribedRoute], specs: dict[str, ModelSpec]
) -> dict[str, Any]:
    """The document for all routes and the models ``specs``; the paths' base is where the document lies."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    examples = examples_of(specs)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route, specs, examples)
    for file_route in file_routes:
        paths[file_route.path][file_route.method.lower()] = file_operation(file_route)
    return {
        "openapi": "3.1.0",
        "info": {"title": SERVER_NAME, "version": stn_core.__version__, "description": _INTRODUCTION},
        "servers": [{"url": "."}],
        "paths": dict(paths),
        "components": {"schemas": SCHEMAS, "securitySchemes": _KEYS},
        "security": [{}, *({name: []} for name in _KEYS)],
    }


def _operation(route: ApiRoute, specs: dict[str, ModelSpec], examples: Sequence[Example]) -> dict[str, Any]:
    examples = examples if route.body == "InferRequest" else ()  # never empty there: warp has one in any bundle
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{route.path}".translate(OF_AN_ID),
        "tags": [route.tag],
        "summary": route.summary,
        "responses": {**_answer(route, examples), **problems(route.errors)},
    }
    parameters = list(_path_parameters(route, specs)) + (_headers() if examples else [])
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        requests = {example.model: (example.summary, example.request) for example in examples}
        operation["requestBody"] = {"required": bool(examples), "content": _content(route.body, requests)}
    if examples:
        operation["description"] = _INFERENCE_NOTES
    return operation


def _answer(route: ApiRoute, examples: Sequence[Example]) -> dict[str, Any]:
    if route.answer is None:
        return {}
    answers = {example.model: (example.summary, example.answer) for example in examples if example.answer is not None}
    answer: dict[str, Any] = {"description": "Done", "content": _content(route.answer, answers)}
    if examples:
        answer["headers"] = {
            HEADER_LENGTH: {"description": "With binary data: bytes of JSON, before compression", "schema": NUMBER},
            "content-encoding": {"description": "Where asked for", "schema": {"enum": ["gzip", "deflate"]}},
        }
    return {"200": answer}


def _content(schema: str, bodies: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The content of a body: a text, or JSON, or for inference binary data too."""
    if schema in _TEXTS:
        return {_TEXTS[schema]: {"schema": ref(schema)}}
    content: dict[str, Any] = {_JSON: {"schema": ref(schema)}}
    if bodies:
        content[_JSON]["examples"] = {
            model: {"summary": f"{model}: {summary}", "value": body} for model, (summary, body) in bodies.items()
        }
    if schema in ("InferRequest", "InferResponse"):
        content[_BINARY] = {"schema": {"contentMediaType": _BINARY}}
    return content


def _path_parameters(route: ApiRoute, specs: dict[str, ModelSpec]) -> Iterable[dict[str, Any]]:
    versions = sorted({spec.version for spec in specs.values()})
    text = {"type": "string"}
    schemas = {"model": {"enum": list(specs)}, "version": {"enum": versions}, "region": text, "file": text}
    for name, schema in schemas.items():
        if f"{{{name}}}" in route.path:
            yield {"name": name, "in": "path", "required": True, "schema": schema}


def _headers() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": schema, "description": text}
        for name, schema, text in (
            (
                "Inference-Header-Content-Length",
                NUMBER,
                "Bytes of JSON where binary data follow; 0: none, but an image",
            ),
            ("Accept-Encoding", {"type": "string"}, "gzip or deflate alone asks for a compressed answer"),
            ("Content-Encoding", {"enum": ["gzip", "deflate"]}, "How the body is compressed"),
        )
    ]
