"""Checks and decodes the tensors of a request, before anything of it joins a batch."""

import io
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from services.batching import Array
from services.settings import Limits
from stn_core.errors import BadTensor, TooLarge
from stn_core.wire import datatype_of

IMAGE_DATATYPES = ("UINT8", "FP32", "BYTES")
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_MODE_OF_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}
_UNIT_RANGE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ImageRules:
    """What the tensor ``images`` of one model must be like."""

    limits: Limits
    shape: tuple[int, int, int] | None
    """The (height, width, channels) of every image, or None if a request may choose."""
    channels: int
    """What encoded images are converted to."""
    unit_range: bool
    """Whether FP32 pixels must lie in [0, 1]."""


def check_names(given: Collection[str], needed: Collection[str], optional: Collection[str] = ()) -> None:
    """BadTensor unless the request has the needed inputs, perhaps the optional ones, and no others."""
    missing = [name for name in needed if name not in given]
    foreign = [name for name in given if name not in needed and name not in optional]
    if missing or foreign:
        also = f" and optionally {', '.join(optional)}" if optional else ""
        raise BadTensor(f"inputs: expected {', '.join(needed)}{also}, got {', '.join(given) or 'none'}")


def read_images(tensor: Array, rules: ImageRules) -> Array:
    """The images as UINT8 or FP32 ``[N,H,W,C]``, which obey ``rules``; encoded ones become UINT8."""
    datatype = datatype_of(tensor)
    if datatype not in IMAGE_DATATYPES:
        raise BadTensor(f"images: expected {', '.join(IMAGE_DATATYPES[:-1])} or {IMAGE_DATATYPES[-1]}, got {datatype}")
    if tensor.ndim != (1 if datatype == "BYTES" else 4):
        expected = "[N] (an encoded PNG or JPEG each)" if datatype == "BYTES" else _shape_text(rules.shape)
        raise BadTensor(f"images: expected the shape {expected} for {datatype}, got {list(tensor.shape)}")
    _check_count(len(tensor), rules.limits)
    if datatype == "BYTES":
        return _decode(tensor, rules)
    _check_size(tensor.shape[1:], len(tensor) * tensor.itemsize, rules)
    if datatype == "FP32":
        _check_values(tensor, rules.unit_range)
    return tensor


def read_theta(tensor: Array, images: int) -> Array:
    """The transforms as finite FP32 ``[N,2,3]``."""
    datatype = datatype_of(tensor)
    if datatype not in ("FP32", "FP64"):
        raise BadTensor(f"theta: expected FP32 or FP64, got {datatype}")
    if tensor.shape != (images, 2, 3):
        raise BadTensor(f"theta: expected the shape {[images, 2, 3]} (one per image), got {list(tensor.shape)}")
    with np.errstate(over="ignore"):
        theta = tensor.astype(np.float32)
    if not np.isfinite(theta).all():
        raise BadTensor("theta: expected finite numbers, got NaN or infinity")
    return theta


def read_ids(tensor: Array, images: int) -> Array:
    """The images' identities as UINT64 ``[N]``."""
    if datatype_of(tensor) != "UINT64" or tensor.shape != (images,):
        raise BadTensor(
            f"ids: expected UINT64 {[images]} (one per image), got {datatype_of(tensor)} {list(tensor.shape)}"
        )
    return tensor


def _check_count(images: int, limits: Limits) -> None:
    if images == 0:
        raise BadTensor("images: expected at least one image, got none")
    if images > limits.max_images:
        raise TooLarge(
            f"images: expected at most {limits.max_images} in one request, got {images}; send several requests"
        )


def _check_size(shape: tuple[int, ...], bytes_per_value_and_images: int, rules: ImageRules) -> None:
    """BadTensor or TooLarge unless images of (height, width, channels) ``shape`` are welcome."""
    if rules.shape is not None and shape != rules.shape:
        raise BadTensor(
            f"images: expected {_shape_text(rules.shape)}, got {_shape_text(shape)}; resize or pad the images"
        )
    height, width, channels = shape
    if 0 in shape:
        raise BadTensor(f"images: expected at least one pixel and channel, got {_shape_text(shape)}")
    limits = rules.limits
    if height * width > limits.max_pixels_per_image:
        raise TooLarge(
            f"images: expected at most {limits.max_pixels_per_image} pixels in an image, got {height} x {width}"
        )
    size = height * width * channels * bytes_per_value_and_images
    if size > limits.max_decoded_bytes:
        raise TooLarge(
            f"images: expected at most {limits.max_decoded_bytes} bytes of decoded images in one request, got {size}; "
            "send several requests"
        )


def _check_values(images: Array, unit_range: bool) -> None:
    low, high = float(images.min()), float(images.max())  # NaN if any pixel is
    if not np.isfinite([low, high]).all():
        raise BadTensor("images: expected finite FP32 pixels, got NaN or infinity")
    if unit_range and not (low >= -_UNIT_RANGE_TOLERANCE and high <= 1 + _UNIT_RANGE_TOLERANCE):
        raise BadTensor(
            f"images: expected FP32 pixels in [0, 1], got {low:g} to {high:g}; divide by 255, or send them as UINT8"
        )


def _decode(encoded: Array, rules: ImageRules) -> Array:
    images: list[Array] = []
    for index, data in enumerate(encoded.tolist()):
        image = _decode_one(index, data, len(encoded), rules)
        if images and image.shape != images[0].shape:
            raise BadTensor(
                f"images: expected encoded images of one size in a request, got {_shape_text(images[0].shape)} and "
                f"{_shape_text(image.shape)} at {index}; send one request per size"
            )
        images.append(image)
    return np.stack(images)


def _decode_one(index: int, data: bytes, count: int, rules: ImageRules) -> Array:
    from PIL import Image, UnidentifiedImageError

    mode = _MODE_OF_CHANNELS.get(rules.channels)
    if mode is None:
        raise BadTensor(f"images: this model has {rules.channels} channels, which PNG and JPEG do not have; send UINT8")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            # The size stands in the file's header: it is checked before any pixel is decoded.
            _check_size((image.height, image.width, rules.channels), count, rules)
            if image.mode not in _EIGHT_BIT_MODES:
                raise BadTensor(f"images: expected 8 bits a channel, got the mode {image.mode} at {index}")
            pixels = np.asarray(image.convert(mode), np.uint8)
    except (BadTensor, TooLarge):
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(f"images: {error} (at {index})") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        got = f"{len(data)} bytes at {index} that are neither or broken"
        raise BadTensor(f"images: expected a PNG or JPEG, got {got} ({reason})") from None
    return pixels.reshape(image.height, image.width, rules.channels)


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "[N, height, width, channels]" if shape is None else f"[N, {', '.join(str(side) for side in shape)}]"
