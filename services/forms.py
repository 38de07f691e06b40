"""Reads what people send with curl, scripts and browsers: files and parameters out of multipart, JSON or a bare image.

Everything stays in memory, within the limits on the body; no name of a request becomes a path.
"""

import base64
import binascii
import logging
import re
from typing import Any, NamedTuple

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, StnError, TooLarge, brief, shortened
from stn_core.recipes.loading import MAX_RECIPE_BYTES

MAX_FIELDS = 32
"""Parameters in one multipart body."""
MAX_FIELD_BYTES = MAX_RECIPE_BYTES
"""One parameter; a recipe is the longest, but for annotations, which may be as long as all of a JSON body."""
MAX_HEADER_BYTES = 8192
"""The headers of one part."""
_MAX_CONTENT_TYPE = 1024
_MAX_BOUNDARY = 70  # as RFC 2046 has it
_LONG = "annotations"
_TEXT_FILES = ("recipe", _LONG)
"""Parameters that may come as a file, which is otherwise an image."""
_NUMBER_OR_FLAG = re.compile(r"true|false|-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_DATA_URL = re.compile(r"data:image/[\w.+-]{1,40};base64,", re.ASCII)

# It writes a line for each malformed body, which is the sender's mistake and answered as such.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class Item(NamedTuple):
    """One image file: its name as given, which the answer repeats, and its bytes, or what is wrong with it.

    ``annotations``: what came beside it in JSON, unread.
    """

    name: str | None
    data: bytes | StnError
    annotations: Any = None


class Form(NamedTuple):
    """What a body holds; a parameter may be there twice."""

    items: list[Item]
    parameters: list[tuple[str, Any]]


def read_form(content_type: str, body: bytes, limits: Limits) -> Form:
    """The files and parameters in ``body``: at least one file, and no more than ``limits`` allow.

    BadBody or TooLarge if it cannot be read as a whole; a file that is no base64 is an error of its item alone.
    """
    kind, options = _media_type(content_type)
    if kind == "multipart/form-data":
        form = _read_multipart(body, options.get(b"boundary", b""), limits)
    elif kind == "application/json":
        form = _read_json(body, limits)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        form = Form([Item(None, body)], [])
    else:
        raise BadBody(
            f"content-type: expected multipart/form-data (curl -F image=@FILE), application/json, or image/png and the "
            f"like for a bare image (curl -H 'content-type: image/png' --data-binary @FILE), got {brief(kind)}"
        )
    if not form.items:
        raise BadBody("images: expected at least one file, got none; with curl: -F image=@FILE")
    return form


def from_text(text: str) -> Any:
    """A parameter that came as text: a number, true or false as such, all else as it is."""
    text = text.strip()
    try:
        return orjson.loads(text) if _NUMBER_OR_FLAG.fullmatch(text) else text
    except orjson.JSONDecodeError:
        return text


def _media_type(content_type: str) -> tuple[str, dict[bytes, bytes]]:
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise BadBody(f"content-type: expected at most {_MAX_CONTENT_TYPE} characters, got {len(content_type)}")
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    return kind.decode("latin-1"), options


def _read_multipart(body: bytes, boundary: bytes, limits: Limits) -> Form:
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        raise BadBody(
            f"content-type: expected multipart/form-data with a boundary of 1 to {_MAX_BOUNDARY} characters, got "
            f"{len(boundary)}; leave this header to the client, which knows its boundary"
        )
    parts = _Parts(limits)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_headers_finished": parts.headers_end,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
            "on_end": parts.end_of_all,
        },
    )
    try:
        parser.write(body)
    except FormParserError as error:
        raise BadBody(f"multipart: the body is not valid: {shortened(str(error))}") from None
    if not parts.complete:
        raise BadBody("multipart: the body ends before the boundary that closes it; was it cut off?")
    return Form(parts.items, parts.parameters)


class _Parts:
    """Gathers the parts as the parser finds them, and stops it at the first that is one too many or too long."""

    def __init__(self, limits: Limits) -> None:
        self.items: list[Item] = []
        self.parameters: list[tuple[str, Any]] = []
        self.complete = False
        self._max_files = limits.max_images
        self._max_long_bytes = limits.max_json_bytes
        self._parts = 0

    def begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_files + MAX_FIELDS:
            raise TooLarge(f"multipart: expected at most {self._max_files + MAX_FIELDS} parts, got more")
        self._headers: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._header_bytes = 0
        self._field = ""
        self._file_name: str | None = None
        self._is_image = False
        self._pieces: list[bytes] = []
        self._size = 0

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._header_value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise BadBody("multipart: expected a name in the content-disposition of each part, got a part without one")
        self._field = options[b"name"].decode("utf-8", "replace")
        kind, _ = parse_options_header(self._headers.get(b"content-type"))
        if b"filename" in options:
            self._file_name = options[b"filename"].decode("utf-8", "replace")
        is_file = self._file_name is not None or kind.startswith(b"image/")
        self._is_image = is_file and self._field not in _TEXT_FILES
        if self._is_image and len(self.items) >= self._max_files:
            raise TooLarge(
                f"images: expected at most {self._max_files} in one request, got more; send several requests"
            )
        if not self._is_image and len(self.parameters) >= MAX_FIELDS:
            raise BadBody(f"multipart: expected at most {MAX_FIELDS} parameters, got more")

    def data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        most = self._max_long_bytes if self._field == _LONG else MAX_FIELD_BYTES
        if not self._is_image and self._size > most:
            raise TooLarge(f"{shortened(self._field, 40)}: expected at most {most} bytes in a parameter, got more")
        self._pieces.append(data[start:end])

    def end(self) -> None:
        content = b"".join(self._pieces)
        if not self._is_image:
            self.parameters.append((self._field, from_text(_utf8(self._field, content))))
        elif content or self._file_name:  # without both, a browser's field of which no file was chosen
            self.items.append(Item(self._file_name, content))

    def end_of_all(self) -> None:
        self.complete = True

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES:
            raise BadBody(f"multipart: expected at most {MAX_HEADER_BYTES} bytes of headers in a part, got more")


def _utf8(field: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BadBody(
            f"{shortened(field, 40)}: expected text in UTF-8, got other bytes; a file goes by its name: -F image=@FILE"
        ) from None


def _read_json(body: bytes, limits: Limits) -> Form:
    if len(body) > limits.max_json_bytes:
        raise TooLarge(
            f"expected at most {limits.max_json_bytes} bytes of JSON, got {len(body)}; send the files as "
            "multipart/form-data, which is smaller and faster"
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadBody(f"expected a JSON object, got something that does not parse: {error}") from None
    if not isinstance(document, dict):
        raise BadBody(f"expected a JSON object with images, got {type(document).__name__}")
    foreign = [key for key in document if key not in ("images", "parameters")]
    if foreign:
        raise BadBody(f"expected a JSON object with images and parameters, got {brief(foreign[0])} beside them")
    images, parameters = document.get("images"), document.get("parameters") or {}
    if not isinstance(images, list):
        raise BadBody(f"images: expected a list of base64 texts or of objects with name and data, got {brief(images)}")
    if len(images) > limits.max_images:
        raise TooLarge(
            f"images: expected at most {limits.max_images} in one request, got {len(images)}; send several requests"
        )
    if not isinstance(parameters, dict):
        raise BadBody(f"parameters: expected an object, got {type(parameters).__name__}")
    return Form([_json_item(image) for image in images], list(parameters.items()))


def _json_item(image: object) -> Item:
    name: object = None
    annotations: object = None
    if isinstance(image, dict) and image.keys() <= {"name", "data", "annotations"}:
        name, annotations, image = image.get("name"), image.get("annotations"), image.get("data")
    if not isinstance(image, str) or not isinstance(name, str | None):
        wrong = BadTensor(
            f"images: expected base64 text, or an object with a name and data as text, got {brief(image)}"
        )
        return Item(name if isinstance(name, str) else None, wrong, annotations)
    start = _DATA_URL.match(image)
    try:
        # Line breaks are what the command base64 puts between its lines.
        text = "".join(image[start.end() if start else 0 :].split())
        return Item(name, base64.b64decode(text, validate=True), annotations)
    except (binascii.Error, ValueError) as error:
        return Item(
            name, BadTensor(f"images: expected base64 of an image file, got {brief(image)} ({error})"), annotations
        )
