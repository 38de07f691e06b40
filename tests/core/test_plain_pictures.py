"""Plain PNG and JPEG files are read by OpenCV, all others by Pillow, and nobody can tell which."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from struct import pack, unpack_from

import numpy as np
import pytest
from picture_files import saved, turned
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stn_core.errors import InvalidInput, StnError, TooLarge
from stn_core.pictures import REQUEST_FORMATS, decode_picture, decode_reduced
from stn_core.plain_pictures import luma, plain_picture, plain_pixels

# Levels between the luminance in a JPEG and Pillow's gray of its colours, as measured: where compression has made a
# colour that RGB does not hold, Pillow has cut it off before it adds up the gray.
MOST_OFF_IN_GRAY, MOST_OFF_AT_PURE_COLOURS = 3, 14
HEIGHT, WIDTH = 37, 53
GENERATOR = np.random.default_rng(7)
NOISE = Image.fromarray(GENERATOR.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
SMOOTH = Image.fromarray(GENERATOR.integers(0, 256, (5, 5, 3), np.uint8)).resize((WIDTH, HEIGHT), 3)
GRAY = NOISE.convert("L")
SIXTEEN = Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)


def text(key: str, value: str) -> bytes:
    info = PngInfo()
    info.add_text(key, value)
    return saved(NOISE, pnginfo=info)


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return pack(">I", len(content)) + name + content + pack(">I", zlib.crc32(name + content))


def with_chunk(name: bytes, content: bytes) -> bytes:
    """A PNG in colour with one more chunk before its pixels."""
    data = saved(NOISE)
    return data[:33] + chunk(name, content) + data[33:]


def interlaced() -> bytes:
    """Eight pixels in a column, in the Adam7 passes 1, 3, 5 and 7."""
    raw = b"".join(bytes((0, value)) for value in (10, 50, 30, 70, 20, 40, 60, 80))
    header = pack(">2I5B", 1, 8, 8, 0, 0, 0, 1)
    return saved(NOISE)[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND")


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment after its first."""
    data = saved(SMOOTH, "JPEG")
    return data[:20] + pack(">BBH", 0xFF, marker, len(content) + 2) + content + data[20:]


PLAIN: dict[str, Callable[[], bytes]] = {
    "gray": lambda: saved(GRAY),
    "colour": lambda: saved(NOISE),
    "smooth": lambda: saved(SMOOTH, optimize=True),
    "one pixel": lambda: saved(Image.new("RGB", (1, 1), (1, 2, 3))),
    "gray in colour": lambda: saved(GRAY.convert("RGB")),
    "dots per inch": lambda: saved(NOISE, dpi=(300, 300)),
    "software": lambda: text("Software", "a scanner's"),
    "gamma": lambda: with_chunk(b"gAMA", pack(">I", 22_000)),
    "gray JPEG": lambda: saved(GRAY, "JPEG"),
    "JPEG": lambda: saved(SMOOTH, "JPEG"),
    "JPEG of full colour": lambda: saved(SMOOTH, "JPEG", quality=97, subsampling=0),
    "JPEG of one pixel": lambda: saved(Image.new("RGB", (1, 1), (90, 80, 70)), "JPEG"),
    "progressive JPEG": lambda: saved(SMOOTH, "JPEG", progressive=True),
    "JPEG with restarts": lambda: saved(SMOOTH, "JPEG", restart_marker_blocks=1),
    "JPEG with a profile": lambda: saved(SMOOTH, "JPEG", icc_profile=bytes(range(200))),
    "JPEG with a comment": lambda: saved(SMOOTH, "JPEG", comment="one"),
}
OTHER: dict[str, Callable[[], bytes]] = {
    "palette": lambda: saved(NOISE.convert("P")),
    "16 bits": lambda: saved(SIXTEEN),
    "1 bit": lambda: saved(GRAY.convert("1")),
    "interlaced": interlaced,
    "gray and alpha": lambda: saved(GRAY.convert("LA")),
    "colour and alpha": lambda: saved(NOISE.convert("RGBA")),
    "a clear value": lambda: saved(GRAY, transparency=int(np.asarray(GRAY)[0, 0])),
    "a clear colour": lambda: saved(NOISE, transparency=NOISE.getpixel((0, 0))),
    "a clear value by text": lambda: text("transparency", "0"),
    "EXIF by text": lambda: text("exif", "II*"),
    "animated": lambda: saved(NOISE, save_all=True, append_images=[SMOOTH]),
    "turned PNG": lambda: turned(NOISE, "PNG"),
    "turned JPEG": lambda: turned(SMOOTH, "JPEG"),
    "CMYK": lambda: saved(SMOOTH.convert("CMYK"), "JPEG"),
    "Adobe's JPEG": lambda: segment(0xEE, b"Adobe\0d\0\0\0\0\0"),
    "JPEG with bytes after its end": lambda: saved(SMOOTH, "JPEG") + b"more",
    "PNG with bytes after its end": lambda: saved(NOISE) + b"more",
    "bitmap": lambda: saved(NOISE, "BMP"),
}


def by_pillow(data: bytes, channels: int | None, size: tuple[int, int] | None = None) -> np.ndarray:
    """What a picture without transparency, 16 bits or EXIF is to Pillow."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.convert("L") if channels == 1 else picture)
    if channels is None and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return pixels.reshape(*pixels.shape[:2], -1)


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    assert one.dtype == other.dtype == np.uint8
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("size", [None, (20, 31), (50, 60)])
@pytest.mark.parametrize("channels", [1, 3, None])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_file_is_read_as_by_pillow(
    tmp_path: Path, kind: str, channels: int | None, size: tuple[int, int] | None
) -> None:
    data = PLAIN[kind]()
    (tmp_path / "one").write_bytes(data)
    plain = plain_picture(data, REQUEST_FORMATS)
    assert plain is not None
    assert plain == plain_picture(tmp_path / "one", REQUEST_FORMATS)
    assert plain_pixels(plain, gray=True) is not None
    pixels = decode_picture(data, channels=channels, size=size)
    luminance = channels == 1 and plain.channels == 3 and plain.kind == "JPEG"
    assert furthest(pixels, by_pillow(data, channels, size)) <= (MOST_OFF_IN_GRAY if luminance else 0)
    np.testing.assert_array_equal(decode_picture(tmp_path / "one", channels=channels, size=size), pixels)


def test_gray_from_a_jpeg_is_further_off_only_at_pure_colours() -> None:
    pure = Image.fromarray(np.eye(3, dtype=np.uint8)[None] * 255).resize((60, 20), Image.Resampling.NEAREST)
    data = saved(pure, "JPEG", quality=30)
    assert MOST_OFF_IN_GRAY < furthest(decode_picture(data, channels=1), by_pillow(data, 1)) <= MOST_OFF_AT_PURE_COLOURS
    assert furthest(decode_picture(data, channels=3), by_pillow(data, 3)) == 0


@pytest.mark.parametrize("kind", OTHER)
def test_any_other_file_is_left_to_pillow(tmp_path: Path, kind: str) -> None:
    data = OTHER[kind]()
    (tmp_path / "one").write_bytes(data)
    assert plain_picture(data, (*REQUEST_FORMATS, "BMP")) is None
    assert plain_picture(tmp_path / "one", (*REQUEST_FORMATS, "BMP")) is None
    if "by text" not in kind:  # Pillow takes the text for the thing itself, and finds it broken
        assert decode_picture(data, channels=3).shape[2] == 3


def test_interlaced_pixels_come_in_their_order() -> None:
    assert decode_picture(interlaced()).ravel().tolist() == [10, 20, 30, 40, 50, 60, 70, 80]


def test_luma_is_pillows_for_every_colour() -> None:
    colours = np.stack(np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 3), -1).reshape(4096, 4096, 3)
    np.testing.assert_array_equal(luma(colours), np.asarray(Image.fromarray(colours).convert("L")))


def test_a_file_that_is_no_file_or_no_format_asked_for_is_not_plain(tmp_path: Path) -> None:
    data = saved(NOISE)
    assert plain_picture(data, ("JPEG",)) is None
    assert plain_picture(saved(SMOOTH, "JPEG"), ("PNG",)) is None
    with pytest.raises(InvalidInput, match="expected JPEG"):
        decode_picture(data, formats=("JPEG",))
    assert plain_picture(tmp_path, REQUEST_FORMATS) is None
    with pytest.raises(InvalidInput, match="FileNotFoundError"):
        decode_picture(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_size_is_refused_before_pixels_are_decoded(kind: str) -> None:
    data = saved(SMOOTH, kind)
    asked = []

    def refuse(height: int, width: int) -> None:
        asked.append((height, width))
        raise TooLarge("no")

    broken = with_broken_pixels(data)
    for one in (data, broken):
        with pytest.raises(TooLarge, match="no"):
            decode_picture(one, check_size=refuse)
        with pytest.raises(TooLarge, match=f"at most 1960 pixels in a picture, got {HEIGHT} x {WIDTH}"):
            decode_picture(one, max_pixels=HEIGHT * WIDTH - 1)
    assert asked == [(HEIGHT, WIDTH)] * 2
    assert decode_picture(data, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)


def test_a_picture_of_no_size_is_refused() -> None:
    for size in ((0, 5), (5, -1)):
        with pytest.raises(InvalidInput):
            decode_picture(saved(NOISE), size=size)


def test_a_header_of_any_size_is_read_without_decoding() -> None:
    data = saved(NOISE)
    for width, height in ((0, 5), (5, 0), (2**31, 1), (70_000, 1), (2**16 - 1, 2**16 - 1)):
        huge = data[:8] + chunk(b"IHDR", pack(">2I5B", width, height, 8, 2, 0, 0, 0)) + data[33:]
        assert plain_picture(huge, REQUEST_FORMATS) is None
        with pytest.raises(StnError):
            decode_picture(huge)


def with_broken_pixels(data: bytes) -> bytes:
    """The file with other compressed pixels than it needs, though in good order."""
    if data[:2] == b"\xff\xd8":
        start = data.index(b"\xff\xda")
        return data[: start + 14] + data[-2:]
    return data[:33] + chunk(b"IDAT", zlib.compress(b"\0\1\2")) + chunk(b"IEND")


def repaired(data: bytes) -> bytes:
    """A PNG whose checksums are right again, as far as it can be followed."""
    made, at = data[:8], 8
    while at + 12 <= len(data):
        end = at + 12 + unpack_from(">I", data, at)[0]
        if end > len(data):
            break
        made += data[at : end - 4] + pack(">I", zlib.crc32(data[at + 4 : end - 4]))
        at = end
    return made + data[at:]


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """Some bytes changed or cut out, or the end lost; half of the PNG files with right checksums all the same."""
    way, changed = generator.integers(4), bytearray(data)
    for _ in range(generator.integers(1, 4)):
        if way < 2:
            changed[generator.integers(len(data))] = generator.integers(256)
    first, last = sorted(generator.integers(1, len(data), 2))
    if way == 2:
        del changed[first:last]
    if way == 3:
        changed = changed[:first] + (b"\xff\xd9" if data[:2] == b"\xff\xd8" else b"")
    return repaired(bytes(changed)) if data[:4] == b"\x89PNG" and generator.integers(2) else bytes(changed)


@pytest.mark.parametrize("kind", ["gray", "colour", "smooth", "gray JPEG", "JPEG", "progressive JPEG"])
def test_what_pillow_refuses_is_refused_and_the_rest_is_read_alike(kind: str) -> None:
    data, generator = PLAIN[kind](), np.random.default_rng(11)
    refused = 0
    for _ in range(400):
        broken = damaged(data, generator)
        plain = plain_picture(broken, REQUEST_FORMATS)
        if plain is None or plain_pixels(plain, gray=False) is None:
            continue  # Pillow has it, as before
        try:
            expected = by_pillow(broken, 3)
        except OSError:
            refused += 1
        else:
            np.testing.assert_array_equal(decode_picture(broken, channels=3), expected)
    assert refused == 0


@pytest.mark.parametrize("kind", PLAIN)
def test_a_file_without_its_end_is_refused_as_before(kind: str) -> None:
    data = PLAIN[kind]()
    for length in range(8, len(data) - 14, max(1, len(data) // 50)):
        assert plain_picture(data[:length], REQUEST_FORMATS) is None
        if length < len(data) // 2:
            with pytest.raises(InvalidInput):
                decode_picture(data[:length])


def test_flipped_pixels_of_a_png_are_never_taken_for_plain() -> None:
    data = saved(NOISE)
    for at in range(41, len(data) - 16, 7):
        assert plain_picture(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], REQUEST_FORMATS) is None


@pytest.mark.parametrize(("at_least", "shrink"), [((20, 30), 8), ((30, 30), 4), ((60, 90), 2)])
def test_a_jpeg_is_reduced_to_means_of_its_pixels(at_least: tuple[int, int], shrink: int) -> None:
    height, width = 160, 240
    for picture in (SMOOTH.resize((width, height), 3), GRAY.resize((width, height), 3)):
        data = saved(picture, "JPEG", quality=95)
        found = decode_reduced(data, at_least)
        assert found is not None
        assert found[1] == (height, width)
        whole = decode_picture(data).astype(np.float64)
        means = whole.reshape(height // shrink, shrink, width // shrink, shrink, -1).mean(axis=(1, 3))
        assert found[0].shape == means.shape
        assert np.abs(found[0] - means).max() <= 4


def test_what_cannot_be_reduced_is_left_alone() -> None:
    large = SMOOTH.resize((240, 160), 3)
    jpeg = saved(large, "JPEG")
    assert decode_reduced(jpeg, (81, 20)) is None  # half of it is too small
    assert decode_reduced(saved(large, "PNG"), (20, 20)) is None
    assert decode_reduced(saved(SMOOTH.resize((241, 161), 3), "JPEG"), (20, 20)) is None
    assert decode_reduced(jpeg[: len(jpeg) // 2], (20, 20)) is None


def test_garbage_is_not_plain() -> None:
    generator = np.random.default_rng(3)
    for start in (b"", b"\x89PNG\r\n\x1a\n", saved(NOISE)[:33], b"\xff\xd8\xff", saved(SMOOTH, "JPEG")[:20]):
        for length in range(200):
            for end in (b"", b"\xff\xd9"):
                garbage = start + generator.bytes(length) + end
                assert plain_picture(garbage, REQUEST_FORMATS) is None
                with pytest.raises(InvalidInput):
                    decode_picture(garbage)
