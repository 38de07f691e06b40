"""Checks and decodes the tensors of a request, before anything of it joins a batch."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.batching import Array
from services.settings import Limits
from stn_core.annotations import MAX_POINTS
from stn_core.errors import BadTensor, StnError, TooLarge, shortened
from stn_core.geometry import Size
from stn_core.pictures import CHANNELS, REQUEST_FORMATS, decode_picture
from stn_core.tensors import datatype_of
from stn_core.transforms import check_shape

IMAGE_DATATYPES = ("UINT8", "FP32", "FP16", "BF16", "FP64", "BYTES")
MAX_THETA = 1e6
"""Sampling at coordinates near the limit of FP32 gives NaN; this is far below it, and far outside any image."""
_NAMES_QUOTED = 4
_FP32 = np.dtype(np.float32)
_FLOATS = ("FP32", "FP16", "FP64")  # BF16 was read as FP32
_BASE64_OF_PICTURES = (b"iVBORw0KGgo", b"/9j/")
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
        quoted = ", ".join(shortened(name, 40) for name in list(given)[:_NAMES_QUOTED]) or "none"
        more = f" and {len(given) - _NAMES_QUOTED} more" if len(given) > _NAMES_QUOTED else ""
        raise BadTensor(f"inputs: expected {', '.join(needed)}{also}, got {quoted}{more}")


def read_images(tensor: Array, rules: ImageRules) -> Array:
    """The images as UINT8 or FP32 ``[N,H,W,C]``, which obey ``rules``; encoded ones become UINT8, other floats FP32."""
    datatype = datatype_of(tensor)
    if datatype not in IMAGE_DATATYPES:
        raise BadTensor(f"images: expected {', '.join(IMAGE_DATATYPES[:-1])} or {IMAGE_DATATYPES[-1]}, got {datatype}")
    if tensor.ndim != (1 if datatype == "BYTES" else 4):
        expected = "[N] (an encoded PNG or JPEG each)" if datatype == "BYTES" else _shape_text(rules.shape)
        raise BadTensor(f"images: expected the shape {expected} for {datatype}, got {list(tensor.shape)}")
    _check_count(len(tensor), rules.limits)
    if datatype == "BYTES":
        return _decode(tensor, rules)
    _check_size(tensor.shape[1:], _FP32.itemsize if datatype in _FLOATS else tensor.itemsize, len(tensor), rules)
    if datatype in _FLOATS:
        tensor = _as_fp32(tensor)
        _check_values(tensor, rules.unit_range)
    return tensor


def _as_fp32(tensor: Array) -> Array:
    if tensor.dtype == _FP32:
        return tensor
    with np.errstate(over="ignore"):  # what FP32 cannot hold becomes infinity, which is refused
        return tensor.astype(_FP32)


def read_theta(tensor: Array, images: int, dtype: type[np.floating[Any]] = np.float32) -> Array:
    """The transforms, finite and of ``dtype``, of one family: ``[N,2,3]``, ``[N,3,3]`` or ``[N,K*K,2]``."""
    _check_datatype("theta", tensor, _FLOATS)
    check_shape(tensor.shape)
    if len(tensor) != images:
        expected = [images, *tensor.shape[1:]]
        raise BadTensor(f"theta: expected the shape {expected} (one per image), got {list(tensor.shape)}")
    largest = float(np.abs(tensor).max())  # NaN if any number is
    if not largest <= MAX_THETA:
        raise BadTensor(
            f"theta: expected finite numbers of at most {MAX_THETA:g} either way, beyond which coordinates overflow, "
            f"got {_first(tensor, ~(np.abs(tensor.astype(np.float64)) <= MAX_THETA))}"
        )
    return tensor.astype(dtype)


def read_points(tensor: Array, images: int) -> Array:
    """Points in pixels as FP64 ``[N,P,2]``."""
    _check_datatype("points", tensor, _FLOATS)
    if tensor.ndim != 3 or len(tensor) != images or tensor.shape[2] != 2:
        raise BadTensor(f"points: expected the shape [{images}, points, 2] (x, y), got {list(tensor.shape)}")
    if tensor.shape[0] * tensor.shape[1] > MAX_POINTS:
        raise TooLarge(
            f"points: expected at most {MAX_POINTS} in one request, got {tensor.shape[0] * tensor.shape[1]}; send "
            "several requests"
        )
    return tensor.astype(np.float64)


def read_sizes(name: str, tensor: Array, images: int, limits: Limits) -> Array:
    """The (height, width) of each image as INT64 ``[N,2]``."""
    _check_datatype(name, tensor, ("INT64", "INT32"))
    if tensor.shape != (images, 2) or tensor.min() < 1 or tensor.max() > limits.max_side_px:
        raise BadTensor(
            f"{name}: expected (height, width) of each image in px, {[images, 2]} from 1 to {limits.max_side_px}, got "
            f"{list(tensor.shape)}{f' from {tensor.min()} to {tensor.max()}' if tensor.size else ''}"
        )
    return tensor.astype(np.int64)


def _check_datatype(name: str, tensor: Array, expected: tuple[str, ...]) -> None:
    if datatype_of(tensor) not in expected:
        raise BadTensor(f"{name}: expected {', '.join(expected[:-1])} or {expected[-1]}, got {datatype_of(tensor)}")


def read_ids(tensor: Array, images: int) -> Array:
    """The images' identities as UINT64 ``[N]``."""
    if datatype_of(tensor) != "UINT64" or tensor.shape != (images,):
        raise BadTensor(
            f"ids: expected UINT64 {[images]} (one per image), got {datatype_of(tensor)} {list(tensor.shape)}"
        )
    return tensor


def check_spline(theta_shape: tuple[int, ...], size: Size, limits: Limits) -> None:
    """TooLarge if ``theta_shape`` is that of a spline, and one of images of ``size`` (height, width) costs too much."""
    (points, columns), (height, width) = theta_shape, size
    if columns == 2 and points * height * width > limits.max_spline_terms:
        raise TooLarge(
            f"images: expected at most {limits.max_spline_terms // points} pixels in an image that a thin-plate spline "
            f"of {points} control points warps, got {height} x {width}; scale the images down or cut them into tiles"
        )


def result_bytes(name: str, images: Array, size: Size, limits: Limits) -> int:
    """The bytes of one of ``images`` when it comes out at ``size`` (height, width), as ``name``.

    TooLarge if what comes out would pass the limits on what may come in.
    """
    shape = (*size, images.shape[3])
    check_limits(name, shape, images.itemsize, len(images), limits)
    return math.prod(shape) * images.itemsize


def _check_count(images: int, limits: Limits) -> None:
    if images == 0:
        raise BadTensor("images: expected at least one image, got none")
    if images > limits.max_images:
        raise TooLarge(
            f"images: expected at most {limits.max_images} in one request, got {images}; send several requests"
        )


def _check_size(shape: tuple[int, ...], bytes_per_value: int, images: int, rules: ImageRules) -> None:
    """BadTensor or TooLarge unless ``images`` images of (height, width, channels) ``shape`` are welcome."""
    if rules.shape is not None and shape != rules.shape:
        raise BadTensor(
            f"images: expected {_shape_text(rules.shape)}, got {_shape_text(shape)}; resize or pad the images"
        )
    if 0 in shape:
        raise BadTensor(f"images: expected at least one pixel and channel, got {_shape_text(shape)}")
    check_limits("images", shape, bytes_per_value, images, rules.limits)


def check_limits(name: str, shape: tuple[int, ...], bytes_per_value: int, images: int, limits: Limits) -> None:
    """TooLarge unless ``images`` images of (height, width, channels) ``shape`` are welcome, in or out, as ``name``."""
    height, width, _ = shape
    if max(height, width) > limits.max_side_px:
        raise TooLarge(
            f"{name}: expected sides of at most {limits.max_side_px} px, got {height} x {width}; scale the images down "
            "or cut them into tiles"
        )
    if height * width > limits.max_pixels_per_image:
        raise TooLarge(
            f"{name}: expected at most {limits.max_pixels_per_image} pixels in an image, got {height} x {width}"
        )
    size = math.prod(shape) * bytes_per_value * images
    if size > limits.max_decoded_bytes:
        raise TooLarge(
            f"{name}: expected at most {limits.max_decoded_bytes} bytes of decoded images in one request, got {size}; "
            "send several requests"
        )


def _check_values(images: Array, unit_range: bool) -> None:
    low, high = float(images.min()), float(images.max())  # NaN if any pixel is
    if not np.isfinite([low, high]).all():
        raise BadTensor(f"images: expected finite FP32 pixels, got {_first(images, ~np.isfinite(images))}")
    if unit_range and not (low >= -_UNIT_RANGE_TOLERANCE and high <= 1 + _UNIT_RANGE_TOLERANCE):
        raise BadTensor(
            f"images: expected FP32 pixels in [0, 1], got {low:g} to {high:g}; divide by 255, or send them as UINT8"
        )


def _first(tensor: Array, wrong: Array) -> str:
    """The first of the values that are ``wrong``, and where it is."""
    place = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"{float(tensor[place]):g} at {[int(index) for index in place]}"


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
    if rules.channels not in CHANNELS:
        raise BadTensor(f"images: this model has {rules.channels} channels, which PNG and JPEG do not have; send UINT8")

    def check_size(height: int, width: int) -> None:
        # Turned by its EXIF data, a picture comes out with height and width exchanged; any other size is refused here.
        turned = rules.shape is not None and (width, height) == rules.shape[:2]
        sides = (width, height) if turned else (height, width)
        _check_size((*sides, rules.channels), np.uint8().itemsize, count, rules)

    try:
        image = decode_picture(
            data,
            channels=rules.channels,
            formats=REQUEST_FORMATS,
            max_pixels=rules.limits.max_pixels_per_image,
            check_size=check_size,
        )
    except (BadTensor, TooLarge):
        raise
    except StnError as error:
        got = f"{len(data)} bytes at {index} that are neither or broken"
        if data.startswith(_BASE64_OF_PICTURES):
            got = f'base64 text at {index}; give the tensor the parameter "content_type": "base64"'
        raise BadTensor(f"images: expected a PNG or JPEG, got {got} ({error})") from None
    _check_size(image.shape, image.itemsize, count, rules)
    return image


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "[N, height, width, channels]" if shape is None else f"[N, {', '.join(str(side) for side in shape)}]"
