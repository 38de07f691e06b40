"""A picture file gives the same pixels as part of a training folder and as part of a request."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from http_calls import bytes_tensor
from picture_files import saved, turned
from PIL import Image, ImageOps

from services.inputs import ImageRules, read_images
from services.settings import Limits
from stn_core import pictures
from stn_core.datasets import load
from stn_core.errors import BadTensor, InvalidInput, TooLarge
from stn_core.pictures import decode_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
COLOUR, GRAY = Image.fromarray(PIXELS[..., :3]), Image.fromarray(PIXELS[..., 0])
CLEAR = Image.fromarray(PIXELS)
LIGHT_AND_ALPHA = CLEAR.convert("LA")
SIXTEEN = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
PALETTE = COLOUR.convert("P")


FILES: dict[str, Callable[[], bytes]] = {
    "gray": lambda: saved(GRAY),
    "colour": lambda: saved(COLOUR),
    "colour and alpha": lambda: saved(CLEAR),
    "gray and alpha": lambda: saved(LIGHT_AND_ALPHA),
    "palette": lambda: saved(PALETTE),
    "palette with a clear colour": lambda: saved(PALETTE, transparency=int(np.asarray(PALETTE)[0, 0])),
    "gray with a clear value": lambda: saved(GRAY, transparency=int(PIXELS[0, 0, 0])),
    "16 bits": lambda: saved(SIXTEEN),
    "1 bit": lambda: saved(GRAY.convert("1")),
    "JPEG": lambda: saved(COLOUR, "JPEG"),
    "CMYK": lambda: saved(COLOUR.convert("CMYK"), "JPEG"),
    "turned PNG": lambda: turned(COLOUR, "PNG"),
    "turned JPEG": lambda: turned(COLOUR, "JPEG"),
}


def by_folder(data: bytes, root: Path, channels: int) -> np.ndarray:
    (root / "only").mkdir(parents=True)
    for number in range(3):
        (root / "only" / f"{number}.png").write_bytes(data)
    splits = load(str(root), channels=channels)
    assert splits.skipped == ()
    return splits.train.images


def by_request(data: bytes, channels: int, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    return read_images(bytes_tensor([data]), ImageRules(Limits(), shape, channels, unit_range=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_the_same_by_training_and_service(tmp_path: Path, kind: str, channels: int) -> None:
    data = FILES[kind]()
    trained, served = by_folder(data, tmp_path, channels), by_request(data, channels)
    assert served.shape == (1, *((9, 6) if kind.startswith("turned") else (6, 9)), channels)
    assert served.dtype == trained.dtype == np.uint8
    np.testing.assert_array_equal(served, trained)


def test_what_is_transparent_is_black_and_opacity_itself_can_be_had() -> None:
    shown = (PIXELS[..., :3].astype(float) * PIXELS[..., 3:] / 255).round()
    assert np.abs(decode_picture(saved(CLEAR), channels=3) - shown).max() <= 1
    np.testing.assert_array_equal(by_request(saved(CLEAR), 4)[0], PIXELS)
    clear = decode_picture(FILES["gray with a clear value"]())
    np.testing.assert_array_equal(clear[..., 0], np.where(PIXELS[..., 0] == PIXELS[0, 0, 0], 0, PIXELS[..., 0]))


def test_16_bits_become_8_and_exif_turns() -> None:
    np.testing.assert_array_equal(decode_picture(saved(SIXTEEN))[..., 0], PIXELS[..., 0])
    clear = decode_picture(saved(SIXTEEN, transparency=int(PIXELS[0, 0, 0]) * 257))
    assert clear[0, 0, 0] == 0
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(turned(COLOUR, "PNG")))))
    np.testing.assert_array_equal(decode_picture(turned(COLOUR, "PNG")), expected)
    np.testing.assert_array_equal(expected, np.rot90(PIXELS[..., :3], -1))


def test_a_turned_picture_fits_the_shape_that_it_is_shown_in() -> None:
    data = turned(COLOUR, "PNG")
    assert by_request(data, 3, (9, 6, 3)).shape == (1, 9, 6, 3)
    with pytest.raises(BadTensor, match=r"expected \[N, 6, 9, 3\], got \[N, 9, 6, 3\]"):
        by_request(data, 3, (6, 9, 3))
    with pytest.raises(BadTensor, match=r"expected \[N, 7, 9, 3\], got \[N, 6, 9, 3\]"):
        by_request(saved(COLOUR), 3, (7, 9, 3))


def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = saved(Image.new("1", (9000, 9000)))
    with pytest.raises(TooLarge, match="expected at most 67108864 pixels in a picture, got 9000 x 9000"):
        decode_picture(bomb)
    monkeypatch.setattr(pictures.io, "BytesIO", None)  # a path is opened as a path
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(TooLarge):
        decode_picture(tmp_path / "bomb.png")


def test_only_the_formats_asked_for_are_read() -> None:
    bitmap = saved(COLOUR, "BMP")
    assert decode_picture(bitmap).shape == (6, 9, 3)
    with pytest.raises(BadTensor, match="expected a PNG or JPEG"):
        by_request(bitmap, 3)
    with pytest.raises(InvalidInput, match="floating"):
        decode_picture(saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    with pytest.raises(InvalidInput, match="1, 3 or 4 channels"):
        decode_picture(bitmap, channels=2)
