"""The size of encoded pictures, held against what PIL and the service see."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import saved, turned
from PIL import Image
from stn_client.encoded import seen_size

from stn_core.pictures import decode_picture

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
FILES = {
    "png": saved(PICTURE),
    "png, gray": saved(PICTURE.convert("L")),
    "jpeg": saved(PICTURE, "JPEG"),
    "jpeg, progressive": saved(PICTURE, "JPEG", progressive=True),
    "jpeg, gray": saved(PICTURE.convert("L"), "JPEG"),
    "jpeg with a comment": saved(PICTURE, "JPEG", comment=b"\xff\xc0 is no frame"),
    "jpeg, turned": turned(PICTURE, "JPEG"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_size_is_that_which_the_service_sees(name: str) -> None:
    assert seen_size(FILES[name]) == decode_picture(FILES[name], channels=3).shape[:2]
    assert seen_size(FILES[name]) == ((30, 20) if "turned" in name else (20, 30))


@pytest.mark.parametrize("orientation", range(9))
def test_exif_that_does_not_lie_is_not_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(PICTURE, "JPEG", exif=exif)
    assert seen_size(data) == decode_picture(data, channels=3).shape[:2]


def test_a_png_that_may_be_turned_has_no_known_size() -> None:
    assert seen_size(turned(PICTURE, "PNG")) is None


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_files_have_none(kind: str) -> None:
    assert seen_size(saved(PICTURE, kind)) is None


@given(
    name=st.sampled_from(sorted(FILES)), length=st.integers(0, 1000), byte=st.integers(0, 255), at=st.integers(0, 999)
)
def test_broken_files_have_some_size_or_none(name: str, length: int, byte: int, at: int) -> None:
    data = bytearray(FILES[name][:length])
    if at < len(data):
        data[at] = byte
    size = seen_size(bytes(data))
    assert size is None or len(size) == 2


def test_the_first_bytes_are_enough() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 200, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG")
    assert seen_size(data[:1000]) == (300, 200)
    assert Image.open(io.BytesIO(data)).size == (200, 300)
