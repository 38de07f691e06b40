"""The model ``straighten``: images of any size and channels, rectified at their own by the theta of a small copy.

The gateway decodes and warps them, whatever the placement: they are large, and a stage of its own sees the small copies
alone, in batches with those of others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from services.batching import Array, Columns
from services.decisions import told
from services.inputs import ImageRules, check_names, read_images
from services.protocol import STRAIGHTEN_PARAMETERS
from services.settings import Settings
from services.uploads import PixelAllowance, read_head, read_pixels
from stn_core.bundle import Manifest
from stn_core.canvas import Frame, Wanted, output_window
from stn_core.errors import BadTensor, brief
from stn_core.fullsize import FullImage, warp_full
from stn_core.geometry import Size
from stn_core.pictures import REQUEST_FORMATS, decode_reduced
from stn_core.png import encode_png
from stn_core.resizing import as_input
from stn_core.tensors import datatype_of
from stn_core.wire import InferRequest

_AT_ONCE = 2
"""Requests whose images are in memory, decoded; others wait, encoded."""
_PIXELS_A_SIDE = 8
"""Of an image that is decoded at a part of its size, for each of the network's: more than enough to make those of."""
_FASTEST = 1  # of the levels of a PNG, whose makers wait for it

_FOUND = ("label", "probabilities", "decision", "reason", "confidence")

Look = Callable[[Array, InferRequest], Awaitable[Columns]]
"""What the networks find in small images ``[N, *input_shape]``, and decide where a request asks for it."""


class Straightened(NamedTuple):
    """The outputs of a request, how many images it had, and when they were read, by ``time.perf_counter_ns``."""

    outputs: Columns
    images: int
    prepared_ns: int


class _Given(NamedTuple):
    """The images of a request, and what is to be made of them."""

    images: list[Array]
    """The pixels; of those of which none are asked for, maybe fewer than there are."""
    sizes: list[Size]
    """Those that the images came with."""
    as_files: bool
    small: Array
    wanted: Wanted


class Straightener:
    """Answers requests to ``straighten``; belongs to one event loop."""

    def __init__(self, settings: Settings, manifest: Manifest, look: Look) -> None:
        self._limits = settings.limits
        self._manifest = manifest
        self._threads = settings.rectifier.threads
        self._look = look
        self._rules = ImageRules(settings.limits, None, manifest.input_shape[2], unit_range=True)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="straighten")

    async def infer(self, request: InferRequest) -> Straightened:
        """The outputs that ``request`` asks for; errors of the StnError tree."""
        check_names(request.inputs, ("images",))
        loop = asyncio.get_running_loop()
        async with self._turns:
            given = await loop.run_in_executor(self._pool, self._read, request)
            prepared_ns = perf_counter_ns()
            found = await self._look(given.small, request)
            if "reason" in found:
                found = told(found)
            theta = found.get("theta_applied", found["theta"])
            made = await loop.run_in_executor(self._pool, self._make, given, theta, request)
        outputs = {**made, **{name: found[name] for name in _FOUND if name in found}}
        return Straightened(outputs, len(given.images), prepared_ns)

    def _read(self, request: InferRequest) -> _Given:
        tensor = request.inputs["images"]
        as_files = datatype_of(tensor) == "BYTES"
        if as_files:
            images, sizes = self._decoded(tensor, whole=_asks_for_pixels(request))
        else:
            images = list(read_images(tensor, self._rules))
            sizes = [image.shape[:2] for image in images]
        wanted = self._wanted(request.parameters, None if as_files else images[0].shape[:2])
        small = [as_input(image, self._manifest.input_shape, self._threads or 1) for image in images]
        return _Given(images, sizes, as_files, np.stack(small), wanted)

    def _decoded(self, tensor: Array, whole: bool) -> tuple[list[Array], list[Size]]:
        """The images and the sizes they have; unless needed ``whole``, large ones at a part of those."""
        if tensor.ndim != 1 or not 0 < len(tensor) <= self._limits.max_images:
            raise BadTensor(
                f"images: expected BYTES [N], N from 1 to {self._limits.max_images}, an encoded image each, got "
                f"{list(tensor.shape)}"
            )
        allowance, images, sizes = PixelAllowance(self._limits), [], []
        height, width, channels = self._manifest.input_shape
        with_opacity, at_least = channels == 4, (height * _PIXELS_A_SIDE, width * _PIXELS_A_SIDE)
        for data in tensor.tolist():
            head = read_head(data, self._limits)
            allowance.take(head.pixels * (4 if with_opacity else 1 if head.is_gray else 3))
            reduced = None if whole else decode_reduced(data, at_least, REQUEST_FORMATS)
            image = read_pixels(data, self._limits, with_opacity) if reduced is None else reduced[0]
            images.append(image)
            sizes.append((image.shape[0], image.shape[1]) if reduced is None else reduced[1])
        return images, sizes

    def _wanted(self, parameters: dict[str, Any], source: tuple[int, int] | None) -> Wanted:
        """What is asked for; images that come as one array leave as one, of the same size if none is asked for."""
        height, width, most = (_side(parameters, name) for name in STRAIGHTEN_PARAMETERS[1:])
        if (height is None) != (width is None):
            raise BadTensor("parameters: expected height and width, got one of them; give both, or neither")
        size = None if height is None or width is None else (height, width)
        canvas = parameters.get("canvas", "crop")
        if size is None and source is not None:
            if canvas == "fit" or most is not None:
                raise BadTensor(
                    "parameters: expected height and width, as each image would come out at a size of its own, which "
                    "one array cannot hold; give both, or send the images as BYTES"
                )
            size = source
        return Wanted(canvas, size, most, self._limits.max_pixels_per_image)

    def _make(self, given: _Given, thetas: Array, request: InferRequest) -> dict[str, Array]:
        asked, in_pixels = _asked(request), _asks_for_pixels(request)
        allowance = PixelAllowance(self._limits)
        made: list[FullImage] = []
        windows = []
        for image, size, theta in zip(given.images, given.sizes, thetas, strict=True):
            window = output_window(theta, self._frame(size), given.wanted)
            windows.append(window)
            if in_pixels:
                allowance.take(window.size[0] * window.size[1] * image.shape[2] * image.itemsize)
                with_mask = not asked or "mask" in asked
                made.append(warp_full(image, theta, self._manifest, given.wanted, with_mask, self._threads))
        outputs = {
            "theta": np.stack([window.theta for window in windows]),
            "rectified_size": np.array([window.size for window in windows], np.int64),
            "source_size": np.array(given.sizes, np.int64),
        }
        return {**outputs, **_pictures(made, given.as_files)}

    def _frame(self, size: Size) -> Frame:
        input_size = self._manifest.input_shape[:2]
        return Frame(size, input_size, self._manifest.rectified_size or input_size)


def _asked(request: InferRequest) -> set[str]:
    return {output.name for output in request.outputs or ()}


def _asks_for_pixels(request: InferRequest) -> bool:
    asked = _asked(request)
    return not asked or bool(asked & {"images", "mask"})


def _pictures(made: list[FullImage], as_files: bool) -> dict[str, Array]:
    """``images`` and ``mask``: files where files came, arrays where an array came."""
    if not made:
        return {}
    found: dict[str, list[Array]] = {"images": [one.image for one in made]}
    if made[0].mask is not None:
        found["mask"] = [one.mask[..., None] * np.uint8(255) for one in made if one.mask is not None]
    if not as_files:
        return {name: np.stack(arrays) for name, arrays in found.items()}
    return {name: _files(arrays) for name, arrays in found.items()}


def _files(arrays: list[Array]) -> Array:
    """PNG files as BYTES."""
    files = np.empty(len(arrays), object)
    files[:] = [encode_png(pixels, level=_FASTEST) for pixels in arrays]
    return files


def _side(parameters: dict[str, Any], name: str) -> int | None:
    value = parameters.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise BadTensor(f"parameters.{name}: expected a whole number of px from 1, got {brief(value)}")
    return value
