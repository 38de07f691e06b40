"""The routes for files and recipes in the OpenAPI document."""

from collections.abc import Sequence
from typing import Any

from services.openapi_parts import OF_AN_ID, problems
from services.routes import DescribedRoute, Parameter
from services.schemas import ref
from stn_core.errors import (
    BadBody,
    BadRecipe,
    BadTensor,
    NotAcceptable,
    Overloaded,
    SlowBody,
    StnError,
    TimedOut,
    TooLarge,
    Unavailable,
    UnknownRecipe,
)
from stn_core.recipes import shipped_recipes

_OF_FILES: tuple[type[StnError], ...] = (
    BadBody,
    BadTensor,
    BadRecipe,
    NotAcceptable,
    TooLarge,
    SlowBody,
    Overloaded,
    Unavailable,
    TimedOut,
)
_OF_RECIPES: tuple[type[StnError], ...] = (UnknownRecipe, TooLarge, Overloaded, Unavailable, TimedOut)
_FORM, _JSON, _PNG, _ANY_IMAGE = "multipart/form-data", "application/json", "image/png", "image/*"
_NAME = "{name}"


def file_operation(route: DescribedRoute) -> dict[str, Any]:
    """What the document says of ``route``."""
    of_files = bool(route.takes)
    named = _NAME in route.path
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{route.path}".translate(OF_AN_ID),
        "tags": ["Files" if of_files else "Recipes"],
        "summary": route.summary,
        "description": f"For example: {route.example}",
        "responses": {
            "200": {"description": "Done", "content": {kind: _answer(kind, of_files, named) for kind in route.gives}},
            **problems(_OF_FILES if of_files else _OF_RECIPES if named else ()),
        },
    }
    parameters = [{"name": one.name, "in": "query", **_said(one)} for one in route.parameters]
    if named:
        parameters.append({"name": "name", "in": "path", "required": True, "schema": {"enum": shipped_recipes()}})
    if parameters:
        operation["parameters"] = parameters
    if of_files:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": _body(kind, route.parameters)} for kind in route.takes},
        }
    return operation


def _said(parameter: Parameter) -> dict[str, Any]:
    return {"required": False, "description": parameter.description, "schema": parameter.schema}


def _body(kind: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    fields = {one.name: {**one.schema, "description": one.description} for one in parameters}
    if kind == _FORM:  # what a field of files is called makes no difference
        files = {"type": "array", "items": {"type": "string", "contentMediaType": _ANY_IMAGE}, "minItems": 1}
        return {"type": "object", "properties": {"image": files, **fields}, "required": ["image"]}
    if kind == _JSON:
        return {
            "type": "object",
            "properties": {
                "images": {"type": "array", "items": ref("EncodedImage"), "minItems": 1},
                "parameters": {"type": "object", "properties": fields},
            },
            "required": ["images"],
        }
    return {"contentMediaType": kind}


def _answer(kind: str, of_files: bool, named: bool) -> dict[str, Any]:
    if kind == _PNG:
        return {"schema": {"contentMediaType": _PNG}}
    return {"schema": ref("FileResults" if of_files else "Recipe" if named else "Recipes")}
