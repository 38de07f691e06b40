"""The model ``straighten``: images of any size, over HTTP in process."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, infer, make_links, make_settings
from http_calls import bytes_tensor, encoded, outputs, problem
from PIL import Image

from stn_core.fullsize import rectify_full
from stn_core.geometry import invert
from stn_core.transforms import corner_errors_px

MIB = 1024 * 1024


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(
        max_request_bytes=4 * MIB, max_decoded_bytes=16 * MIB, max_pixels_per_image=MIB, max_bytes_in_flight=32 * MIB
    )
    async with client_of(make_links(engine, settings), settings) as client:
        yield client


def enlarged(digit: np.ndarray, times: int, channels: int = 1) -> np.ndarray:
    return digit.repeat(times, 0).repeat(times, 1).repeat(channels, 2)


def pixels_of(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.fixture
def photos(images: np.ndarray) -> list[np.ndarray]:
    coloured = enlarged(images[1], 5, 3)
    coloured[..., 0] //= 2
    return [enlarged(images[0], 10), coloured, enlarged(images[2], 3)[:, :70]]


@pytest.mark.parametrize("canvas", ["crop", "fit"])
async def test_files_of_mixed_sizes_come_back_at_their_own(
    http: httpx.AsyncClient, engine: Any, photos: list[np.ndarray], canvas: Any
) -> None:
    files = bytes_tensor([encoded(photo) for photo in photos])
    found = outputs(await infer(http, "straighten", {"images": files}, parameters={"canvas": canvas})).outputs
    expected = rectify_full(engine, photos, canvas, with_mask=True)
    for k, one in enumerate(expected):
        assert one.mask is not None
        np.testing.assert_array_equal(pixels_of(found["images"][k]), one.image)
        np.testing.assert_array_equal(pixels_of(found["mask"][k])[..., 0] == 255, one.mask)
        assert found["rectified_size"][k].tolist() == list(one.image.shape[:2])
        assert found["source_size"][k].tolist() == list(photos[k].shape[:2])
    np.testing.assert_allclose(found["theta"], np.stack([one.theta for one in expected]), atol=1e-6)
    assert found["label"].shape == (3,)
    assert found["probabilities"].shape == (3, 10)


async def test_an_array_comes_back_as_one(http: httpx.AsyncClient, engine: Any, images: np.ndarray) -> None:
    large = np.stack([enlarged(image, 4, 3) for image in images])
    for pixels in (large, (large / 255).astype(np.float32)):
        found = outputs(await infer(http, "straighten", {"images": pixels})).outputs
        expected = rectify_full(engine, pixels, size=(112, 112))
        assert (found["images"].dtype, found["images"].shape) == (pixels.dtype, (3, 112, 112, 3))
        np.testing.assert_allclose(found["images"], np.stack([one.image for one in expected]), atol=1e-6)
        assert (found["mask"].dtype, found["mask"].shape) == (np.uint8, (3, 112, 112, 1))
    sized = await infer(http, "straighten", {"images": large}, parameters={"canvas": "fit", "height": 50, "width": 80})
    assert outputs(sized).outputs["images"].shape == (3, 50, 80, 3)


async def test_images_of_the_networks_size_come_as_from_predict(http: httpx.AsyncClient, images: np.ndarray) -> None:
    predicted = outputs(await infer(http, "predict", {"images": images})).outputs
    found = outputs(await infer(http, "straighten", {"images": images})).outputs
    for name, other in {"label": "label", "probabilities": "probabilities", "images": "rectified"}.items():
        np.testing.assert_allclose(found[name], predicted[other], atol=1e-6)


async def test_what_comes_back_can_be_mapped(http: httpx.AsyncClient, photos: list[np.ndarray]) -> None:
    """The corners of the mask's content are the source's corners."""
    files = bytes_tensor([encoded(photos[0])])
    found = outputs(await infer(http, "straighten", {"images": files}, parameters={"canvas": "fit"})).outputs
    corners = np.array([[[0.0, 0.0], [280.0, 0.0], [280.0, 280.0], [0.0, 280.0]]])
    inputs = {"points": corners, **{name: found[name] for name in ("theta", "rectified_size", "source_size")}}
    mapped = outputs(await infer(http, "map", inputs, parameters={"direction": "to_rectified"})).outputs
    assert mapped["inside"].all()
    rows, columns = np.nonzero(pixels_of(found["mask"][0])[..., 0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose([*mapped["points"][0].min(axis=0), *mapped["points"][0].max(axis=0)], box, atol=1.5)


async def test_no_pixel_is_made_that_nobody_asks_for(http: httpx.AsyncClient, photos: list[np.ndarray]) -> None:
    files = bytes_tensor([encoded(photo) for photo in photos])
    found = outputs(await infer(http, "straighten", {"images": files}, outputs=["theta", "label"])).outputs
    assert list(found) == ["theta", "label"]


async def test_files_in_json_are_base64_text(http: httpx.AsyncClient, photos: list[np.ndarray]) -> None:
    text = base64.b64encode(encoded(photos[2])).decode()
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}
    body = {"inputs": [{**tensor, "parameters": {"content_type": "base64"}}], "outputs": [{"name": "images"}]}
    (answer,) = (await http.post("/v2/models/straighten/infer", json=body)).json()["outputs"]
    assert answer["parameters"] == {"content_type": "base64"}
    assert pixels_of(base64.b64decode(answer["data"][0])).shape[2] == 1


@pytest.mark.parametrize(
    ("parameters", "status", "code", "expected"),
    [
        ({"canvas": "round"}, 400, "invalid-input", "canvas: expected one of crop, fit"),
        ({"height": 10}, 400, "bad-tensor", "give both, or neither"),
        ({"height": 0, "width": 10}, 400, "bad-tensor", "height: expected a whole number of px from 1"),
        ({"max_side_px": "9"}, 400, "bad-tensor", "max_side_px: expected a whole number"),
        ({"height": 10, "width": 10, "max_side_px": 5}, 400, "invalid-input", "leave one out"),
        ({"height": 2000, "width": 2000}, 413, "too-large", "at most"),
    ],
)
async def test_bad_parameters(
    http: httpx.AsyncClient, photos: list[np.ndarray], parameters: dict[str, Any], status: int, code: str, expected: str
) -> None:
    files = bytes_tensor([encoded(photos[0])])
    answer = await infer(http, "straighten", {"images": files}, parameters=parameters)
    assert expected in problem(answer, status, code)


async def test_bad_images(http: httpx.AsyncClient, images: np.ndarray) -> None:
    fit = await infer(http, "straighten", {"images": images}, parameters={"canvas": "fit"})
    assert "send the images as BYTES" in problem(fit, 400, "bad-tensor")
    broken = await infer(http, "straighten", {"images": bytes_tensor([b"nothing"])})
    assert "expected a file in PNG" in problem(broken, 400, "bad-tensor")
    two = await infer(http, "straighten", {"images": np.zeros((1, 30, 30, 2), np.uint8)})
    assert "expected 1 channels" in problem(two, 400, "bad-tensor")
    none = await infer(http, "straighten", {"images": bytes_tensor([])})
    assert "expected BYTES [N]" in problem(none, 400, "bad-tensor")
    bomb = encoded(np.zeros((1200, 1200, 1), np.uint8))
    assert "at most 1048576 pixels" in problem(
        await infer(http, "straighten", {"images": bytes_tensor([bomb])}), 413, "too-large"
    )


async def test_by_curl_a_photo_comes_back_straight(
    http: httpx.AsyncClient, engine: Any, photos: list[np.ndarray]
) -> None:
    files = [("image", ("a.png", encoded(photos[1])))]
    answer = await http.post("/v1/straighten", files=files, data={"canvas": "fit"}, headers={"accept": "image/png"})
    (expected,) = rectify_full(engine, photos[1], "fit")
    np.testing.assert_array_equal(pixels_of(answer.content), expected.image)
    assert "stn-theta" in answer.headers
    together = [*files, ("image", ("b.jpg", encoded(photos[0], "JPEG"))), ("image", ("c.png", b"nothing"))]
    results = (await http.post("/v1/straighten", files=together)).json()["results"]
    assert ["error" in result for result in results] == [False, False, True]
    assert pixels_of(base64.b64decode(results[0]["mask"])).shape[2] == 1
    assert results[0]["source_size"] == [140, 140]


async def test_a_jpeg_whose_pixels_are_not_asked_for_is_decoded_in_part_and_answered_alike(
    http: httpx.AsyncClient, images: np.ndarray
) -> None:
    gray = [np.asarray(Image.fromarray(image[..., 0]).resize((960, 800), Image.Resampling.BICUBIC)) for image in images]
    coloured = np.stack([gray[0], gray[0] // 2, gray[0] // 3], axis=-1)
    files = bytes_tensor([encoded(pixels, "JPEG") for pixels in (*(one[..., None] for one in gray), coloured)])
    whole = outputs(await infer(http, "straighten", {"images": files})).outputs
    wanted = ("theta", "label", "probabilities", "source_size", "rectified_size")
    found = outputs(await infer(http, "straighten", {"images": files}, outputs=wanted)).outputs
    assert set(found) == set(wanted)
    np.testing.assert_array_equal(found["label"], whole["label"])
    np.testing.assert_allclose(found["rectified_size"], whole["rectified_size"], atol=2)
    assert found["source_size"].tolist() == whole["source_size"].tolist() == [[800, 960]] * len(files)
    assert corner_errors_px(invert(whole["theta"]), found["theta"], (28, 28)).max() < 0.1
    np.testing.assert_allclose(found["probabilities"], whole["probabilities"], atol=0.01)
