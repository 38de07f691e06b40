"""Requests that ask for trouble, by the names that the table of docs/bad-input.md calls them by."""

import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import orjson
from PIL import Image

from stn_core.wire import HEADER_LENGTH, encode_request

Request = dict[str, Any]
"""Keywords for httpx, with the path as ``url``."""
IDENTITY = np.eye(2, 3, dtype=np.float32)[None]
IMAGE = np.zeros((1, 28, 28, 1), np.uint8)
VALID = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": [0] * 784}
MIB = 1024 * 1024


def _picture(kind: str, size: tuple[int, int] = (28, 28), **options: Any) -> bytes:
    buffer = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG = _picture("PNG"), _picture("JPEG")
PROGRESSIVE = _picture("JPEG", progressive=True)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(height: int, width: int, *chunks: bytes) -> bytes:
    """A gray PNG of 8 bits with these ``chunks`` between header and end."""
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def jpeg_of(height: int, width: int) -> bytes:
    """A JPEG whose header says that it is so large."""
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


def _gzipped_zeros(size: int) -> bytes:
    return gzip.compress(bytes(size), mtime=0)


def _infer(model: str, content: Any, **headers: str) -> Request:
    return {"url": f"/v2/models/{model}/infer", "content": content, "headers": headers}


def _header(model: str = "predict", **changes: Any) -> Request:
    """A request in JSON whose one tensor is valid but for ``changes``."""
    return _infer(model, json.dumps({"inputs": [VALID | changes]}).encode())


def _fields(**fields: Any) -> Request:
    """A valid request in JSON with more ``fields`` beside its inputs."""
    return _infer("predict", orjson.dumps({"inputs": [VALID], **fields}))


def _binary(model: str, inputs: dict[str, Any], **parameters: Any) -> Request:
    message = encode_request(inputs, parameters=parameters)
    return _infer(model, message.body, **{HEADER_LENGTH: str(message.header_length)})


def _raw(header: dict[str, Any], blob: bytes, model: str = "predict") -> Request:
    """A tensor that is valid but for ``header``, with ``blob`` behind the JSON."""
    head = orjson.dumps({"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 28, 28, 1], **header}]})
    return _infer(model, head + blob, **{HEADER_LENGTH: str(len(head))})


def _as_file(data: bytes, model: str = "predict") -> Request:
    files = np.empty(1, object)
    files[0] = data
    return _binary(model, {"images": files}, recipe="rotation", seed=1)


def _floats(dtype: str, value: float) -> Request:
    images = np.zeros((1, 28, 28, 1), dtype)
    images[0, 3, 4, 0] = value
    return _binary("predict", {"images": images})


def _theta(theta: np.ndarray, images: np.ndarray = IMAGE) -> Request:
    return _binary("warp", {"images": images, "theta": theta})


def _theta_with(dtype: str, value: float) -> Request:
    theta = IDENTITY.astype(dtype)
    theta[0, 1, 2] = value
    return _theta(theta)


def _bfloat_nan(name: str) -> Request:
    """NaN as BF16 in ``images`` or ``theta``."""
    nan = struct.pack("<H", 0x7FC0)
    sizes = {"images": ([1, 28, 28, 1], 784), "theta": ([1, 2, 3], 6)}
    model, tensors = ("predict", ["images"]) if name == "images" else ("warp", ["images", "theta"])
    entries = [
        {"name": one, "datatype": "BF16", "shape": sizes[one][0], "parameters": {"binary_data_size": 2 * sizes[one][1]}}
        for one in tensors
    ]
    head = orjson.dumps({"inputs": entries})
    blob = b"".join((nan if one == name else b"\0\0") + b"\0\0" * (sizes[one][1] - 1) for one in tensors)
    return _infer(model, head + blob, **{HEADER_LENGTH: str(len(head))})


def _map(theta: np.ndarray, direction: str) -> Request:
    sizes = np.array([[28, 28]])
    inputs = {"points": np.zeros((1, 1, 2)), "theta": theta, "rectified_size": sizes, "source_size": sizes}
    return _binary("map", inputs, direction=direction)


def _form(body: bytes, boundary: str = "B", path: str = "predict") -> Request:
    return {
        "url": f"/v1/{path}",
        "content": body,
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
    }


def _part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--B\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


FILE_PART = _part("image", PNG, '; filename="a.png"')


async def _chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _chunked(size: int) -> Request:
    return _infer("predict", _chunks(*[bytes(MIB)] * (size // MIB)))


def _compressed(content: bytes, coding: str) -> Request:
    return _infer("predict", content, **{"content-encoding": coding})


def _valid_chunked() -> Request:
    body = orjson.dumps({"inputs": [VALID]})
    return _infer("predict", _chunks(body[:9], body[9:]))


def _twice() -> bytes:
    return b'{"inputs": [], ' + orjson.dumps({"inputs": [VALID]})[1:]


def _deep_recipe() -> bytes:
    steps = json.loads("[" * 300 + "]" * 300)
    parameters = {"recipe": {"name": "deep", "steps": steps}, "seed": 1}
    return json.dumps({"inputs": [VALID], "parameters": parameters}).encode()


CASES: dict[str, Callable[[], Request]] = {
    # Bodies
    "an empty body": lambda: _infer("predict", b""),
    "no JSON": lambda: _infer("predict", b"hello"),
    "JSON that is not UTF-8": lambda: _infer("predict", b'{"inputs": "\xff\xfe"}'),
    "`NaN` in JSON": lambda: _infer("predict", b'{"inputs": [{"name": "images", "data": [NaN]}]}'),
    "a number past a double, `1e999`": lambda: _infer("predict", b'{"inputs": [1e999]}'),
    "JSON nested 100,000 deep": lambda: _infer("predict", b'{"inputs": ' + b"[" * 100_000),
    "data nested 500 deep": lambda: _header(data=json.loads("[" * 500 + "1" + "]" * 500)),
    "JSON of more than 8 MiB": lambda: _infer("predict", b" " * (8 * MIB + 1)),
    "a list in place of an object": lambda: _infer("predict", b"[]"),
    "a key twice, the second one right": lambda: _infer("predict", _twice()),
    "a tensor's name twice": lambda: _infer("predict", orjson.dumps({"inputs": [VALID, VALID]})),
    "65 tensors": lambda: _infer("predict", orjson.dumps({"inputs": [{"name": str(n)} for n in range(65)]})),
    "a header length past the body": lambda: _infer("predict", b"{}", **{HEADER_LENGTH: "3"}),
    "a negative header length": lambda: _infer("predict", b"{}", **{HEADER_LENGTH: "-1"}),
    "a header length of 30 digits": lambda: _infer("predict", b"{}", **{HEADER_LENGTH: "9" * 30}),
    "a body of more than 32 MiB, announced": lambda: _infer("predict", bytes(32 * MIB + 1)),
    "a body of more than 32 MiB, in chunks": lambda: _chunked(34 * MIB),
    "a valid body in chunks": _valid_chunked,
    "an image in place of the body": lambda: _infer("predict", PNG, **{HEADER_LENGTH: "0"}),
    "no image in place of the body": lambda: _infer("predict", b"hello", **{HEADER_LENGTH: "0"}),
    # Compression
    "a gzip bomb, 64 MiB in 64 KB": lambda: _compressed(_gzipped_zeros(64 * MIB), "gzip"),
    "a deflate bomb": lambda: _compressed(zlib.compress(bytes(64 * MIB)), "deflate"),
    "gzip that is none": lambda: _compressed(b"hello", "gzip"),
    "gzip cut short": lambda: _compressed(_gzipped_zeros(1000)[:-9], "gzip"),
    "bytes behind the end of gzip": lambda: _compressed(_gzipped_zeros(9) + b"more", "gzip"),
    "an unknown coding": lambda: _compressed(b"{}", "br"),
    # Tensors
    "an unknown datatype": lambda: _header(datatype="FP8"),
    "a datatype that the tensor cannot have": lambda: _header(datatype="INT16"),
    "a negative side": lambda: _header(shape=[-1, 28, 28, 1]),
    "sides whose product passes 2^63": lambda: _header(shape=[2**32, 2**32, 1, 1]),
    "the same behind a 0": lambda: _header(shape=[0, 2**63 - 1, 2**63 - 1, 1]),
    "nine sides": lambda: _header(shape=[1] * 9),
    "fewer values than the shape says": lambda: _header(data=[0]),
    "a value that does not fit": lambda: _header(data=[256] * 784),
    "a number past 64 bits": lambda: _header(data=[10**30] * 784),
    "text in place of numbers": lambda: _header(data=["0"] * 784),
    "more binary data than announced": lambda: _raw({"parameters": {"binary_data_size": 784}}, bytes(785)),
    "less binary data than announced": lambda: _raw({"parameters": {"binary_data_size": 784}}, bytes(783)),
    "a negative `binary_data_size`": lambda: _raw({"parameters": {"binary_data_size": -1}}, bytes(784)),
    "a length past the data in BYTES": lambda: _raw(
        {"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}, b"\xff\xff\xff\xffa"
    ),
    "base64 that is none": lambda: _header(
        datatype="BYTES", shape=[1], data=["?"], parameters={"content_type": "base64"}
    ),
    "no images": lambda: _header(shape=[0, 28, 28, 1], data=[]),
    "images of no pixels": lambda: _theta(IDENTITY, np.zeros((1, 0, 5, 1), np.uint8)),
    "images of another size": lambda: _header(shape=[1, 28, 56, 1], data=[0] * 1568),
    "4,097 images": lambda: _binary("predict", {"images": np.zeros((4097, 28, 28, 1), np.uint8)}),
    "a side of 65,535 px": lambda: _theta(IDENTITY, np.zeros((1, 65535, 1, 1), np.uint8)),
    "another tensor beside `images`": lambda: _binary("predict", {"images": IMAGE, "more": IMAGE}),
    # NaN, infinity, and transforms
    "NaN in FP32 pixels": lambda: _floats("f4", np.nan),
    "NaN in FP64 pixels": lambda: _floats("f8", np.nan),
    "NaN in FP16 pixels": lambda: _floats("f2", np.nan),
    "NaN in BF16 pixels": lambda: _bfloat_nan("images"),
    "infinity in pixels": lambda: _floats("f4", -np.inf),
    "FP64 pixels past FP32": lambda: _floats("f8", 1e300),
    "pixels beyond [0, 1]": lambda: _floats("f4", 255),
    "NaN in an FP32 theta": lambda: _theta_with("f4", np.nan),
    "NaN in an FP64 theta": lambda: _theta_with("f8", np.nan),
    "NaN in an FP16 theta": lambda: _theta_with("f2", np.nan),
    "NaN in a BF16 theta": lambda: _bfloat_nan("theta"),
    "infinity in theta": lambda: _theta_with("f4", np.inf),
    "a number past 1e6 in theta": lambda: _theta_with("f4", 3e38),
    "a singular theta, to warp": lambda: _theta(np.zeros((1, 2, 3), np.float32)),
    "a singular theta, to map to the source": lambda: _map(np.zeros((1, 2, 3)), "to_source"),
    "a singular theta, to map back": lambda: _map(np.zeros((1, 2, 3)), "to_rectified"),
    "a homography that sees its horizon": lambda: _theta(np.array([[[1, 0, 0], [0, 1, 0], [1, 0, 0]]], np.float32)),
    "a theta of no family": lambda: _theta(np.zeros((1, 4, 4), np.float32)),
    "fewer thetas than images": lambda: _theta(IDENTITY, np.zeros((2, 28, 28, 1), np.uint8)),
    # Image files
    "a file that is no image": lambda: _as_file(b"GIF89a"),
    "an empty file": lambda: _as_file(b""),
    "a PNG cut short": lambda: _as_file(PNG[: len(PNG) // 2]),
    "a JPEG cut short": lambda: _as_file(JPEG[: len(JPEG) // 3]),
    "a PNG with a wrong checksum": lambda: _as_file(PNG[:45] + bytes([PNG[45] ^ 1]) + PNG[46:]),
    "a PNG whose header says 65,535 x 65,535 px": lambda: _as_file(png_of(65535, 65535), "augment"),
    "a JPEG whose header says 65,535 x 65,535 px": lambda: _as_file(jpeg_of(65535, 65535), "augment"),
    "a PNG bomb: 16,000 x 1,500 px, 24 MB in 24 KB": lambda: _binary(
        "augment", {"images": _files([_black(16_000, 1_500)] * 3)}, recipe="rotation", seed=1
    ),
    "a PNG with more pixels in it than its header says": lambda: _as_file(
        png_of(28, 28, chunk(b"IDAT", zlib.compress(bytes(64 * MIB))))
    ),
    "a PNG with a text that unpacks to 64 MiB": lambda: _as_file(
        png_of(28, 28, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 * MIB))), chunk(b"IDAT", PIXELS))
    ),
    "a PNG of no width": lambda: _as_file(png_of(28, 0, chunk(b"IDAT", zlib.compress(b"")))),
    "a JPEG of 1,000 scans": lambda: _as_file(
        PROGRESSIVE[:-2] + PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2] * 1000 + b"\xff\xd9"
    ),
    "files of unlike sizes": lambda: _binary("warp", {"images": _files([PNG, _picture("PNG", (9, 9))]), "theta": TWO}),
    # Parameters and outputs
    "an unknown output": lambda: _fields(outputs=[{"name": "nothing"}]),
    "an output twice": lambda: _fields(outputs=[{"name": "label"}, {"name": "label"}]),
    "a timeout that is no number": lambda: _fields(parameters={"timeout": "soon"}),
    "a flag that is none": lambda: _fields(parameters={"binary_data_output": "yes"}),
    "a classification of 0 classes": lambda: _fields(
        outputs=[{"name": "probabilities", "parameters": {"classification": 0}}]
    ),
    "a `min_confidence` of 2": lambda: _fields(parameters={"min_confidence": 2}),
    "shared memory": lambda: _header(parameters={"shared_memory_region": "x"}),
    "an unknown recipe": lambda: _binary("augment", {"images": IMAGE}, recipe="../../etc/passwd", seed=1),
    "a recipe nested 300 deep": lambda: _infer("augment", _deep_recipe()),
    "a negative seed": lambda: _binary("augment", {"images": IMAGE}, recipe="rotation", seed=-1),
    # Paths
    "an unknown model": lambda: _infer("nothing", b"{}"),
    "an unknown version": lambda: {"url": "/v2/models/predict/versions/9/infer", "content": b"{}"},
    "an unknown path": lambda: {"url": "/v3"},
    "another method": lambda: {"url": "/v2/models/predict/infer", "method": "GET"},
    # Files by multipart and JSON
    "no boundary": lambda: {"url": "/v1/predict", "content": b"x", "headers": {"content-type": "multipart/form-data"}},
    "a form cut short": lambda: _form(FILE_PART),
    "a form without a file": lambda: _form(_part("decide", b"true") + b"--B--\r\n"),
    "a part without a name": lambda: _form(b"--B\r\ncontent-type: image/png\r\n\r\nx\r\n--B--\r\n"),
    "a parameter that is not UTF-8": lambda: _form(_part("decide", b"\xff") + FILE_PART + b"--B--\r\n"),
    "33 parameters": lambda: _form(_part("decide", b"1") * 33 + FILE_PART + b"--B--\r\n"),
    "another content type": lambda: {"url": "/v1/predict", "content": b"x", "headers": {"content-type": "text/html"}},
    "an answer in XML asked for": lambda: _form(FILE_PART + b"--B--\r\n") | {
        "headers": {"content-type": "multipart/form-data; boundary=B", "accept": "text/xml"}
    },
    "a broken file among good ones": lambda: _form(
        FILE_PART + _part("image", PNG[:40], '; filename="b.png"') + FILE_PART + b"--B--\r\n"
    ),
}  # fmt: skip

PIXELS = zlib.compress(b"".join(b"\0" + bytes(28) for _ in range(28)))
TWO = np.tile(IDENTITY, (2, 1, 1))


def _black(height: int, width: int) -> bytes:
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def _files(contents: list[bytes]) -> np.ndarray:
    files = np.empty(len(contents), object)
    files[:] = contents
    return files


async def send(http: httpx.AsyncClient, name: str) -> httpx.Response:
    """The answer to the request of that name."""
    request = CASES[name]()
    return await http.request(request.pop("method", "POST"), **request)
