"""Networks and sampler in TensorFlow: for training, for a GPU, and for bundles without ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stn_core.bundle import Manifest, load_keras
from stn_core.errors import Unsupported
from stn_core.geometry import Size
from stn_core.refinement import localize
from stn_core.sampler import warp


class TensorFlowBackend:
    """Networks (``tf_keras.Model`` by name) compiled once, and called with batches of any size."""

    def __init__(self, manifest: Manifest, networks: Mapping[str, Any]) -> None:
        self.networks = tuple(networks)
        self.alone = None
        shapes = {"localization": manifest.input_shape, "classifier": manifest.rectified_shape}
        self._functions = {
            name: _compiled(_localizer(network, manifest) if name == "localization" else network, shapes[name])
            for name, network in networks.items()
        }
        self._warp = _compiled_warp(manifest.fill_fraction)

    @classmethod
    def load(
        cls, folder: Path, manifest: Manifest, networks: Sequence[str], threads: int | None = None
    ) -> TensorFlowBackend:
        """With networks of a checked bundle; ``threads`` holds for the process, and before TensorFlow's first use."""
        if threads is not None:
            limit_threads(threads)
        return cls(manifest, {name: load_keras(folder / f"{name}.keras") for name in networks})

    def localize(self, images: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._functions["localization"](tf.constant(images)).numpy())

    def warp(self, images: NDArray[Any], theta: NDArray[Any], size: Size | None) -> NDArray[Any]:
        theta = theta.astype(np.float32, copy=False)
        return np.asarray(self._warp(tf.constant(images), tf.constant(theta), size, theta.shape[1:]).numpy())

    def classify(self, images: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self._functions["classifier"](tf.constant(images)).numpy())


def limit_threads(threads: int) -> None:
    """Bounds TensorFlow's threads in this process; Unsupported once TensorFlow has run in it."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise Unsupported(
            "threads: TensorFlow has run in this process already; set the limit before its first use"
        ) from None


def _localizer(network: Any, manifest: Manifest) -> Any:
    return lambda images, training: localize(network, images, manifest.passes, manifest.fill_fraction, training)


def _compiled(network: Any, shape: tuple[int, int, int]) -> Any:
    # One trace serves all batch sizes: a new shape must not mean a new compilation under load.
    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        images = tf.ensure_shape(images, [None, *shape])
        return network(_to_float(images), training=False)

    return run


def _compiled_warp(fill_fraction: float) -> Any:
    # A trace for each family of theta, and for each size other than the images' own: those of the bundles, few.
    @tf.function(reduce_retracing=True)
    def run(images: Any, theta: Any, size: Size | None, theta_shape: tuple[int, int]) -> Any:
        theta = tf.ensure_shape(theta, [None, *theta_shape])
        warped = warp(_to_float(images), theta, size, fill_value=fill_fraction)
        return tf.cast(tf.round(warped * 255.0), tf.uint8) if images.dtype == tf.uint8 else warped

    return run


def _to_float(images: Any) -> Any:
    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images
