"""Pictures that come as PNG and JPEG files: through the service, beside decoding them alone on as many cores.

    make bench PARTS=image_files

Digits are real ones, 28 x 28 px in PNG; photos are smooth random pictures in colour, 224 x 224 px in JPEG, which the
shipped bundle, of one channel, reads as gray. The service warps them, or predicts digits, and answers with binary
tensors. Decoding alone is the service's own decoder in two processes or two threads, whichever is faster. As the work
that is asked for may cost more than the files do, there is decoding with the same work after it, in process, too.
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
from stn_core.pictures import REQUEST_FORMATS, decode_picture

DEFAULTS = {"rounds": 7, "seconds": 4.0}
WORKERS, CONNECTIONS, CHANNELS = 2, 8, 1
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
)


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Microseconds a picture of each way, and how the service compares."""
    files = {"digits": digit_files(), "photos": photo_files()}
    found: dict[str, list[float]] = defaultdict(list)
    with (
        service("embedded") as running,
        ProcessPoolExecutor(WORKERS, get_context("spawn")) as processes,
        ThreadPoolExecutor(WORKERS) as threads,
    ):
        for _ in range(rounds):
            for beside, kind in dict.fromkeys((way.beside, way.kind) for way in WAYS):
                us = [_alone_us(pool, WORK[beside], files[kind], seconds / 2) for pool in (processes, threads)]
                found[f"{beside} {kind}"].append(min(us))
            for model, kind in dict.fromkeys((way.model, way.kind) for way in WAYS):
                plan = Plan(running.port, CONNECTIONS, seconds, len(files[kind]))
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


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def request(model: str, files: Files) -> bytes:
    """A request with ``files`` as BYTES; ``warp`` shifts each picture a little."""
    tensor = np.array(files, dtype=object)
    if model == "predict":
        return v2_request(model, {"images": tensor}, ("label", "probabilities"))
    return v2_request(model, {"images": tensor, "theta": _shift(len(files))}, ("images",))


def _shift(count: int) -> NDArray[np.float32]:
    return np.tile(np.array([[1, 0, 0.1], [0, 1, 0.1]], np.float32), (count, 1, 1))


def _alone_us(pool: Executor, work: Callable[[Files, float], int], files: Files, seconds: float) -> float:
    """Microseconds a picture of ``work`` by all workers at once."""
    list(pool.map(work, [files] * WORKERS, [0.0] * WORKERS))  # the first time imports and loads
    started_s = perf_counter()
    done = sum(pool.map(work, [files] * WORKERS, [seconds] * WORKERS))
    return 1e6 * (perf_counter() - started_s) / done


def _decode_for(files: Files, seconds: float) -> int:
    return _repeated(lambda: _decode(files), len(files), seconds)


def _warp_for(files: Files, seconds: float) -> int:
    engine, theta = _engine(), _shift(len(files))
    return _repeated(lambda: engine.warp(np.stack(_decode(files)), theta), len(files), seconds)


def _predict_for(files: Files, seconds: float) -> int:
    engine = _engine()
    return _repeated(lambda: engine.classify(engine.rectify(np.stack(_decode(files)))[0]), len(files), seconds)


WORK = {"decode": _decode_for, "decode and warp": _warp_for, "decode and predict": _predict_for}


def _repeated(run: Callable[[], object], items: int, seconds: float) -> int:
    """How many items were done by when ``seconds`` had passed."""
    done, started_s = 0, perf_counter()
    while True:
        run()
        done += items
        if perf_counter() - started_s >= seconds:
            return done


def _decode(files: Files) -> Sequence[NDArray[np.uint8]]:
    return [decode_picture(data, channels=CHANNELS, formats=REQUEST_FORMATS) for data in files]


@cache
def _engine() -> Engine:
    return Engine.load("digits", threads=1)
