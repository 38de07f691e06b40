"""The peers' side of the warps. Matrices, layouts and datatypes are prepared as each of them likes them best.

PyTorch and kornia warp float32 alone, whatever the others are given.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from contestant import Case
from inputs import pixel_maps, random_images, random_thetas
from numpy.typing import NDArray
from shapes import WARPS


def opencv(name: str) -> Case:
    count, height, width, _ = WARPS[name].shape
    images, maps = random_images(*WARPS[name]), pixel_maps(random_thetas(count), height, width)
    return lambda: warp_by_opencv(images, maps), count


def warp_by_opencv(images: NDArray[Any], maps: NDArray[np.float64]) -> list[NDArray[Any]]:
    """``images [N, H, W, C]`` one by one, by maps in pixels."""
    import cv2

    size, flags = (images.shape[2], images.shape[1]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return [cv2.warpAffine(image, by, size, flags=flags) for image, by in zip(images, maps, strict=True)]


def pytorch(name: str) -> Case:
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    images, thetas = _planes(name), torch.from_numpy(random_thetas(WARPS[name].shape[0]))

    @torch.inference_mode()
    def run() -> Any:
        grid = affine_grid(thetas, list(images.shape), align_corners=False)
        return grid_sample(images, grid, align_corners=False)

    return run, len(images)


def kornia(name: str) -> Case:
    import torch
    from kornia.geometry.transform import warp_affine

    count, height, width, _ = WARPS[name].shape
    images, maps = _planes(name), pixel_maps(random_thetas(count), height, width)
    linear = np.linalg.inv(maps[..., :2])  # kornia maps input to output
    matrices = torch.from_numpy(np.concatenate([linear, -linear @ maps[..., 2:]], axis=2).astype(np.float32))

    @torch.inference_mode()
    def run() -> Any:
        return warp_affine(images, matrices, (height, width))

    return run, count


def _planes(name: str) -> Any:
    """The images as ``[N, C, H, W]`` float32."""
    import torch

    return torch.from_numpy(random_images(*WARPS[name])).permute(0, 3, 1, 2).float().contiguous()


CASES = {
    f"{peer.__name__} {name}": partial(peer, name)
    for peer in (opencv, pytorch, kornia)
    for name in WARPS
}  # fmt: skip
