"""What an image may be given as, and what is said about the rest."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import saved
from PIL import Image
from stn_client.batches import Alongside, Batch, Failed
from stn_client.images import Reading, ready
from stn_client.sources import Source
from stn_client.splitting import Limits, Room

from stn_core.errors import BadTensor, InvalidInput, StnError
from stn_core.pictures import decode_picture

ROOM = Room.within(Limits(100, 2**24), 0, 100)


def batches(images: object, unit_range: bool = True, keep: bool = False) -> list[Batch]:
    """How ``images`` are sent; the error of a source that cannot go on is raised."""
    found = []
    for formed in Source.of(images, Reading(unit_range), keep).batches(ROOM, Alongside({})):
        if isinstance(formed, Failed):
            raise formed.error
        found.append(formed)
    return found


def sent(images: object, **options: bool) -> np.ndarray:
    """The one array that they are sent as."""
    (batch,) = batches(images, **options)
    return batch.inputs["images"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.dtype(">f4"), np.float64])
def test_images_are_sent_as_uint8_or_float32(dtype: Any) -> None:
    for images in (np.ones((2, 5, 4, 3), dtype), list(np.ones((2, 5, 4, 3), dtype))):
        array = sent(images)
        assert array.shape == (2, 5, 4, 3)
        assert array.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        assert (array == 1).all()


def test_uint8_and_float32_are_not_copied() -> None:
    for images in (np.zeros((2, 5, 4, 3), np.uint8), np.zeros((2, 5, 4), np.float32)):
        assert np.shares_memory(sent(images), images)


def test_gray_images_are_sent_with_a_channel() -> None:
    pixels = np.arange(40, dtype=np.uint8).reshape(2, 5, 4)
    for images in (pixels, list(pixels)):
        (batch,) = batches(images)
        assert batch.gray
        assert np.array_equal(batch.inputs["images"], pixels[..., None])
        (batch,) = batches([image[..., None] for image in images])
        assert not batch.gray


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            None,
            r"expected a NumPy array \[N, H, W, C\] or \[N, H, W\], .*images in a list.*path of a folder.*got NoneType",
        ),
        (7, "got int"),
        (b"x", r"got one image as bytes: send \[image\]"),
        (np.zeros((28, 28), np.uint8), r"expected a NumPy array \[N, H, W, C\] or \[N, H, W\], .*got uint8 \[28, 28\]"),
        (np.zeros((1, 1, 2, 2, 1), np.uint8), r"got uint8 \[1, 1, 2, 2, 1\]"),
        (np.zeros((1, 2, 2), np.int64), r"got int64 \[1, 2, 2\]"),
        (np.zeros((1, 2, 2), np.float16), "got float16"),
        (np.zeros((1, 2, 2), bool), "got bool"),
        (np.zeros((1, 2, 2), object), "got object"),
        (np.zeros((0, 28, 28), np.uint8), r"expected at least one image; got uint8 \[0, 28, 28\]"),
        ([], "expected at least one image, got an empty list"),
        (np.zeros((2, 0, 28), np.uint8), r"at least one pixel; got uint8 \[2, 0, 28\]"),
        (np.zeros((28, 28, 3), np.uint8), r"looks like one image \[H, W, C\]: send images\[None\]"),
        (np.full((1, 2, 2), 255.0), r"floating values in \[0, 1\], got float64 from 255 to 255; send .* as uint8, or"),
        (np.full((1, 2, 2), -0.1, np.float32), "got float32 from -0.1 to -0.1"),
        (np.full((1, 2, 2), np.nan), "expected finite floating values, got float64 from nan to nan"),
        (np.full((1, 2, 2), 1e300), "expected finite floating values, got float64 from 1e"),
        ([[1]], r"expected each as a NumPy array \[H, W, C\] or \[H, W\].*PIL image.*bytes.*path; got list"),
        (
            [np.zeros((2, 2, 2, 1), np.uint8)],
            r"got uint8 \[2, 2, 2, 1\]; a batch \[N, H, W, C\] is an argument of its own",
        ),
        ([np.zeros((2, 2), np.int32)], r"got int32 \[2, 2\]"),
        ([np.zeros((0, 2), np.uint8)], r"got uint8 \[0, 2\]"),
        ([np.full((2, 2), 2.0)], r"floating values in \[0, 1\], got float64 from 2 to 2"),
        ([b""], "got no bytes at all"),
        ([Image.new("F", (3, 3))], "got a PIL image of mode F"),
    ],
)
def test_other_images_are_refused(images: Any, message: str) -> None:
    with pytest.raises(BadTensor, match=message):
        batches(images)


def test_one_pil_image_is_no_iterable_of_images() -> None:
    with pytest.raises(BadTensor, match=r"got one image as Image: send \[image\]"):
        batches(Image.new("L", (3, 3)))


def test_floats_may_leave_the_unit_range_a_little_or_where_nothing_depends_on_it() -> None:
    for images in (np.full((1, 2, 2), 1.0005), [np.full((2, 2), 1.0005)]):
        assert sent(images).dtype == np.float32
    for images in (np.full((1, 2, 2), -7.0), [np.full((2, 2), -7.0)]):
        assert sent(images, unit_range=False).min() == -7


def test_narrow_images_are_images() -> None:
    assert sent(np.zeros((5, 1, 1), np.uint8)).shape == (5, 1, 1, 1)
    assert sent(np.zeros((5, 2, 3), np.uint8)).shape == (5, 2, 3, 1)


# --- images of other kinds -------------------------------------------------------------------------------------------


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def test_encoded_images_travel_as_they_are(tmp_path: Path) -> None:
    data = saved(Image.fromarray(PIXELS))
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    array = sent([data, bytearray(data), memoryview(data), path, str(path)])
    assert array.dtype == object
    assert array.tolist() == [data] * 5


@pytest.mark.parametrize(("mode", "shape"), [("L", (6, 5)), ("RGB", (6, 5, 3))])
def test_plain_pil_images_travel_as_pixels(mode: str, shape: tuple[int, ...]) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    assert ready(image, Reading()).data == np.asarray(image).tobytes()
    assert ready(image, Reading()).kind.shape == shape


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "I;16", "CMYK", "YCbCr", "PA"])
def test_other_pil_images_travel_as_a_png_of_the_same_pixels(mode: str) -> None:
    image = Image.fromarray(PIXELS)
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    data = ready(image, Reading()).data
    assert data.startswith(b"\x89PNG")
    reopened = Image.open(io.BytesIO(data))
    expected = image.convert({"CMYK": "RGB", "YCbCr": "RGB", "PA": "RGBA"}.get(mode, mode))
    assert np.array_equal(np.asarray(reopened.convert(expected.mode)), np.asarray(expected))


def test_a_pil_image_is_not_turned_by_what_else_it_holds() -> None:
    image = Image.fromarray(PIXELS).convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.open(io.BytesIO(saved(image, exif=exif)))
    assert decode_picture(ready(lying, Reading()).data, channels=3).shape == PIXELS.shape


def test_a_pil_image_that_cannot_be_read_is_a_bad_image() -> None:
    data = saved(Image.fromarray(PIXELS))
    (batch,) = batches([Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data[:70]))], keep=True)
    assert batch.places == [0]
    assert str(batch.errors[1]).startswith("images: cannot read the PIL image: OSError: ")


def test_an_array_may_be_used_again_by_its_iterator() -> None:
    def filled() -> Iterator[np.ndarray]:
        buffer = np.zeros((3, 3), np.uint8)
        for value in range(5):
            buffer[:] = value
            yield buffer

    assert sent(filled())[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    turned = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    assert np.array_equal(sent([turned])[0, ..., 0], turned)


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read the file '.*none\.png': No such file") as raised:
        batches([PIXELS, tmp_path / "none.png"])
    assert raised.value.__notes__ == ["this is image 1"]


def test_a_folder_and_a_pattern_are_the_files_they_name(tmp_path: Path) -> None:
    for number in (2, 1):
        (tmp_path / f"{number}.png").write_bytes(saved(Image.new("L", (4, 4), number)))
    (tmp_path / "notes.txt").write_text("no picture")
    for where in (tmp_path, str(tmp_path), str(tmp_path / "*.png"), tmp_path / "?.png"):
        assert sent(where).tolist() == [(tmp_path / "1.png").read_bytes(), (tmp_path / "2.png").read_bytes()]
    assert sent(tmp_path / "2.png").tolist() == [(tmp_path / "2.png").read_bytes()]


# --- one by one ------------------------------------------------------------------------------------------------------


def test_bad_images_keep_their_place_and_harm_no_other() -> None:
    images = np.full((4, 3, 3), 0.5)
    images[1] = 7
    for given in (images, list(images)):
        (batch,) = batches(given, keep=True)
        assert batch.index == range(4)
        assert batch.places == [0, 2, 3]
        assert batch.inputs["images"].shape == (3, 3, 3, 1)
        assert set(batch.errors) == {1}
        assert isinstance(batch.errors[1], BadTensor)
    with pytest.raises(StnError, match=r"in \[0, 1\]"):
        batches(images)


def test_the_layout_of_an_array_is_wrong_for_all_of_it() -> None:
    with pytest.raises(BadTensor, match="got int64"):
        batches(np.zeros((3, 4, 4), np.int64), keep=True)
