"""Raw binary requests: one image, no JSON; what its bytes are taken for, and who cannot take them."""

from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import infer
from http_calls import encoded, outputs, problem

from services.protocol import ModelSpec, TensorSpec, model_specs
from services.raw import raw_request
from stn_core.bundle import read_manifest
from stn_core.errors import BadTensor
from stn_core.wire import HEADER_LENGTH

PREDICT = model_specs(read_manifest("digits"))["predict"]


async def raw(http: httpx.AsyncClient, model: str, body: bytes, **headers: str) -> httpx.Response:
    return await http.post(f"/v2/models/{model}/infer", content=body, headers={HEADER_LENGTH: "0", **headers})


@pytest.mark.parametrize("model", ["predict", "rectify", "classify"])
@pytest.mark.parametrize("kind", ["uint8", "float32", "PNG"])
async def test_one_image_gives_all_outputs_as_binary(
    http: httpx.AsyncClient, images: np.ndarray, model: str, kind: str
) -> None:
    pixels = images[:1] if kind in ("uint8", "PNG") else (images[:1] / 255).astype(np.float32)
    answer = await raw(http, model, encoded(pixels[0]) if kind == "PNG" else pixels.tobytes())
    assert answer.headers["content-type"] == "application/octet-stream"
    told, expected = outputs(answer), outputs(await infer(http, model, {"images": pixels}))
    assert list(told.outputs) == list(expected.outputs)
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(told.outputs[name], array, strict=True)


async def test_a_jpeg_and_a_compressed_body(http: httpx.AsyncClient, images: np.ndarray) -> None:
    import zlib

    assert outputs(await raw(http, "predict", encoded(images[0], "JPEG"))).outputs["label"].shape == (1,)
    packed = zlib.compress(images[:1].tobytes())
    told = outputs(await raw(http, "predict", packed, **{"content-encoding": "deflate"}))
    expected = outputs(await infer(http, "predict", {"images": images[:1]}))
    np.testing.assert_array_equal(told.outputs["rectified"], expected.outputs["rectified"])


@pytest.mark.parametrize("size", [0, 1, 783, 785, 3135, 1568])
async def test_other_sizes_are_neither(http: httpx.AsyncClient, size: int) -> None:
    detail = problem(await raw(http, "predict", b"\1" * size), 400, "bad-tensor")
    assert f"784 bytes (UINT8 [28, 28, 1]), 3136 bytes (FP32), or a PNG or JPEG file, got {size} bytes" in detail


async def test_what_is_checked_of_other_requests_is_checked_of_raw_ones(http: httpx.AsyncClient) -> None:
    bright = np.full(784, 255, np.float32).tobytes()
    assert "divide by 255" in problem(await raw(http, "predict", bright), 400, "bad-tensor")
    small = encoded(np.zeros((20, 20, 1), np.uint8))
    assert "got [N, 20, 20, 1]" in problem(await raw(http, "predict", small), 400, "bad-tensor")
    assert "neither or broken" in problem(await raw(http, "predict", small[:30]), 400, "bad-tensor")
    problem(await raw(http, "predict", b"\1" * 100_001), 413, "too-large")


@pytest.mark.parametrize(("model", "needs"), [("warp", "images, theta"), ("augment", "images, recipe, seed")])
async def test_models_that_need_more_say_what(http: httpx.AsyncClient, model: str, needs: str) -> None:
    detail = problem(await raw(http, model, b"\1" * 784), 400, "bad-tensor")
    assert f"model {model} needs {needs}, which a raw body without JSON cannot carry" in detail


def taken_for(body: bytes, spec: ModelSpec = PREDICT) -> str:
    return str(raw_request(body, spec).inputs["images"].dtype)


@pytest.mark.parametrize(
    ("body", "dtype"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(776), "object"),  # as long as an image is
        (b"\xff\xd8\xff" + bytes(779) + b"\xff\xd9", "object"),
        (b"\xff\xd8\xff" + bytes(781), "uint8"),  # pixels that begin like a JPEG, and do not end like one
        (b"\xff\xd8\xff" + bytes(3133), "float32"),
        (b"\xff\xd8\xff" + bytes(500), "object"),
        (bytes(784), "uint8"),
    ],
)
def test_a_picture_is_known_by_its_first_bytes_even_at_the_size_of_an_image(body: bytes, dtype: str) -> None:
    assert taken_for(body) == dtype


def test_a_model_for_any_size_takes_pictures_alone(images: Any) -> None:
    free = ModelSpec("m", "1", (TensorSpec("images", (-1, -1, -1, 1), ("UINT8",)),), (), (), {})
    assert taken_for(encoded(images[0]), free) == "object"
    with pytest.raises(BadTensor, match="images: expected as a raw body a PNG or JPEG file, got 784 bytes"):
        raw_request(bytes(784), free)
