"""The Playground, a page of static files: read once, sent with a tag by which browsers keep them."""

import gzip
import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.problems import unknown_route
from services.routes import ApiRoute

INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "cache-control": "no-cache",  # kept, but asked for again: a newer service has newer files
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
}


class _File(NamedTuple):
    content: bytes
    packed: bytes
    """By gzip."""
    media_type: str
    tag: str


class PlaygroundFiles:
    """The page at ``/``, and its files below ``/playground/``."""

    def routes(self) -> list[ApiRoute]:
        return [
            ApiRoute("GET", "/", self.index, "Playground", "The Playground, a page to try the service", "Page"),
            ApiRoute("GET", "/playground/{file}", self.file, "Playground", "A file of that page", "Page"),
        ]

    async def index(self, request: Request) -> Response:
        return _sent(request, _files()[INDEX])

    async def file(self, request: Request) -> Response:
        found = _files().get(request.path_params["file"])
        if found is None:
            return await unknown_route(request, HTTPException(404))
        return _sent(request, found)


@cache
def _files() -> dict[str, _File]:
    """All files by their names; some 100 kB."""
    folder = resources.files("services") / "playground"
    read = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    return {
        name: _File(
            content,
            gzip.compress(content, mtime=0),
            _TYPES[name[name.rindex(".") :]],
            f'"{hashlib.sha256(content).hexdigest()[:16]}"',
        )
        for name, content in read.items()
    }


def _sent(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "etag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    accepted = [coding.split(";")[0].strip() for coding in request.headers.get("accept-encoding", "").split(",")]
    if "gzip" in accepted and len(file.packed) < len(file.content):
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
