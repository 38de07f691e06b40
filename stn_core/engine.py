"""Runs a bundle for inference: localize, warp, classify. NumPy in, NumPy out; safe to call from several threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.bundle import NETWORKS, Manifest, load_network, read_manifest
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import Size
from stn_core.transforms import check_shape

Images = NDArray[Any]


class Engine:
    """The networks of one bundle, compiled once and called with batches of any size.

    Images are ``[N, H, W, C]``, uint8 or float32 in [0, 1]; results come in the same datatype. For ``localize`` and
    ``rectify`` H, W and C are the bundle's ``input_shape``, for ``classify`` its ``rectified_shape``. BadTensor if
    they are not.
    """

    def __init__(self, manifest: Manifest, networks: dict[str, Any]) -> None:
        import tensorflow as tf

        self.manifest = manifest
        self._functions = {
            name: _compiled(_localizer(network, manifest) if name == "localization" else network, shape)
            for name, network in networks.items()
            for shape in [manifest.input_shape if name == "localization" else manifest.rectified_shape]
        }
        self._warp = _compiled_warp(manifest.fill_fraction)
        self._from_numpy = tf.constant

    @classmethod
    def load(cls, source: str | Path, networks: Sequence[str] = NETWORKS, threads: int | None = None) -> Engine:
        """The engine of the bundle at ``source`` (a path or a shipped bundle's name), with the named networks only.

        ``threads`` bounds TensorFlow's threads; it holds for the process and only before TensorFlow's first use.
        """
        manifest = read_manifest(source)
        if threads is not None:
            limit_threads(threads)
        return cls(manifest, {name: load_network(source, name) for name in networks})

    def localize(self, images: Images) -> NDArray[np.float32]:
        """The rectifying theta of each image, ``[N, *manifest.theta_shape]``."""
        self._check(images, self.manifest.input_shape)
        return np.asarray(self._function("localization")(self._from_numpy(images)).numpy())

    def warp(self, images: Images, theta: NDArray[Any], size: Size | None = None) -> Images:
        """Images of any size and channels warped by ``theta`` (``[N, ...]``, any family), at ``size`` or their own."""
        check_shape(theta.shape)
        if len(theta) != len(images):
            raise BadTensor(f"theta: expected {len(images)}, one for each image, got {len(theta)}")
        theta = theta.astype(np.float32, copy=False)
        warped = self._warp(self._from_numpy(images), self._from_numpy(theta), size, theta.shape[1:])
        return np.asarray(warped.numpy())

    def rectify(self, images: Images) -> tuple[Images, NDArray[np.float32]]:
        """The straightened images and the theta that did it."""
        theta = self.localize(images)
        return self.warp(images, theta, self.manifest.rectified_size), theta

    def classify(self, images: Images) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The label ``[N]`` and the probabilities ``[N, K]`` of each (already straight) image."""
        self._check(images, self.manifest.rectified_shape)
        logits = np.asarray(self._function("classifier")(self._from_numpy(images)).numpy())
        if self.manifest.classifier_gives == "probabilities":
            return logits.argmax(axis=1), logits
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits.argmax(axis=1), exponents / exponents.sum(axis=1, keepdims=True)

    def warm_up(self) -> None:
        """Traces every function once for each datatype, so that the first request does not pay for it."""
        for dtype in (np.uint8, np.float32):
            images = np.zeros((2, *self.manifest.input_shape), dtype)
            self.warp(images, np.zeros((2, 2, 3), np.float32))
            if "localization" in self._functions:
                self.rectify(images)
            if "classifier" in self._functions:
                self.classify(np.zeros((2, *self.manifest.rectified_shape), dtype))

    def _function(self, network: str) -> Any:
        if network not in self._functions:
            raise Unsupported(f"this engine was loaded without the {network} network")
        return self._functions[network]

    def _check(self, images: Images, expected: tuple[int, int, int]) -> None:
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype not in (np.uint8, np.float32):
            raise BadTensor(
                f"images: expected uint8 or float32 [N, {', '.join(map(str, expected))}], "
                f"got {images.dtype} {list(images.shape)}"
            )


def _localizer(network: Any, manifest: Manifest) -> Any:
    from stn_core.refinement import localize

    return lambda images, training: localize(network, images, manifest.passes, manifest.fill_fraction, training)


def _compiled(network: Any, shape: tuple[int, int, int]) -> Any:
    import tensorflow as tf

    # One trace serves all batch sizes: a new shape must not mean a new compilation under load.
    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        images = tf.ensure_shape(images, [None, *shape])
        return network(_to_float(images), training=False)

    return run


def _compiled_warp(fill_fraction: float) -> Any:
    import tensorflow as tf

    from stn_core.sampler import warp

    # A trace for each family of theta, and for each size other than the images' own: those of the bundles, few.
    @tf.function(reduce_retracing=True)
    def run(images: Any, theta: Any, size: Size | None, theta_shape: tuple[int, int]) -> Any:
        theta = tf.ensure_shape(theta, [None, *theta_shape])
        warped = warp(_to_float(images), theta, size, fill_value=fill_fraction)
        return tf.cast(tf.round(warped * 255.0), tf.uint8) if images.dtype == tf.uint8 else warped

    return run


def _to_float(images: Any) -> Any:
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def limit_threads(threads: int) -> None:
    """Bounds TensorFlow's threads in this process; Unsupported once TensorFlow has run in it."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise Unsupported(
            "threads: TensorFlow has run in this process already; set the limit before its first use"
        ) from None
