"""What runs a bundle's networks and warps its images: TensorFlow, or ONNX Runtime beside the sampler in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stn_core.geometry import Size

if TYPE_CHECKING:
    from stn_core.bundle import Manifest

BackendName = Literal["auto", "onnx", "tensorflow"]
"""``auto`` is ONNX Runtime where the bundle has the files for it, otherwise TensorFlow."""


class Prediction(NamedTuple):
    """What becomes of images: the label ``[N]``, probabilities ``[N, K]``, rectified images and theta of each."""

    label: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    rectified: NDArray[Any]
    theta: NDArray[np.float32]


class Backend(Protocol):
    """The arithmetic behind an ``Engine``, which has checked the shapes. Images are uint8, or float32 in [0, 1]."""

    @property
    def networks(self) -> Sequence[str]:
        """Which of the bundle's networks it has."""

    @property
    def alone(self) -> Callable[[NDArray[Any]], Prediction] | None:
        """Localizes, warps and classifies one image at once; None where there is no such way."""

    def localize(self, images: NDArray[Any]) -> NDArray[Any]:
        """The rectifying theta of each image, float32."""

    def warp(self, images: NDArray[Any], theta: NDArray[Any], size: Size | None) -> NDArray[Any]:
        """The images warped, in their own datatype."""

    def classify(self, images: NDArray[Any]) -> NDArray[Any]:
        """What the classifier's last layer gives for each image, float32."""


def load_backend(
    name: BackendName, folder: Path, manifest: Manifest, networks: Sequence[str], threads: int | None
) -> Backend:
    """The backend of that name with the named networks of a checked bundle; ``threads`` bounds those of one call."""
    if name == "auto":
        name = "onnx" if all(f"{network}.onnx" in manifest.files for network in networks) else "tensorflow"
    if name == "onnx":
        from stn_core.backends.onnx import OnnxBackend

        return OnnxBackend.load(folder, manifest, networks, threads)
    from stn_core.backends.tensorflow import TensorFlowBackend

    return TensorFlowBackend.load(folder, manifest, networks, threads)
