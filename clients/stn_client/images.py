"""What an image may be given as, checked before anything is sent; every error says what was expected and what came."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterable, Iterable
from functools import lru_cache
from typing import IO, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stn_client.encoded import seen_size
from stn_client.files import read_file
from stn_client.pictures import as_picture
from stn_core.errors import BadTensor, StnError

UNIT_RANGE_TOLERANCE = 1e-3  # resampling by bicubic or area filters leaves a little more than [0, 1]
DECODED_CHANNELS = 4  # the most that an encoded picture has
LENGTH_BYTES = 4  # which go before each encoded picture
PIXEL_MODES = frozenset({"L", "RGB"})
PNG_MODES = frozenset({"1", "LA", "I", "I;16", "I;16B", "P", "RGBA"})
EXPECTED_IMAGES = (
    "images: expected a NumPy array [N, H, W, C] or [N, H, W], uint8 or floating in [0, 1]; images in a list or any "
    "other iterable; or the path of a folder, a file or a pattern"
)
EXPECTED_IMAGE = (
    "images: expected each as a NumPy array [H, W, C] or [H, W], uint8 or floating in [0, 1], as a PIL image, as the "
    "bytes of a PNG or JPEG, or as a path"
)


class Picture(Protocol):
    """A PIL image, as far as it matters here."""

    @property
    def mode(self) -> str: ...

    def save(self, fp: IO[bytes], format: str, **params: Any) -> None: ...


Image: TypeAlias = NDArray[Any] | Picture | bytes | str | os.PathLike[str]
Images: TypeAlias = NDArray[Any] | Iterable[Image] | str | os.PathLike[str]
AsyncImages: TypeAlias = Images | AsyncIterable[Image]


class Kind(NamedTuple):
    """What images have in common that can be rows of one array.

    ``shape`` is (height, width) or (height, width, channels) of pixels. ``dtype`` is None of encoded pictures; their
    ``shape`` is the (height, width) that they are seen at, or None where their first bytes do not tell.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None

    @property
    def gray(self) -> bool:
        """Whether these are pixels without a channel axis."""
        return self.dtype is not None and self.shape is not None and len(self.shape) == 2

    def joined(self, images: list[bytes]) -> NDArray[Any]:
        """The images as they are sent: pixels ``[N, H, W, C]``, uint8 or float32, or encoded pictures ``[N]``."""
        if self.dtype is None or self.shape is None:
            encoded = np.empty(len(images), object)
            encoded[:] = images
            return encoded
        array: NDArray[Any] = np.frombuffer(b"".join(images), self.dtype).reshape(len(images), *self.shape)
        return array[..., None] if self.gray else array


class Reading(NamedTuple):
    """How the images of a call are read."""

    unit_range: bool = True
    """Whether floating values must be within [0, 1]."""
    any_size: bool = False
    """Whether encoded pictures of several sizes may go together; PIL images go as PNG files then."""
    as_png: bool = False
    """Whether arrays, which must be uint8, go as PNG files."""


class Ready(NamedTuple):
    """An image that can be sent: a copy of its pixels, or the encoded picture, of which it takes ``decoded_bytes``."""

    data: bytes
    kind: Kind
    sent_bytes: int
    decoded_bytes: int


def ready(image: object, reading: Reading) -> Ready:
    """``image`` as it is sent; BadTensor or InvalidInput if it cannot be."""
    one = _ready(image, reading)
    return one._replace(kind=Kind(None, None)) if reading.any_size and one.kind.dtype is None else one


def sent_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What pixels of ``dtype`` are sent as."""
    return np.dtype(np.uint8 if dtype == np.uint8 else np.float32)


def check_layout(images: NDArray[Any]) -> None:
    """BadTensor unless ``images`` are ``[N, H, W, C]`` or ``[N, H, W]``, uint8 or floating."""
    got = f"got {images.dtype} {list(images.shape)}"
    if images.ndim not in (3, 4) or not _is_of_images(images.dtype):
        raise BadTensor(f"{EXPECTED_IMAGES}; {got}")
    if len(images) == 0:
        raise BadTensor(f"images: expected at least one image; {got}")
    if 0 in images.shape:
        raise BadTensor(f"images: expected images of at least one pixel; {got}")
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4) and min(images.shape[:2]) >= 8:
        # Taken as [N, H, W] this would be a batch of slivers: surely one image, or a batch without its batch axis.
        raise BadTensor(f"{EXPECTED_IMAGES}; {got}, which looks like one image [H, W, C]: send images[None]")


def check_floats(array: NDArray[Any], unit_range: bool) -> None:
    """BadTensor unless floating values are finite, and within [0, 1] if ``unit_range``."""
    if array.dtype == np.uint8:
        return
    low, high = float(array.min()), float(array.max())  # NaN if any value is
    most = float(np.finfo(np.float32).max)
    if not (-most <= low and high <= most):
        raise BadTensor(f"images: expected finite floating values, got {array.dtype} from {low:.6g} to {high:.6g}")
    if unit_range and not (low >= -UNIT_RANGE_TOLERANCE and high <= 1 + UNIT_RANGE_TOLERANCE):
        raise BadTensor(
            f"images: expected floating values in [0, 1], got {array.dtype} from {low:.6g} to {high:.6g}; "
            "send pixels of 0 to 255 as uint8, or divide them by 255"
        )


def is_pil(image: object) -> bool:
    """Whether ``image`` is a PIL image; whoever has one has imported PIL."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _ready(image: object, reading: Reading) -> Ready:
    if isinstance(image, np.ndarray):
        return _ready_pixels(image, reading)
    if isinstance(image, bytes | bytearray | memoryview):
        return _ready_bytes(bytes(image))
    if isinstance(image, str | os.PathLike):
        return _ready_bytes(read_file(image))
    if is_pil(image):
        return _ready_picture(image, reading)
    raise BadTensor(f"{EXPECTED_IMAGE}; got {type(image).__name__}")


def _ready_pixels(image: NDArray[Any], reading: Reading) -> Ready:
    kind = _kind_of(image.dtype, image.shape)
    if reading.as_png:
        if kind.dtype != np.uint8:
            raise BadTensor(
                "images: expected uint8 pixels, or files, where each image comes out at a size of its own; "
                f"got {image.dtype}: give the size, (height, width), or send uint8"
            )
        return _ready_bytes(_png(as_picture(image, "to send pixels as PNG files")))
    if kind.dtype != np.uint8:
        check_floats(image, reading.unit_range)
        image = image.astype(np.float32, copy=False)
    data = image.tobytes()  # a copy, as an iterator may use one array again and again
    return Ready(data, kind, len(data), len(data))


@lru_cache(256)
def _kind_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Kind:
    """The kind of an array; BadTensor if it is no image."""
    if len(shape) not in (2, 3) or 0 in shape or not _is_of_images(dtype):
        hint = "; a batch [N, H, W, C] is an argument of its own" if len(shape) == 4 else ""
        raise BadTensor(f"{EXPECTED_IMAGE}; got {dtype} {list(shape)}{hint}")
    return Kind(sent_dtype(dtype), shape)


def _ready_bytes(data: bytes) -> Ready:
    if not data:
        raise BadTensor(f"{EXPECTED_IMAGE}; got no bytes at all")
    size = seen_size(data)
    decoded_bytes = 0 if size is None else size[0] * size[1] * DECODED_CHANNELS
    return Ready(data, Kind(None, size), len(data) + LENGTH_BYTES, decoded_bytes)


def _ready_picture(picture: Any, reading: Reading) -> Ready:
    """Gray and colour as pixels; any other mode as a PNG, which the service converts as it does with files."""
    if picture.mode == "F":
        raise BadTensor(f"{EXPECTED_IMAGE}; got a PIL image of mode F: send numpy.asarray(image), in [0, 1]")
    try:
        if picture.mode in PIXEL_MODES and not reading.any_size:
            return _ready_pixels(np.asarray(picture), reading)
        if picture.mode not in (*PIXEL_MODES, *PNG_MODES):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        return _ready_bytes(_png(picture))
    except StnError:
        raise
    except Exception as error:  # an opened file is read only now, and Pillow raises many kinds
        raise BadTensor(f"images: cannot read the PIL image: {type(error).__name__}: {error}") from None


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, exif=b"")  # its pixels, not turned by what else it holds
    return buffer.getvalue()


def _is_of_images(dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 or dtype.name in ("float32", "float64")
