"""Networks in ONNX Runtime and the sampler in C: what serves on a CPU. No TensorFlow is imported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stn_core import native
from stn_core.backends import Prediction
from stn_core.backends.alone import Alone, Session
from stn_core.bundle import NETWORKS, Manifest
from stn_core.errors import BadBundle
from stn_core.geometry import Size
from stn_core.transforms import compose

logger = logging.getLogger(__name__)


class Network:
    """A network with one input and one output, loaded twice: for batches of any size, and for one image.

    With the batch size known nothing is left to be worked out while it runs. One image is run in arrays that stay
    bound to the session, of each thread its own: handing arrays over would take a tenth of the time.
    """

    def __init__(self, file: bytes, single_options: Any, batch: Any) -> None:
        self.file, self.single_options = file, single_options
        self.single, self._batch = _session(file, single_options), batch
        self._bound = _BoundArrays(self.single)

    @property
    def knows_its_shapes(self) -> bool:
        """Whether it tells those for one image."""
        return self._bound.found is not None

    def __call__(self, images: NDArray[Any]) -> NDArray[Any]:
        if len(images) != 1:
            return np.asarray(self._batch.run(None, {"images": images})[0])
        bound = self._bound
        if bound.found is None or bound.images.shape != images.shape:  # which ONNX Runtime will not have
            return np.asarray(self.single.run(None, {"images": images})[0])
        np.copyto(bound.images, images)
        self.single.run_with_iobinding(bound.binding)
        return bound.found.copy()


class _BoundArrays(threading.local):
    """What a session for one image reads and writes, of each thread its own; ``found`` is None if no shape is known."""

    def __init__(self, session: Any) -> None:
        (given,), (made,) = session.get_inputs(), session.get_outputs()
        self.found: NDArray[np.float32] | None = None
        if all(isinstance(side, int) for side in (*given.shape, *made.shape)):
            self.images, self.found = np.zeros(given.shape, np.float32), np.zeros(made.shape, np.float32)
            self.binding = session.io_binding()
            for bind, name, array in (
                (self.binding.bind_input, given.name, self.images),
                (self.binding.bind_output, made.name, self.found),
            ):
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


class OnnxBackend:
    """Networks by their names; images of any batch size."""

    def __init__(self, manifest: Manifest, networks: dict[str, Network], threads: int) -> None:
        self.networks = tuple(networks)
        self._manifest, self._named, self._threads = manifest, networks, threads
        self.alone: Callable[[NDArray[Any]], Prediction] | None = _alone(manifest, networks)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, networks: Sequence[str], threads: int | None = None) -> OnnxBackend:
        """With networks of a checked bundle; ``threads`` of one call, by default as many as there are cores."""
        threads = threads or native.cores()
        return cls(manifest, {name: _network(folder, manifest, name, threads) for name in networks}, threads)

    def localize(self, images: NDArray[Any]) -> NDArray[Any]:
        images = _to_float(images)
        theta = self._theta(images)
        for _ in range(self._manifest.passes - 1):
            straighter = self.warp(images, theta, None)
            theta = compose(theta, self._theta(straighter)).astype(np.float32)
        return theta

    def warp(self, images: NDArray[Any], theta: NDArray[Any], size: Size | None) -> NDArray[Any]:
        return native.warp(images, theta, size, self._manifest.fill_fraction, self._threads)

    def classify(self, images: NDArray[Any]) -> NDArray[Any]:
        return self._named["classifier"](_to_float(images))

    def _theta(self, images: NDArray[Any]) -> NDArray[Any]:
        return self._named["localization"](images).reshape(-1, *self._manifest.theta_shape)


def _network(folder: Path, manifest: Manifest, network: str, threads: int) -> Network:
    name = f"{network}.onnx"
    if name not in manifest.files:
        raise BadBundle(
            f"bundle {folder} has no {name}: add it by `stn export --bundle {folder}`, or choose the engine tensorflow"
        )
    # From bytes, so that nothing in the file can point to another one.
    file = (folder / name).read_bytes()
    try:
        batch = _session(file, _options(threads))
        found = [one.name for one in batch.get_inputs()]
        if found != ["images"] or len(batch.get_outputs()) != 1:
            raise BadBundle(f"{folder / name}: expected one input, images, and one output, got the inputs {found}")
        options = _options(_threads_alone(network, threads), batch_side=batch.get_inputs()[0].shape[0])
        return Network(file, options, batch)
    except BadBundle:
        raise
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise BadBundle(f"{folder / name} does not load: {str(error).splitlines()[0]}") from None


def _threads_alone(network: str, threads: int) -> int:
    """One image is done sooner than threads wake; of its networks the localization alone is worth more than one."""
    return threads if network == "localization" else 1


def _options(threads: int, batch_side: object = None) -> Any:
    """Of a session of ``threads`` threads; ``batch_side``, the name of the batch's side, fixes it to one image.

    Threads wait for more by spinning, in the way of the network that runs next: so they stop with a batch. One pool for
    both would do without, but ONNX Runtime then refuses all sessions of the process that are not of that pool.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if isinstance(batch_side, str):
        options.add_free_dimension_override_by_name(batch_side, 1)
    else:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _session(file: bytes, options: Any) -> Any:
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _alone(manifest: Manifest, networks: dict[str, Network]) -> Alone | None:
    """Both networks as one call for one image, where the bundle allows that."""
    found = [networks[name] for name in NETWORKS if name in networks and networks[name].knows_its_shapes]
    if len(found) < len(NETWORKS) or manifest.passes != 1 or manifest.theta_shape[1] != 3:
        return None
    try:
        return Alone(manifest, *(Session(one.file, one.single_options, one.single) for one in found))
    except Exception as error:  # whatever it is, single images can go step by step
        logger.warning("single images take the longer way: %s", error)
        return None


def _to_float(images: NDArray[Any]) -> NDArray[Any]:
    if images.dtype == np.uint8:
        return np.asarray(np.multiply(images, np.float32(1 / 255), dtype=np.float32))
    return images
