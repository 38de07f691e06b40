"""Runs a bundle for inference: localize, warp, classify. NumPy in, NumPy out; safe to call from several threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.backends import Backend, BackendName, load_backend
from stn_core.bundle import NETWORKS, Manifest, find_bundle, read_manifest
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import Size
from stn_core.transforms import check_shape

Images = NDArray[Any]


class Engine:
    """One bundle, run by a backend.

    Images are ``[N, H, W, C]``, uint8 or float32 in [0, 1]; results come in the same datatype. For ``localize`` and
    ``rectify`` H, W and C are the bundle's ``input_shape``, for ``classify`` its ``rectified_shape``. BadTensor if
    they are not.
    """

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self.manifest = manifest
        self._backend = backend

    @classmethod
    def load(
        cls,
        source: str | Path,
        networks: Sequence[str] = NETWORKS,
        threads: int | None = None,
        backend: BackendName = "auto",
    ) -> Engine:
        """The engine of the bundle at ``source`` (a path or a shipped bundle's name), with the named networks only.

        ``threads`` bounds those of one call. BadBundle if the bundle has no files for the backend.
        """
        manifest = read_manifest(source)
        return cls(manifest, load_backend(backend, find_bundle(source), manifest, networks, threads))

    def localize(self, images: Images) -> NDArray[np.float32]:
        """The rectifying theta of each image, ``[N, *manifest.theta_shape]``."""
        self._check(images, "localization", self.manifest.input_shape)
        return self._backend.localize(images)

    def warp(self, images: Images, theta: NDArray[Any], size: Size | None = None) -> Images:
        """Images of any size and channels warped by ``theta`` (``[N, ...]``, any family), at ``size`` or their own."""
        check_shape(theta.shape)
        if len(theta) != len(images):
            raise BadTensor(f"theta: expected {len(images)}, one for each image, got {len(theta)}")
        return self._backend.warp(images, theta, size)

    def rectify(self, images: Images) -> tuple[Images, NDArray[np.float32]]:
        """The straightened images and the theta that did it."""
        theta = self.localize(images)
        return self.warp(images, theta, self.manifest.rectified_size), theta

    def classify(self, images: Images) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The label ``[N]`` and the probabilities ``[N, K]`` of each (already straight) image."""
        self._check(images, "classifier", self.manifest.rectified_shape)
        found = self._backend.classify(images)
        gives_logits = self.manifest.classifier_gives == "logits"
        return found.argmax(axis=1), _softmax(found) if gives_logits else found

    def warm_up(self) -> None:
        """Runs everything once for each datatype, so that the first request does not pay for it."""
        for dtype in (np.uint8, np.float32):
            images = np.zeros((2, *self.manifest.input_shape), dtype)
            self.warp(images, np.zeros((2, 2, 3), np.float32))
            if "localization" in self._backend.networks:
                self.rectify(images)
            if "classifier" in self._backend.networks:
                self.classify(np.zeros((2, *self.manifest.rectified_shape), dtype))

    def _check(self, images: Images, network: str, expected: tuple[int, int, int]) -> None:
        if network not in self._backend.networks:
            raise Unsupported(f"this engine was loaded without the {network} network")
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype not in (np.uint8, np.float32):
            raise BadTensor(
                f"images: expected uint8 or float32 [N, {', '.join(map(str, expected))}], "
                f"got {images.dtype} {list(images.shape)}"
            )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # Ufuncs themselves and in place: for one image the methods of arrays take longer than the arithmetic.
    exponents: NDArray[np.float32] = np.subtract(logits, np.maximum.reduce(logits, axis=1, keepdims=True))
    np.exp(exponents, out=exponents)
    np.divide(exponents, np.add.reduce(exponents, axis=1, keepdims=True), out=exponents)
    return exponents
