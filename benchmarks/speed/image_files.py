"""Pictures that come as PNG and JPEG files: through the service, beside decoding them alone on as many cores.

    make bench PARTS=image_files

Digits are real ones, 28 x 28 px in PNG; photos are smooth random pictures in colour, 224 x 224 px in JPEG, which the
shipped bundle, of one channel, reads as gray. The service warps them, or predicts digits, and answers with binary
tensors. Decoding alone is the service's own decoder in two processes or two threads, whichever is faster. As the work
that is asked for may cost more than the files do, there is decoding with the same work after it, in process, too.

Camera pictures, of 1080p and of 12 megapixels, are one a request, and asked for by ``straighten``: theta and label
alone, for which the service decodes a part of a JPEG, or the straightened picture, as a PNG. Decoding alone is that of
the whole picture in colour.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from load import Plan, load
from numpy.typing import NDArray
from PIL import Image
from report import Comparison, results, show
from servers import service, v2_request

from stn_core.datasets import sample_digits
from stn_core.engine import Engine
from stn_core.fullsize import rectify_full
from stn_core.pictures import REQUEST_FORMATS, decode_picture
from stn_core.png import encode_png

DEFAULTS = {"rounds": 7, "seconds": 4.0}
WORKERS = 2
CHANNELS = {"digits": 1, "photos": 1, "1080p": 3, "12 MP": 3}
CAMERA_SIZES = {"1080p": (1080, 1920), "12 MP": (3000, 4000)}
MAX_SIDE_PX = 2048  # of what comes out: whatever theta is found, it is not too large
GRAIN = 6  # of a camera, in levels: smooth pictures would be files of almost nothing
DIGITS, PHOTOS = 64, 16
PHOTO_SIDE_PX, SMOOTH_SIDE_PX, QUALITY, SEED = 224, 12, 90, 2_017
SHARE = 0.8

Files = tuple[bytes, ...]


class Way(NamedTuple):
    """A model of the service, and the work it is held against."""

    model: str
    kind: str
    beside: str
    target: float | None
    connections: int = 8

    @property
    def name(self) -> str:
        return f"{self.model} {self.kind}"


WAYS = (
    Way("warp", "digits", "decode", SHARE),
    Way("warp", "photos", "decode", SHARE),
    Way("predict", "digits", "decode", None),
    Way("warp", "digits", "decode and warp", None),
    Way("warp", "photos", "decode and warp", None),
    Way("predict", "digits", "decode and predict", None),
    Way("label", "1080p", "decode", SHARE, 4),
    Way("label", "12 MP", "decode", SHARE, 4),
    Way("straighten", "1080p", "decode and straighten", None, 4),
)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds a picture of each way, and how the service compares."""
    files = {"digits": digit_files(), "photos": photo_files(), **{kind: camera_file(kind) for kind in CAMERA_SIZES}}
    found: dict[str, list[float]] = defaultdict(list)
    with (
        service("embedded") as running,
        ProcessPoolExecutor(WORKERS, get_context("spawn")) as processes,
        ThreadPoolExecutor(WORKERS) as threads,
    ):
        for _ in range(rounds):
            for beside, kind in dict.fromkeys((way.beside, way.kind) for way in WAYS):
                us = [_alone_us(pool, WORK[beside], kind, files[kind], seconds / 2) for pool in (processes, threads)]
                found[f"{beside} {kind}"].append(min(us))
            for model, kind, connections in dict.fromkeys((way.model, way.kind, way.connections) for way in WAYS):
                plan = Plan(running.port, connections, seconds, len(files[kind]))
                found[f"{model} {kind}"].append(1e6 / load(request(model, files[kind]), plan)["images_s"])
    part = results(found, [Comparison(way.name, f"{way.beside} {way.kind}", way.target) for way in WAYS])
    show("Pictures in files", part)
    return {**part, "bytes_a_file": {kind: sum(map(len, each)) / len(each) for kind, each in files.items()}}


def digit_files() -> Files:
    """Real digits in PNG."""
    return tuple(_encoded(image[..., 0], "PNG") for image in sample_digits().images[::70][:DIGITS])


def photo_files() -> Files:
    """Smooth random pictures in colour, in JPEG."""
    generator = np.random.default_rng(SEED)
    small = generator.integers(0, 256, (PHOTOS, SMOOTH_SIDE_PX, SMOOTH_SIDE_PX, 3), np.uint8)
    size = (PHOTO_SIDE_PX, PHOTO_SIDE_PX)
    smooth = [Image.fromarray(one).resize(size, Image.Resampling.BICUBIC) for one in small]
    return tuple(_encoded(np.asarray(picture), "JPEG", quality=QUALITY) for picture in smooth)


def camera_file(kind: str) -> Files:
    """One picture in colour of a camera's size, with grain, in JPEG."""
    generator = np.random.default_rng(SEED)
    height, width = CAMERA_SIZES[kind]
    small = generator.integers(0, 256, (SMOOTH_SIDE_PX, SMOOTH_SIDE_PX, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    grainy = smooth + generator.normal(0, GRAIN, (height, width, 1))
    return (_encoded(grainy.clip(0, 255).astype(np.uint8), "JPEG", quality=QUALITY),)


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def request(model: str, files: Files) -> bytes:
    """A request with ``files`` as BYTES; ``warp`` shifts each picture a little."""
    tensor = np.array(files, dtype=object)
    if model == "predict":
        return v2_request(model, {"images": tensor}, ("label", "probabilities"))
    if model in ("label", "straighten"):
        wanted = ("theta", "label") if model == "label" else ("theta", "label", "images")
        return v2_request("straighten", {"images": tensor}, wanted, {"max_side_px": MAX_SIDE_PX})
    return v2_request(model, {"images": tensor, "theta": _shift(len(files))}, ("images",))


def _shift(count: int) -> NDArray[np.float32]:
    return np.tile(np.array([[1, 0, 0.1], [0, 1, 0.1]], np.float32), (count, 1, 1))


Work = Callable[[str, Files, float], int]


def _alone_us(pool: Executor, work: Work, kind: str, files: Files, seconds: float) -> float:
    """Microseconds a picture of ``work`` by all workers at once."""
    list(pool.map(work, [kind] * WORKERS, [files] * WORKERS, [0.0] * WORKERS))  # the first time imports and loads
    started_s = perf_counter()
    done = sum(pool.map(work, [kind] * WORKERS, [files] * WORKERS, [seconds] * WORKERS))
    return 1e6 * (perf_counter() - started_s) / done


def _decode_for(kind: str, files: Files, seconds: float) -> int:
    return _repeated(lambda: _decode(kind, files), len(files), seconds)


def _warp_for(kind: str, files: Files, seconds: float) -> int:
    engine, theta = _engine(), _shift(len(files))
    return _repeated(lambda: engine.warp(np.stack(_decode(kind, files)), theta), len(files), seconds)


def _predict_for(kind: str, files: Files, seconds: float) -> int:
    engine = _engine()
    return _repeated(lambda: engine.classify(engine.rectify(np.stack(_decode(kind, files)))[0]), len(files), seconds)


def _straighten_for(kind: str, files: Files, seconds: float) -> int:
    engine = _engine()

    def straighten() -> None:
        for straight in rectify_full(engine, _decode(kind, files), max_side_px=MAX_SIDE_PX, threads=1):
            encode_png(straight.image, level=1)

    return _repeated(straighten, len(files), seconds)


WORK: dict[str, Work] = {
    "decode": _decode_for,
    "decode and warp": _warp_for,
    "decode and predict": _predict_for,
    "decode and straighten": _straighten_for,
}


def _repeated(run: Callable[[], object], items: int, seconds: float) -> int:
    """How many items were done by when ``seconds`` had passed."""
    done, started_s = 0, perf_counter()
    while True:
        run()
        done += items
        if perf_counter() - started_s >= seconds:
            return done


def _decode(kind: str, files: Files) -> Sequence[NDArray[np.uint8]]:
    return [decode_picture(data, channels=CHANNELS[kind], formats=REQUEST_FORMATS) for data in files]


@cache
def _engine() -> Engine:
    return Engine.load("digits", threads=1)
