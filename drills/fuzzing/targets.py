"""The parsers that are fuzzed: what reads bytes of a request, an answer, a recipe, a bundle or a peer's frame."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from drills.fuzzing.loop import Target
from drills.fuzzing.mutations import with_right_checksums
from drills.fuzzing.service import whole_service
from stn_core.errors import Overloaded, StnError
from stn_core.tensors import DTYPES

Made = tuple[Callable[[bytes], None], Sequence[bytes]]
PICTURE_SIZE = (28, 20)
_MAX_PIXELS = 2**20
_BOUNDARY = b"xYzZY"


def _tensors() -> dict[str, Any]:
    files = np.empty(2, object)
    files[:] = [b"one", b""]
    numbers = {name: np.arange(4).reshape(2, 2).astype(dtype) for name, dtype in DTYPES.items() if name != "BYTES"}
    return {**numbers, "BYTES": files}


def _messages() -> list[tuple[bytes, int]]:
    from stn_core.wire import encode_request

    images, theta = np.zeros((1, 4, 4, 1), np.uint8), np.eye(2, 3, dtype=np.float32)[None]
    sent = [_tensors(), {"images": images}, {"images": images, "theta": theta}]
    made = [encode_request(tensors, ["label"], {"seed": 1, "timeout": 100}, "an id") for tensors in sent]
    return [(message.body, message.header_length or 0) for message in made]


def _v2_binary() -> Made:
    """A length, signed, and a body: requests and answers alike."""
    from stn_core.wire import decode_request, decode_response

    def read(data: bytes) -> None:
        (length,) = struct.unpack("<i", data[:4].ljust(4, b"\0"))
        _each(lambda: decode_request(data[4:], length), lambda: decode_response(data[4:], length))

    messages = _messages()
    # An answer is a request whose tensors are called outputs.
    answers = [(body.replace(b'"outputs"', b'"inputs"').replace(b'"inputs"', b'"outputs"'), 0) for body, _ in messages]
    answers = [(body, body.rindex(b"}]}") + 3) for body, _ in answers]
    return read, [struct.pack("<i", length) + body for body, length in [*messages, *answers]]


def _v2_json() -> Made:
    from stn_core.wire import decode_request, decode_response

    def read(data: bytes) -> None:
        _each(lambda: decode_request(data, None), lambda: decode_response(data, None))

    data: dict[str, Any] = {"FP32": [0.5, 1, 1e30, -0.0], "INT64": [[1, 2], [3, -4]], "BOOL": [True, False] * 2}
    data["BYTES"] = ["aGk=", "", "aGk=", "aGk="]
    tensors = [{"name": name, "datatype": name, "shape": [2, 2], "data": values} for name, values in data.items()]
    tensors[-1]["parameters"] = {"content_type": "base64"}
    outputs = [{"name": "label", "parameters": {"binary_data": False, "classification": 2}}, {"name": "theta"}]
    request = {"id": "1", "parameters": {"decide": True}, "inputs": tensors, "outputs": outputs}
    answer = {"model_name": "predict", "model_version": "1", "outputs": tensors}
    return read, [orjson.dumps(request), orjson.dumps({"inputs": tensors[:1]}), orjson.dumps({**request, **answer})]


def _coded() -> Made:
    """Compressed bodies; none may come out larger than allowed."""
    from services.body import decompress

    def read(data: bytes) -> None:
        def plain(coding: str) -> None:
            assert len(decompress(data, coding, 2**16)) <= 2**16

        _each(lambda: plain("gzip"), lambda: plain("deflate"))

    text = b'{"inputs": []}' * 20
    return read, [gzip.compress(text, mtime=0), zlib.compress(text), gzip.compress(bytes(2**16), mtime=0)]


def _pictures() -> Made:
    """Image files, by OpenCV where they are plain, else by Pillow."""
    from services.settings import Limits
    from services.uploads import read_head, read_pixels
    from stn_core.pictures import REQUEST_FORMATS, decode_picture

    limits = Limits(max_pixels_per_image=_MAX_PIXELS, max_side_px=4096)

    def read(data: bytes) -> None:
        def upload() -> None:
            read_head(data, limits)
            pixels = read_pixels(data, limits, with_opacity=True)
            assert pixels.ndim == 3
            assert pixels.shape[0] * pixels.shape[1] <= _MAX_PIXELS

        def tensor() -> None:
            pixels = decode_picture(data, channels=1, formats=REQUEST_FORMATS, max_pixels=_MAX_PIXELS)
            assert pixels.shape[2] == 1

        _each(tensor, upload)

    return read, _picture_files()


def _picture_files() -> list[bytes]:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (*PICTURE_SIZE, 3), np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (picture.convert("L"), "PNG", {}),
        (picture, "PNG", {}),
        (picture.convert("RGBA"), "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("1"), "PNG", {}),
        (Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG", {}),
        (picture, "JPEG", {"quality": 90}),
        (picture.convert("L"), "JPEG", {"progressive": True}),
        (picture, "JPEG", {"exif": exif}),
        (picture, "BMP", {}),
        (picture.convert("P"), "GIF", {}),
        (picture, "WEBP", {}),
        (picture, "TIFF", {"compression": "tiff_deflate"}),
    ]
    files = []
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def _forms() -> Made:
    """A content type, a line feed, and a body of files and parameters."""
    from services.forms import read_form
    from services.settings import Limits

    limits = Limits(max_images=20, max_json_bytes=2**16)

    def read(data: bytes) -> None:
        kind, _, body = data.partition(b"\n")
        read_form(kind.decode("latin-1"), body, limits)

    part = b'--%b\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    body = part % (_BOUNDARY, b"image", b'; filename="a.png"\r\ncontent-type: image/png', b"\x89PNG\r\n")
    body += part % (_BOUNDARY, b"recipe", b"", b"rotation") + part % (_BOUNDARY, b"copies", b"", b"3")
    whole = b"multipart/form-data; boundary=%b\n%b--%b--\r\n" % (_BOUNDARY, body, _BOUNDARY)
    document = {
        "images": ["aGk=", {"name": "a", "data": "data:image/png;base64,aGk=", "annotations": {"boxes_px": [[1]]}}],
        "parameters": {"copies": 2, "recipe": {"name": "x", "steps": []}},
    }
    return read, [whole, b"application/json\n" + orjson.dumps(document), b"image/png\n\x89PNG"]


def _annotations() -> Made:
    from stn_core.annotations import Annotations

    def read(data: bytes) -> None:
        Annotations.from_json(data)

    given = {
        "keypoints_px": [[1.5, 2.5], None],
        "boxes_px": [[0, 0, 5, 6]],
        "polygons_px": [[[0, 0], [5, 0], [5, 5]]],
        "mask": [[0, 1], [2, 3]],
    }
    return read, [orjson.dumps(given)]


def _grpc() -> Made:
    from services.grpc_messages import CLASSES, parsed
    from services.grpc_tensors import decode_infer, split_request
    from services.settings import Limits

    limits = Limits()

    def read(data: bytes) -> None:
        parts = split_request(data, limits)
        decode_infer(parsed("ModelInferRequest", parts.rest), parts.raw)

    raw = CLASSES["ModelInferRequest"](model_name="warp", id="1")
    raw.parameters["seed"].int64_param = 7
    raw.inputs.add(name="images", datatype="UINT8", shape=[1, 2, 2, 1])
    raw.outputs.add(name="images")
    raw.raw_input_contents.append(bytes(4))
    typed = CLASSES["ModelInferRequest"](model_name="map")
    for name, field, values in (("FP64", "fp64_contents", [1.0, 2.0]), ("INT8", "int_contents", [-1, 1])):
        tensor = typed.inputs.add(name=name, datatype=name, shape=[2])
        getattr(tensor.contents, field).extend(values)
    return read, [raw.SerializeToString(), typed.SerializeToString()]


def _frames() -> Made:
    """A frame between a gateway and a stage, as either side reads it."""
    from services import channel
    from services.stages import Operation

    loop = asyncio.new_event_loop()

    async def framed(data: bytes) -> tuple[int, int, bytes, int]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await channel._read(reader)

    def read(data: bytes) -> None:
        try:
            _, _, frame, head_bytes = loop.run_until_complete(framed(data))
        except EOFError:  # a peer that hung up
            return
        _each(lambda: channel._operation_in(frame, head_bytes), lambda: channel._error_in(frame))

    operation = Operation("decide", (("recipe", "x"), ("seed", 1)), result_bytes=9)
    call = channel._with_operation(operation, {"images": np.zeros((2, 3, 3, 1), np.uint8)})
    errors = (Overloaded("full", 2.0), StnError("failed"))
    parts = [call, *((channel._error_head(error),) for error in errors)]
    return read, [_frame(*part) for part in parts]


def _frame(head: bytes | memoryview, *blobs: bytes | memoryview) -> bytes:
    from services import channel

    return channel._PREFIX.pack(7, 0, len(head), sum(map(len, blobs))) + b"".join((head, *blobs))


def _recipes() -> Made:
    """A recipe as a request brings it, and as a file."""
    from stn_core.recipes import load_recipe, parse_recipe, shipped_recipes

    path = Path(tempfile.mkdtemp(prefix="stn-fuzz-", dir="/dev/shm")) / "recipe.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _each(lambda: parse_recipe(data.decode("utf-8", "replace")), lambda: load_recipe(path))

    return read, [orjson.dumps(load_recipe(name).model_dump(mode="json")) for name in shipped_recipes()]


def _bundles() -> Made:
    """The manifest of a bundle, the calibration in it, and the description of a network."""
    from stn_core.bundle import read_calibration, read_manifest
    from stn_core.confidence import DECISION_FILE

    folder = Path(tempfile.mkdtemp(prefix="stn-fuzz-", dir="/dev/shm"))
    shipped = read_manifest("digits").model_dump(mode="json")
    shipped["classes"] = ["a", "b"]
    calibration = orjson.dumps(json.loads((_digits_folder() / DECISION_FILE).read_bytes()) | {"measured": {}})
    small = dict.fromkeys(("localization.keras", "classifier.keras", "metrics.json"), b"x")

    def read(data: bytes) -> None:
        manifest, _, decision = data.partition(b"\n\n")
        for name, content in {**small, "manifest.json": manifest, DECISION_FILE: decision}.items():
            (folder / name).write_bytes(content)
        read_calibration(folder, read_manifest(folder))

    def manifest_for(decision: bytes) -> bytes:
        files = {**small, DECISION_FILE: decision}
        shipped["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        return orjson.dumps({**shipped, "training": {}, "metrics": {}}) + b"\n\n" + decision

    return read, [manifest_for(calibration)]


def _networks() -> Made:
    """The description of a network, which says what Keras is to import; in its zip file, or by itself."""
    from stn_core.bundle import _refuse_foreign_code

    path = Path(tempfile.mkdtemp(prefix="stn-fuzz-", dir="/dev/shm")) / "network.keras"

    def read(data: bytes) -> None:
        path.write_bytes(data if data.startswith(b"PK") else _zipped("config.json", data))
        _refuse_foreign_code(path)

    with zipfile.ZipFile(_digits_folder() / "classifier.keras") as archive:
        config = archive.read("config.json")
    return read, [config, config, _zipped("config.json", config)]


def _data_sets() -> Made:
    """An array in a file of arrays, or the file."""
    from stn_core.datasets.archive import read_arrays

    path = Path(tempfile.mkdtemp(prefix="stn-fuzz-", dir="/dev/shm")) / "data.npz"

    def read(data: bytes) -> None:
        path.write_bytes(data if data.startswith(b"PK") else _zipped("images.npy", data))
        read_arrays(path)

    one, packed = io.BytesIO(), io.BytesIO()
    np.save(one, np.zeros((3, 4, 4), np.uint8))
    np.savez_compressed(packed, images=np.zeros((3, 4, 4), np.float32), labels=np.array(["a", "b", "c"]))
    return read, [one.getvalue(), packed.getvalue()]


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _digits_folder() -> Path:
    from stn_core.bundle import find_bundle

    return find_bundle("digits")


def _answers() -> Made:
    """What the SDK gets from something that may not be our service."""
    from stn_client.answers import read_answer
    from stn_client.batches import Batch
    from stn_client.flow import Response
    from stn_client.models import PREDICT

    from stn_core.wire import HEADER_LENGTH, InferRequest, encode_response

    images = np.zeros((2, 4, 4, 1), np.uint8)
    batch = Batch(range(2), range(2), {"images": images}, False, {})

    def read(data: bytes) -> None:
        length, _, body = data.partition(b"\n")
        read_answer(Response(200, {HEADER_LENGTH: length.decode("latin-1")}, body), PREDICT, batch)

    outputs: dict[str, Any] = {
        "label": np.zeros(2, np.int64),
        "probabilities": np.zeros((2, 3), np.float32),
        "theta": np.zeros((2, 2, 3), np.float32),
        "rectified": images,
    }
    message = encode_response(outputs, "predict", "1", InferRequest({}, None, {"binary_data_output": True}))
    return read, [str(message.header_length).encode() + b"\n" + message.body]


def _problems() -> Made:
    """The error document that the SDK makes an error of."""
    from stn_core.errors import BadTensor, error_from_problem

    def read(data: bytes) -> None:
        assert isinstance(error_from_problem(_json(data), 400), StnError)

    return read, [orjson.dumps(BadTensor("images: wrong").problem("/v2")), b'"text"']


def _json(data: bytes) -> Any:
    """What JSON says, and None where it says nothing, as callers leave it."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _each(*reads: Callable[[], object]) -> None:
    """All of ``reads``; one of our errors is raised only if each of them raised one."""
    refusals = []
    for read in reads:
        try:
            read()
        except StnError as error:
            refusals.append(error)
    if len(refusals) == len(reads):
        raise refusals[-1]


TARGETS = {
    target.name: target
    for target in (
        Target("v2-binary", _v2_binary),
        Target("v2-json", _v2_json),
        Target("grpc", _grpc),
        Target("compressed", _coded),
        Target("pictures", _pictures, with_right_checksums),
        Target("forms", _forms),
        Target("annotations", _annotations),
        Target("frames", _frames),
        Target("answers", _answers),
        Target("problems", _problems),
        Target("recipes", _recipes),
        Target("bundles", _bundles),
        Target("networks", _networks),
        Target("data-sets", _data_sets),
        Target("service", whole_service),
    )
}
