"""Images of any size, straightened at their own: what is sent, what comes back, and where its points lie."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import saved
from PIL import Image
from stn_client import BadTensor, Client, InvalidInput, Straightening, Unsupported
from stn_client.batches import Failed
from stn_client.calls import Calls
from stn_client.flow import Retry
from stn_client.splitting import Limits

from stn_core.fullsize import rectify_full

Call = Callable[..., Any]
SIZES = [(70, 120), (280, 280), (90, 33), (70, 120)]


@pytest.fixture(scope="module")
def photos(digits: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Digits of many sizes, in gray and in colour, ``uint8 [H, W, C]``."""
    made = [np.asarray(Image.fromarray(digits[0][k, ..., 0]).resize(size[::-1])) for k, size in enumerate(SIZES)]
    coloured = np.stack([made[1], made[1] // 2, made[1] // 3], axis=-1)
    return [made[0][..., None], coloured, made[2][..., None], made[3][..., None]]


@pytest.fixture(scope="module")
def files(photos: list[np.ndarray]) -> list[bytes]:
    return [saved(Image.fromarray(photo.squeeze())) for photo in photos]


def requests_of(images: object, **options: Any) -> list[Any]:
    """The requests that ``straighten`` would send."""
    calls = Calls(Retry())
    call = calls.straighten(images, **options)
    limits = Limits(max_images=100)
    sent = []
    for formed in call.source.batches(call.room(limits), call.alongside):
        if isinstance(formed, Failed):
            raise formed.error
        sent.append((formed.inputs["images"], call.parameters, call.outputs))
    return sent


def test_files_of_mixed_sizes_are_one_request(files: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(files[1])
    (sent,) = requests_of([files[0], tmp_path / "one.png", Image.new("RGBA", (9, 5)), Image.new("L", (8, 8))])
    assert (sent[0].dtype, sent[0].shape) == (object, (4,))
    assert sent[1] == {"canvas": "crop"}
    assert "mask" not in sent[2]
    assert "mask" in requests_of(files, mask=True)[0][2]


def test_pixels_go_as_pixels_but_where_each_comes_out_at_its_own_size(photos: list[np.ndarray]) -> None:
    assert [sent[0].shape for sent in requests_of(photos)] == [(1, *photo.shape) for photo in photos]
    sized = requests_of(photos, canvas="fit", size=(50, np.int64(60)))
    assert len(sized) == 4
    assert sized[0][1] == {"canvas": "fit", "height": 50, "width": 60}
    for options in ({"canvas": "fit"}, {"max_side_px": 40}):
        ((sent, _, _),) = requests_of([*photos, Image.fromarray(photos[1])], **options)
        assert sent.dtype == object
        ((whole, _, _),) = requests_of(np.stack([photos[0], photos[3]])[..., 0], **options)
        assert (whole.dtype, len(whole)) == (object, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"canvas": "round"}, InvalidInput, "canvas: expected 'crop' or 'fit', got 'round'"),
        ({"size": (0, 5)}, InvalidInput, r"size: expected \(height, width\), each a whole number of px from 1, got 0"),
        ({"size": 5}, InvalidInput, r"size: expected \(height, width\)"),
        ({"max_side_px": 1.5}, InvalidInput, "max_side_px: expected a whole number of px from 1, got 1.5"),
        ({"size": (5, 5), "max_side_px": 5}, InvalidInput, "leave one out"),
        ({"mask": "yes"}, InvalidInput, "mask: expected True or False, got 'yes'"),
        ({"canvass": "fit"}, TypeError, "expected options of batch_images, canvas, .*max_turn_deg.* got 'canvass'"),
    ],
)
def test_an_option_that_makes_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Calls(Retry()).straighten([b"a picture"], **options)


def test_floats_do_not_become_bytes_unasked() -> None:
    with pytest.raises(BadTensor, match="give the size, .* or send uint8"):
        requests_of(np.zeros((2, 8, 9), np.float32), canvas="fit")
    assert requests_of(np.zeros((2, 8, 9), np.float32), canvas="fit", size=(8, 8))[0][0].dtype == np.float32


def straightening(encoded: list[Any], **fields: Any) -> Straightening:
    rows = np.empty(len(encoded), object)
    rows[:] = encoded
    count = len(encoded)
    sizes = np.full((count, 2), 4)
    theta = np.tile(np.eye(2, 3), (count, 1, 1))
    index = range(count)
    return Straightening(
        rows, None, np.zeros(count, int), np.zeros((count, 2)), theta, sizes, sizes, index=index, **fields
    )


def test_files_are_decoded_when_they_are_looked_at() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    colour, gray = saved(Image.fromarray(pixels)), saved(Image.fromarray(pixels[..., 0]))
    result = straightening([colour, gray, b"no picture"])
    assert np.array_equal(result[0].images, pixels)
    assert np.array_equal(result[1].images, pixels[..., :1])
    assert result[1].encoded == gray
    assert result[0].mask is None
    assert "images" in dir(result[0])
    assert [image.shape for image in result[:2].images] == [(2, 4, 3), (2, 4, 1)]
    assert np.array_equal(straightening([colour, colour]).images, [pixels, pixels])
    missing = np.zeros((0, 0), np.uint8)
    assert np.array_equal(straightening([missing, colour]).images, [np.zeros_like(pixels), pixels])


PROGRAM = """
import sys
sys.modules["PIL"] = None
import numpy as np
from stn_client import Client, StnError, Straightening

rows, zeros = np.array([b"a file"], object), np.zeros((1, 2), int)
result = Straightening(rows, rows, zeros[:, 0], zeros, np.zeros((1, 2, 3)), zeros, zeros, index=range(1))
print(result[0].encoded)
for look in (lambda: result.images, lambda: result[0].mask,
             lambda: Client("http://127.0.0.1:9")._calls.straighten(zeros[None, None].astype("u1"), canvas="fit")
             .source.images):
    try:
        look()
    except StnError as error:
        print(error)
"""


def test_without_pillow_there_are_the_files() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    file, image, mask = done.stdout.splitlines()
    assert file == "b'a file'"
    assert image == mask == (
        "to read the images that came as PNG files needs Pillow, which is not installed: pip install pillow"
    )  # fmt: skip


# --- against the real service ----------------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("canvas", ["crop", "fit"])
def test_photos_come_back_as_the_library_makes_them(
    service_url: str, call: Call, engine: Any, photos: list[np.ndarray], files: list[bytes], canvas: Any
) -> None:
    of_files = rectify_full(engine, photos, canvas, with_mask=True)
    of_arrays = [rectify_full(engine, photo, size=photo.shape[:2], with_mask=True)[0] for photo in photos]
    pictures = [Image.fromarray(photo.squeeze()) for photo in photos]
    for images, expected in (
        (files, of_files),
        (pictures, of_files),
        (photos, of_files if canvas == "fit" else of_arrays),  # an array keeps its size, if it can
    ):
        found = call(service_url, "straighten", images, given={"canvas": canvas, "mask": True})
        for k, (row, one) in enumerate(zip(found, expected, strict=True)):
            assert np.array_equal(row.images.squeeze(), one.image.squeeze())
            assert row.mask.dtype == bool
            assert np.array_equal(row.mask, one.mask)
            assert row.rectified_size.tolist() == list(one.image.shape[:2])
            assert row.source_size.tolist() == list(SIZES[k])
            assert row.to_pil().size == one.image.shape[1::-1]
        assert np.allclose(found.theta, [one.theta for one in expected], atol=1e-5)
        assert found.images.dtype == object
        assert found.decision is None
        assert found.label.shape == (4,)
    assert call(service_url, "straighten", files, given={"canvas": canvas}).mask is None


@pytest.mark.service
def test_images_of_one_size_come_as_one_array(service_url: str, call: Call, files: list[bytes]) -> None:
    found = call(service_url, "straighten", files[2:], given={"size": (60, 40), "mask": True})
    assert (found.images.dtype, found.images.shape) == (np.uint8, (2, 60, 40, 1))
    assert found.mask.shape == (2, 60, 40)
    assert found.rectified_size.tolist() == [[60, 40], [60, 40]]
    floats = np.random.default_rng(0).random((3, 50, 60), np.float32)
    rows = call(service_url, "straighten", floats, given={"mask": True})
    assert (rows.images.dtype, rows.images.shape) == (np.float32, (3, 50, 60))
    assert rows.mask.shape == (3, 50, 60)


@pytest.mark.service
def test_a_broken_file_harms_no_other(service_url: str, call: Call, files: list[bytes]) -> None:
    given = {"errors": "keep", "mask": True, "max_side_px": 50}
    found = call(service_url, "straighten", [files[0], b"broken", files[1]], given=given)
    assert list(found.errors) == [1]
    assert found[1].to_pil() is None
    assert max(found[2].images.shape[:2]) == 50
    assert found.source_size.tolist() == [[70, 120], [-1, -1], [280, 280]]
    table = found.to_pandas()
    assert not {"encoded", "images", "mask", "encoded_0"} & set(table.columns)
    assert table.rectified_size_0.tolist()[0] <= 50
    mapped = found.to_source(np.zeros((3, 1, 2)))
    assert np.isnan(mapped.points_px[1]).all()
    assert np.isfinite(mapped.points_px[[0, 2]]).all()
    with pytest.raises(BadTensor):
        call(service_url, "straighten", [files[0], b"broken"])


@pytest.mark.service
def test_a_stream_of_photos(service_url: str, call: Call, files: list[bytes]) -> None:
    parts = call(service_url, "stream.straighten", iter(files * 3), given={"batch_images": 5})
    assert [len(part) for part in parts] == [5, 5, 2]
    whole = call(service_url, "straighten", files)
    assert all(np.array_equal(row.images, whole.images[row.index % 4]) for part in parts for row in part)


@pytest.mark.service
def test_what_is_larger_coming_out_is_asked_for_in_parts(service_url: str, files: list[bytes]) -> None:
    """The service makes at most 64 MiB for an answer, which 12 images of 3000 x 2000 px are more than."""
    with Client(service_url) as client:
        assert client.metadata()["limits"]["max_decoded_bytes"] < 12 * 3000 * 2000
        found = client.straighten([files[0]] * 12, size=(3000, 2000))
    assert found.rectified_size.tolist() == [[3000, 2000]] * 12


@pytest.mark.service
def test_points_go_both_ways(service_url: str, call: Call, files: list[bytes], photos: list[np.ndarray]) -> None:
    found = call(service_url, "straighten", files, given={"canvas": "fit", "mask": True})
    corners = [np.array([[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]]) for h, w in SIZES]
    shown = found.to_rectified(corners)
    for one, row, corner in zip(shown, found, corners, strict=True):
        assert one.inside.all()  # fit cuts nothing off
        rows, columns = np.nonzero(row.mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.allclose([*one.points_px.min(axis=0), *one.points_px.max(axis=0)], box, atol=1.5)
        assert np.allclose(row.to_rectified(corner).points_px, one.points_px)
    back = found.to_source(np.stack([one.points_px for one in shown]))
    assert np.allclose(back.points_px, corners)
    off = found[0].to_rectified([[-30.0, 5.0]])
    assert not found[0].to_source(off.points_px).inside.any()
    with pytest.raises(BadTensor, match=r"expected \[4, ..., 2\]"):
        found.to_source(np.zeros((3, 5, 2)))
    with pytest.raises(BadTensor, match="expected 4 arrays, one for each image, got 3"):
        found.to_source(corners[:3])
    with pytest.raises(Unsupported, match="a Classification has no theta"):
        call(service_url, "classify", np.zeros((1, 28, 28), np.uint8))[0].to_source([[1.0, 2.0]])


def test_without_pictures_none_is_asked_for(files: list[bytes]) -> None:
    ((_, _, outputs),) = requests_of(files, pictures=False)
    assert outputs == ["label", "probabilities", "theta", "rectified_size", "source_size"]
    ((_, _, decided),) = requests_of(files, pictures=False, max_turn_deg=45)
    assert decided == [*outputs, "decision", "reason"]
    ((_, parameters, sure),) = requests_of(files, pictures=False, min_confidence=0.5)
    assert (parameters["min_confidence"], sure) == (0.5, [*decided, "confidence"])
    with pytest.raises(InvalidInput, match="pictures: expected True or False"):
        requests_of(files, pictures=None)


def test_a_result_without_pictures_has_the_rest() -> None:
    result = replace(straightening([b"", b""]), encoded=None)
    assert (len(result), result.images, result[1].images, result[:1].images) == (2, None, None, None)
    with pytest.raises(Unsupported, match="pictures=False"):
        result.to_pil()


@pytest.mark.service
def test_files_and_arrays_in_one_call(
    service_url: str, call: Call, files: list[bytes], photos: list[np.ndarray]
) -> None:
    mixed = [files[0], photos[2], photos[2][..., 0], files[1]]
    found = call(service_url, "straighten", mixed, given={"mask": True, "min_confidence": 0.0})
    assert [type(row.encoded) for row in found] == [bytes, np.ndarray, np.ndarray, bytes]
    assert [row.images.ndim for row in found] == [3, 3, 2, 3]
    assert [row.mask.shape for row in found] == [row.images.shape[:2] for row in found]
    assert np.array_equal(found[1].images[..., 0], found[2].images)
    assert found.theta.shape == (4, 2, 3)
    assert (found.decision != "").all()


@pytest.mark.service
def test_nothing_but_errors(service_url: str, call: Call) -> None:
    found = call(service_url, "straighten", [b"broken", b"too"], given={"errors": "keep", "mask": True})
    assert list(found.errors) == [0, 1]
    assert found.to_pil() == [None, None]
    assert len(found.images) == len(found.mask) == 2
    assert not found.to_source([np.ones((3, 2)), np.ones((1, 2))])[0].inside.any()
