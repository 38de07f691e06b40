"""Our side of the engines: the shipped bundle, by ONNX Runtime with the sampler in C, and by TensorFlow."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from contestant import Case
from inputs import given
from shapes import ENGINE_BATCHES

from stn_core.backends import BackendName

BACKENDS: tuple[BackendName, ...] = ("onnx", "tensorflow")


def engine_case(backend: BackendName, batch: int) -> Case:
    engine, images = _engine(backend), given("digits")[:batch]
    return lambda: engine.predict(images), batch


@cache
def _engine(backend: BackendName) -> Any:
    from stn_core.engine import Engine

    return Engine.load("digits", threads=None, backend=backend)


CASES = {f"{backend} {batch}": partial(engine_case, backend, batch) for backend in BACKENDS for batch in ENGINE_BATCHES}
