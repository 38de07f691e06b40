"""Networks in ONNX Runtime and the sampler in C: what serves on a CPU. No TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stn_core import native
from stn_core.bundle import Manifest
from stn_core.errors import BadBundle
from stn_core.geometry import Size
from stn_core.transforms import compose

MIN_IMAGES_A_THREAD = 8
"""Fewer are done sooner than another thread is woken."""


class OnnxBackend:
    """Sessions by the network's name, each with one input and one output; images of any batch size.

    Threads share a batch by its images, each with the network's own arithmetic in one thread: so nobody waits for
    anybody within a network.
    """

    def __init__(self, manifest: Manifest, sessions: dict[str, Any], threads: int) -> None:
        self.networks = tuple(sessions)
        self._manifest, self._sessions, self._threads = manifest, sessions, threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="onnx") if threads > 1 else None

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, networks: Sequence[str], threads: int | None = None) -> OnnxBackend:
        """With networks of a checked bundle; ``threads`` of one call, by default as many as there are cores."""
        sessions = {name: _session(folder, manifest, name) for name in networks}
        return cls(manifest, sessions, threads or native.cores())

    def localize(self, images: NDArray[Any]) -> NDArray[Any]:
        images = _to_float(images)
        theta = self._run("localization", images)
        for _ in range(self._manifest.passes - 1):
            straighter = self.warp(images, theta, None)
            theta = compose(theta, self._run("localization", straighter)).astype(np.float32)
        return theta

    def warp(self, images: NDArray[Any], theta: NDArray[Any], size: Size | None) -> NDArray[Any]:
        return native.warp(images, theta, size, self._manifest.fill_fraction, self._threads)

    def classify(self, images: NDArray[Any]) -> NDArray[Any]:
        return self._run("classifier", _to_float(images))

    def _run(self, network: str, images: NDArray[Any]) -> NDArray[Any]:
        session = self._sessions[network]

        def run(part: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(session.run(None, {"images": part})[0])

        parts = min(self._threads, len(images) // MIN_IMAGES_A_THREAD)
        if self._pool is None or parts <= 1:
            found = run(images)
        else:
            found = np.concatenate(list(self._pool.map(run, np.array_split(images, parts))))
        return found if network == "classifier" else found.reshape(-1, *self._manifest.theta_shape)


def _session(folder: Path, manifest: Manifest, network: str) -> Any:
    name = f"{network}.onnx"
    if name not in manifest.files:
        raise BadBundle(
            f"bundle {folder} has no {name}: add it by `stn export --bundle {folder}`, or choose the engine tensorflow"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # From bytes, so that nothing in the file can point to another one.
        session = onnxruntime.InferenceSession(
            (folder / name).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise BadBundle(f"{folder / name} does not load: {str(error).splitlines()[0]}") from None
    found = [one.name for one in session.get_inputs()]
    if found != ["images"] or len(session.get_outputs()) != 1:
        raise BadBundle(f"{folder / name}: expected one input, images, and one output, got the inputs {found}")
    return session


def _to_float(images: NDArray[Any]) -> NDArray[Any]:
    if images.dtype == np.uint8:
        return np.asarray(np.multiply(images, np.float32(1 / 255), dtype=np.float32))
    return images
