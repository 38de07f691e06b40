"""Steps that change what pixels hold, or move them as no theta tells, by imgaug. The only importer of imgaug."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.errors import StnError
from stn_core.recipes import DrawnStep
from stn_core.recipes.steps import (
    Brightness,
    Contrast,
    Dropout,
    Elastic,
    GaussianBlur,
    GaussianNoise,
    Invert,
    Leaf,
    SaltAndPepper,
)

try:
    import imgaug.augmenters as iaa
except ImportError as error:
    raise StnError(
        f"imgaug does not import: {error}. It needs OpenCV; where the machine has no libGL, the headless OpenCV must "
        "be the one installed: pip uninstall -y opencv-python opencv-python-headless, then pip install "
        "'opencv-python-headless<4.13'"
    ) from error


def apply_to_pixels(images: NDArray[Any], item: DrawnStep, fill_fraction: float) -> None:
    """Applies a drawn step to the images it is active for, in place, in 8 bits.

    Image by image, each with a seed of its own, so that the rest of the batch has no say in its noise.
    """
    augmenter = _augmenter(item.step, round(255 * fill_fraction))
    for row in np.flatnonzero(item.active):
        image = images[row]
        if image.dtype == np.float32:
            image = np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
        augmenter.seed_(int(item.seeds[row] & np.uint64(0x7FFFFFFF)))
        result = augmenter.augment_image(image)
        images[row] = result / np.float32(255) if images.dtype == np.float32 else result


def _augmenter(step: Leaf, fill: int) -> Any:
    match step:
        case GaussianBlur():
            return iaa.GaussianBlur(sigma=step.sigma_px)
        case GaussianNoise():
            low, high = step.sd_fraction
            return iaa.AdditiveGaussianNoise(scale=(255 * low, 255 * high), per_channel=step.per_channel)
        case SaltAndPepper():
            return iaa.SaltAndPepper(step.fraction)
        case Dropout():
            return iaa.Dropout(step.fraction)
        case Contrast():
            return iaa.LinearContrast(step.factor)
        case Brightness():
            return iaa.Multiply(step.factor)
        case Invert():
            return iaa.Invert(1.0)
        case Elastic():
            return iaa.ElasticTransformation(
                alpha=step.displacement_px, sigma=step.smoothness_px, mode="constant", cval=fill
            )
    raise TypeError(f"not a step that imgaug applies to pixels: {step.op}")
