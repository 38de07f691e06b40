"""How much of an image is shown after a warp, and how much of what is in it: thetas and pixels in, shares out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_core.geometry import Size
from stn_core.transforms import map_points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """How much of each distorted image is shown, ``[N]`` each.

    ``area_scale``: how many of its px lie behind one px shown, |det A| for an affine theta; above 1 it is zoomed out.
    ``outside_share``: share of the px shown whose source is outside the image. ``content_kept``: share of the image's
    mass (its distance from the fill value, summed) that is shown; 1 for an image without any.
    """

    area_scale: Floats
    outside_share: Floats
    content_kept: Floats


def coverage(theta: ArrayLike, shown: NDArray[Any], distorted: NDArray[Any], fill_fraction: float) -> Coverage:
    """How much of ``distorted [N, H, W, C]`` is in ``shown [N, h, w, C]``, which ``theta`` made of it; 0..1 both.

    Each px shown stands for the area of its source, a quadrilateral: content is ``Σ mass · area`` of what is shown,
    over ``Σ mass`` of all. That is ``Σ shown · |det A| / Σ distorted`` for an affine theta, and holds for any. It is a
    sum over samples, and where the image is zoomed out, fewer ones: some images' shares come out a little above 1.
    """
    mass_shown, mass_distorted = (mass(images.astype(np.float64), fill_fraction) for images in (shown, distorted))
    return _coverage(theta, mass_shown, mass_distorted)


def content_kept(theta: ArrayLike, mass_shown: NDArray[Any], mass_distorted: NDArray[Any]) -> NDArray[Any]:
    """``Coverage.content_kept`` of images given by their ``mass``; for affine thetas in a fraction of the time.

    There every px shown stands for the same area, and those that lie outside, being fill, need not be told apart.
    """
    theta = np.asarray(theta)
    if theta.shape[1:] != (2, 3):
        return _coverage(theta, mass_shown, mass_distorted).content_kept
    determinant = theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]
    shown, distorted = (
        one.reshape(len(one), one.shape[1] * one.shape[2]).mean(axis=1) for one in (mass_shown, mass_distorted)
    )
    return _share(shown * np.abs(determinant), distorted)


def mass(images: NDArray[Any], fill_fraction: float) -> NDArray[Any]:
    """How far each px of ``images [N, H, W, C]`` is from the fill value, 0..1, ``[N, H, W]``; uint8 gives float32."""
    if images.dtype == np.uint8:
        images = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    if fill_fraction:
        images = np.abs(images - images.dtype.type(fill_fraction))
    return np.asarray(images[..., 0] if images.shape[-1] == 1 else images.mean(axis=-1))


def _coverage(theta: ArrayLike, mass_shown: NDArray[Any], mass_distorted: NDArray[Any]) -> Coverage:
    half_px = np.array([mass_distorted.shape[2] / 2, mass_distorted.shape[1] / 2])
    corners_px = _pixel_corners(theta, (mass_shown.shape[1], mass_shown.shape[2])) * half_px
    area_px = _quadrilateral_areas(corners_px)
    centre_px = (corners_px[:, :-1, :-1] + corners_px[:, 1:, 1:] + corners_px[:, :-1, 1:] + corners_px[:, 1:, :-1]) / 4
    inside = (np.abs(centre_px) <= half_px).all(axis=-1)
    return Coverage(
        area_px.mean(axis=(1, 2)),
        1.0 - inside.mean(axis=(1, 2)),
        _share((mass_shown * area_px * inside).sum(axis=(1, 2)), mass_distorted.sum(axis=(1, 2))),
    )


def _share(kept: NDArray[Any], of: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.divide(kept, of, out=np.ones_like(kept), where=of > 0))


def _pixel_corners(theta: ArrayLike, size: Size) -> Floats:
    """The sources, normalized, of the corners of every px of an image of ``size``, ``[N, h + 1, w + 1, 2]``."""
    height, width = size
    x, y = np.meshgrid(np.linspace(-1, 1, width + 1), np.linspace(-1, 1, height + 1))
    lattice = np.stack([x.reshape(-1), y.reshape(-1)], axis=-1)
    return map_points(theta, lattice).reshape(-1, height + 1, width + 1, 2)


def _quadrilateral_areas(corners: Floats) -> Floats:
    """The areas of the cells of a lattice ``[N, h + 1, w + 1, 2]``: half the cross product of their diagonals."""
    falling = corners[:, 1:, 1:] - corners[:, :-1, :-1]
    rising = corners[:, :-1, 1:] - corners[:, 1:, :-1]
    return np.asarray(np.abs(falling[..., 0] * rising[..., 1] - falling[..., 1] * rising[..., 0]) / 2)
