"""The OpenAPI document, and a page that shows it; the page asks no other address for anything."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.openapi import openapi_document
from services.protocol import ModelSpec
from services.routes import ApiRoute, DescribedRoute

PAGE = Path(__file__).parent / "docs.html"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class Documentation:
    """Describes the routes of the protocol, its own two, and those for files."""

    def __init__(
        self, routes: Sequence[ApiRoute], file_routes: Sequence[DescribedRoute], specs: dict[str, ModelSpec]
    ) -> None:
        self._routes = [*routes, *self.routes()]
        self._file_routes = file_routes
        self._specs = specs

    def routes(self) -> list[ApiRoute]:
        return [
            ApiRoute("GET", "/openapi.json", self.openapi, "Documentation", "This document", "OpenApi"),
            ApiRoute("GET", "/docs", self.page, "Documentation", "This document as a page", "Page"),
        ]

    async def openapi(self, request: Request) -> Response:
        document = await asyncio.to_thread(lambda: self._document)
        return Response(document, media_type="application/json")

    async def page(self, request: Request) -> Response:
        page = await asyncio.to_thread(PAGE.read_bytes)
        return Response(page, headers={"content-security-policy": _POLICY}, media_type="text/html")

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(openapi_document(self._routes, self._file_routes, self._specs))
