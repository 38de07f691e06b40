"""Runs a bundle for inference: localize, warp, classify. NumPy in, NumPy out; safe to call from several threads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.backends import Backend, BackendName, Prediction, load_backend
from stn_core.bundle import NETWORKS, Manifest, find_bundle, read_calibration, read_manifest
from stn_core.confidence import Calibration, Evidence, reading_features, theta_features
from stn_core.coverage import content_kept, mass
from stn_core.decision import Decisions, Limits, decide, recipe_limits
from stn_core.errors import BadTensor, Unsupported
from stn_core.geometry import Size, identity
from stn_core.motion import Motion, motion_of, off_px
from stn_core.recipes import canvas_theta
from stn_core.transforms import check_shape

Images = NDArray[Any]


@dataclass(frozen=True)
class Observation:
    """Images rectified, ``[N, ...]``, and what can be told of it: the ``features`` by evidence.

    ``probabilities`` are the classifier's of the rectified images and of those as they came, where it was asked.
    """

    rectified: Images
    theta: NDArray[np.float32]
    motion: Motion
    content_kept: NDArray[Any]
    features: dict[Evidence, NDArray[np.float64]]
    probabilities: tuple[NDArray[np.float32], NDArray[np.float32]] | None


@dataclass(frozen=True)
class Decided:
    """Images rectified where that was decided and else as they came, at the rectified size; and the ``decisions``.

    ``theta [N, ...]`` is the network's, ``theta_applied`` the one each image is shown by: the identity where kept.
    """

    images: Images
    theta: NDArray[np.float32]
    theta_applied: NDArray[np.float32]
    decisions: Decisions


class Engine:
    """One bundle, run by a backend.

    Images are ``[N, H, W, C]``, uint8 or float32 in [0, 1]; results come in the same datatype. For ``localize`` and
    ``rectify`` H, W and C are the bundle's ``input_shape``, for ``classify`` its ``rectified_shape``. BadTensor if
    they are not.
    """

    def __init__(self, manifest: Manifest, backend: Backend, calibration: Calibration | None = None) -> None:
        self.manifest = manifest
        self.calibration = calibration
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
        folder, manifest = find_bundle(source), read_manifest(source)
        calibration = read_calibration(folder, manifest)
        return cls(manifest, load_backend(backend, folder, manifest, networks, threads), calibration)

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

    def predict(self, images: Images) -> Prediction:
        """What ``rectify`` makes of the images, and ``classify`` of that; one image takes a shorter way."""
        self._check(images, "localization", self.manifest.input_shape)
        if len(images) == 1 and self._backend.alone is not None:
            return self._backend.alone(images)
        rectified, theta = self.rectify(images)
        return Prediction(*self.classify(rectified), rectified, theta)

    @cached_property
    def limits(self) -> Limits:
        """The bundle's own limits: those of its calibration, or without one those of its recipe, with a margin."""
        if self.calibration is not None:
            return self.calibration.limits
        manifest = self.manifest
        return recipe_limits(
            manifest.recipe, manifest.original_size, manifest.input_shape[:2], manifest.rectified_shape[:2]
        )

    def decide(
        self,
        images: Images,
        limits: Limits | None = None,
        min_confidence: float | None = None,
        evidence: Evidence = "theta",
    ) -> Decided:
        """The images straightened where that does no harm, by all that is known of it, and else as they came.

        ``limits`` are the bundle's unless given, ``min_confidence`` theirs. The confidence takes a second look at each
        rectified image, and with the ``evidence`` ``reading`` the classifier's at it and at the image as it came.
        Unsupported where a confidence is asked for and the bundle has none; without one the other limits hold.
        """
        limits = self.limits if limits is None else limits
        if min_confidence is not None:
            limits = limits.changed({"min_confidence": min_confidence})
        confidence = None
        if self.calibration is not None:
            seen = self.observe(images, (evidence,), self.calibration.original_size)
            confidence = self.calibration.models[evidence].probability(seen.features[evidence])
        elif limits.min_confidence > 0 or evidence != "theta":
            raise Unsupported(
                f"bundle {self.manifest.name} has no confidence: stn calibrate --bundle FOLDER adds it; or ask for a "
                "min_confidence of 0"
            )
        else:
            seen = self.observe(images)
        decisions = decide(seen.motion, seen.content_kept, confidence, limits)
        shown, kept = seen.rectified, np.flatnonzero(~decisions.rectified)
        if kept.size:
            shown = shown.copy()
            shown[kept] = self._as_it_came(images[kept])
        return Decided(shown, seen.theta, decisions.applied(seen.theta), decisions)

    def observe(
        self, images: Images, evidence: Collection[Evidence] = (), original_size: Size | None = None
    ) -> Observation:
        """The images rectified, what that does to each of them, and the features of a confidence by ``evidence``.

        ``original_size`` is that of the images before the recipe's canvas went around them.
        """
        rectified, theta = self.rectify(images)
        came, shown = (mass(one, self.manifest.fill_fraction) for one in (images, rectified))
        motion = motion_of(theta, self.manifest.input_shape[:2], self.manifest.rectified_shape[:2])
        kept = content_kept(theta, shown, came)
        features: dict[Evidence, NDArray[np.float64]] = {}
        probabilities = None
        if evidence:
            left_px = self._left_px(rectified, original_size or self.manifest.original_size)
            features["theta"] = theta_features(motion, left_px, kept, came)
        if "reading" in evidence:
            probabilities = self.classify(rectified)[1], self.classify(self._as_it_came(images))[1]
            features["reading"] = np.concatenate([features["theta"], reading_features(*probabilities)], axis=1)
        return Observation(rectified, theta, motion, kept, features, probabilities)

    def _left_px(self, rectified: Images, original_size: Size) -> NDArray[np.float64]:
        """How far a second look would move the middle of each rectified image, put on the recipe's canvas again."""
        came_size, count = self.manifest.input_shape[:2], len(rectified)
        if self.manifest.recipe.canvas is None:
            # Where the classifier takes another size, the second look still is at that of the first.
            again = rectified if rectified.shape[1:3] == came_size else self.warp(rectified, identity(count), came_size)
            return off_px(self.localize(again), original_size)
        canvas = np.repeat(canvas_theta(self.manifest.recipe, original_size)[None], count, axis=0)
        return off_px(self.localize(self.warp(rectified, canvas, came_size)), original_size, canvas)

    def _as_it_came(self, images: Images) -> Images:
        """At the rectified size: the very images where it is theirs."""
        if images.shape[1:3] == self.manifest.rectified_shape[:2]:
            return images
        return self.warp(images, identity(len(images)), self.manifest.rectified_size)

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
