"""Runs a bundle for inference: localize, warp, classify. NumPy in, NumPy out; safe to call from several threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.bundle import NETWORKS, Manifest, load_network, read_manifest
from stn_core.errors import BadTensor, Unsupported

Images = NDArray[Any]


class Engine:
    """The networks of one bundle, compiled once and called with batches of any size.

    Images are ``[N, H, W, C]``, uint8 or float32 in [0, 1]; results come in the same datatype. For ``localize``,
    ``rectify`` and ``classify`` H, W and C are the bundle's ``input_shape``. BadTensor if they are not.
    """

    def __init__(self, manifest: Manifest, networks: dict[str, Any]) -> None:
        import tensorflow as tf

        self.manifest = manifest
        self._functions = {name: _compiled(network) for name, network in networks.items()}
        self._warp = _compiled_warp(manifest.fill_fraction)
        self._from_numpy = tf.constant

    @classmethod
    def load(cls, source: str | Path, networks: Sequence[str] = NETWORKS, threads: int | None = None) -> Engine:
        """The engine of the bundle at ``source`` (a path or a shipped bundle's name), with the named networks only.

        ``threads`` bounds TensorFlow's threads; it holds for the process and only before TensorFlow's first use.
        """
        manifest = read_manifest(source)
        if threads is not None:
            _limit_threads(threads)
        return cls(manifest, {name: load_network(source, name) for name in networks})

    def localize(self, images: Images) -> NDArray[np.float32]:
        """The rectifying theta of each image, ``[N, 2, 3]``."""
        self._check(images)
        theta = self._function("localization")(self._from_numpy(images))
        return np.asarray(theta.numpy().reshape(-1, 2, 3))

    def warp(self, images: Images, theta: NDArray[Any]) -> Images:
        """Images of any size and number of channels warped by ``theta [N, 2, 3]``, at their own size."""
        if theta.shape != (len(images), 2, 3):
            raise BadTensor(f"theta: expected [{len(images)}, 2, 3], one for each image, got {list(theta.shape)}")
        warped = self._warp(self._from_numpy(images), self._from_numpy(theta.astype(np.float32, copy=False)))
        return np.asarray(warped.numpy())

    def rectify(self, images: Images) -> tuple[Images, NDArray[np.float32]]:
        """The straightened images and the theta that did it."""
        theta = self.localize(images)
        return self.warp(images, theta), theta

    def classify(self, images: Images) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The label ``[N]`` and the probabilities ``[N, K]`` of each (already straight) image."""
        self._check(images)
        logits = self._function("classifier")(self._from_numpy(images)).numpy()
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits.argmax(axis=1), exponents / exponents.sum(axis=1, keepdims=True)

    def warm_up(self) -> None:
        """Traces every function once for each datatype, so that the first request does not pay for it."""
        for dtype in (np.uint8, np.float32):
            images = np.zeros((2, *self.manifest.input_shape), dtype)
            self.warp(images, np.zeros((2, 2, 3), np.float32))
            if "localization" in self._functions:
                self.localize(images)
            if "classifier" in self._functions:
                self.classify(images)

    def _function(self, network: str) -> Any:
        if network not in self._functions:
            raise Unsupported(f"this engine was loaded without the {network} network")
        return self._functions[network]

    def _check(self, images: Images) -> None:
        expected = self.manifest.input_shape
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype not in (np.uint8, np.float32):
            raise BadTensor(
                f"images: expected uint8 or float32 [N, {', '.join(map(str, expected))}], "
                f"got {images.dtype} {list(images.shape)}"
            )


def _compiled(network: Any) -> Any:
    import tensorflow as tf

    # One trace serves all batch sizes: a new shape must not mean a new compilation under load.
    @tf.function(reduce_retracing=True)
    def run(images: Any) -> Any:
        images = tf.ensure_shape(images, [None, *network.input_shape[1:]])
        return network(_to_float(images), training=False)

    return run


def _compiled_warp(fill_fraction: float) -> Any:
    import tensorflow as tf

    from stn_core.sampler import warp

    @tf.function(reduce_retracing=True)
    def run(images: Any, theta: Any) -> Any:
        warped = warp(_to_float(images), theta, fill_value=fill_fraction)
        return tf.cast(tf.round(warped * 255.0), tf.uint8) if images.dtype == tf.uint8 else warped

    return run


def _to_float(images: Any) -> Any:
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else images


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise Unsupported(
            "threads: TensorFlow has run in this process already; set the limit before its first use"
        ) from None
