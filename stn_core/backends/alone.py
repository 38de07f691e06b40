"""One image localized, warped and classified by one call into C (``native/alone.c``), where a bundle allows that."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import homography, native
from stn_core.backends import Prediction
from stn_core.bundle import Manifest
from stn_core.errors import BadBundle

_OPENING = threading.Lock()
"""Options that are registered are those of the session that is opened next."""


class _Network(ctypes.Structure):
    _fields_ = [
        ("session", ctypes.c_void_p),
        *((name, ctypes.c_char_p) for name in ("input", "output")),
        *((name, ctypes.c_void_p) for name in ("given", "made", "given_data", "made_data")),
    ]


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("height", "width", "channels")]


class _Alone(ctypes.Structure):
    _fields_ = [
        *((name, _Network) for name in ("localization", "classifier")),
        *((name, _Shape) for name in ("image", "rectified")),
        *((name, ctypes.c_int64) for name in ("numbers", "classes")),
        *((name, ctypes.c_float) for name in ("min_w", "fill")),
        ("gives_logits", ctypes.c_int),
    ]


class Session:
    """A session of ONNX Runtime for one image, opened by its C interface; released with this object."""

    def __init__(self, file: bytes, options: Any, plain: Any) -> None:
        """``plain``, the same session by the Python interface, tells names and shapes."""
        (given,), (made,) = plain.get_inputs(), plain.get_outputs()
        self.names = given.name.encode(), made.name.encode()
        self.shapes: tuple[tuple[int, ...], tuple[int, ...]] = (tuple(given.shape), tuple(made.shape))
        self._library = native.library()
        with _OPENING:
            options.register_custom_ops_library(str(native.library_path()))
            self.address = self._library.stn_session(file, len(file))
        if not self.address:
            raise RuntimeError(self._library.stn_problem().decode(errors="replace"))

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self._library.stn_release_session(self.address)


class Alone:
    """Both networks and the sampler for one image; each thread has arrays of its own."""

    def __init__(self, manifest: Manifest, localization: Session, classifier: Session) -> None:
        """BadBundle if the networks are not of the manifest's shapes: C counts on them."""
        numbers = manifest.theta_shape[0] * manifest.theta_shape[1]
        expected = (
            ((1, *manifest.input_shape), (1, numbers)),
            ((1, *manifest.rectified_shape), (1, len(manifest.classes))),
        )
        found = (localization.shapes, classifier.shapes)
        if found != expected:
            raise BadBundle(f"networks: expected inputs and outputs of the shapes {expected}, got {found}")
        self._sessions = localization, classifier
        self._manifest = manifest
        self._here = threading.local()

    def __call__(self, images: NDArray[Any]) -> Prediction:
        """What becomes of the one image of ``images [1, H, W, C]``, uint8 or float32."""
        arrays = getattr(self._here, "arrays", None)
        if arrays is None:
            arrays = self._here.arrays = _Arrays(self._manifest, *self._sessions)
        return arrays.run(images)


class _Arrays:
    """The arrays and tensors of one thread."""

    def __init__(self, manifest: Manifest, localization: Session, classifier: Session) -> None:
        self._library = native.library()
        self._sessions = localization, classifier  # which outlive these tensors
        self._kept: list[NDArray[np.float32]] = []
        self._tensors: list[int] = []
        theta_shape, self._rectified_shape = manifest.theta_shape, (1, *manifest.rectified_shape)
        is_homography = theta_shape == (3, 3)
        self._told = _Alone(
            localization=self._network(localization),
            classifier=self._network(classifier),
            image=_Shape(*manifest.input_shape),
            rectified=_Shape(*manifest.rectified_shape),
            numbers=theta_shape[0] * theta_shape[1],
            classes=len(manifest.classes),
            min_w=homography.MIN_DENOMINATOR if is_homography else 0.0,
            fill=manifest.fill_fraction,
            gives_logits=manifest.classifier_gives == "logits",
        )
        self._address = ctypes.addressof(self._told)
        self._theta, self._probabilities = self._kept[1].reshape(1, *theta_shape), self._kept[3]

    def _network(self, session: Session) -> _Network:
        made = []
        for shape in session.shapes:
            array = np.zeros(shape, np.float32)
            sides = (ctypes.c_int64 * len(shape))(*shape)
            tensor = self._library.stn_tensor(array.ctypes.data, array.nbytes, sides, len(shape))
            if not tensor:
                raise RuntimeError(self._library.stn_problem().decode(errors="replace"))
            self._kept.append(array)
            self._tensors.append(tensor)
            made.append((tensor, array.ctypes.data))
        (given, given_data), (found, found_data) = made
        return _Network(session.address, *session.names, given, found, given_data, found_data)

    def run(self, images: NDArray[Any]) -> Prediction:
        images = np.ascontiguousarray(images)
        rectified = np.empty(self._rectified_shape, images.dtype)
        is_bytes = images.dtype == np.uint8
        if self._library.stn_alone(self._address, native.address(images), is_bytes, native.address(rectified)):
            raise RuntimeError(self._library.stn_problem().decode(errors="replace"))
        probabilities = self._probabilities.copy()
        return Prediction(probabilities.argmax(axis=1), probabilities, rectified, self._theta.copy())

    def __del__(self) -> None:
        for tensor in self._tensors:
            self._library.stn_release_tensor(tensor)
