"""Compressed answers: for whom, of what, and that they hold the same."""

import gzip
import zlib

import httpx
import numpy as np
import pytest
from gateway_in_process import IDENTITY
from http_calls import binary, outputs

from services.compression import asked_coding, compressed
from stn_core.wire import HEADER_LENGTH, decode_response


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        (" GZIP ; q=0.5 ", "gzip"),
        ("gzip, identity;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("deflate;q=0, gzip", "gzip"),
        ("identity", None),
        ("*", None),
        ("", None),
        ("br", None),
        ("gzip;q=x", None),
        ("gzip, deflate", None),  # what HTTP libraries say by habit
        ("gzip, deflate, br, zstd", None),
        ("deflate, gzip;q=1.0, *;q=0.5", None),
        ("gzip;q=0.5, deflate, identity;q=0", "deflate"),
        ("gzip, br, *;q=0", "gzip"),
        ("br, identity;q=0", None),
        ("gzip," + "x" * 300, None),
    ],
)
def test_who_asks(accepted: str, coding: str | None) -> None:
    assert asked_coding(accepted) == coding


@pytest.mark.parametrize("size", [2_000, 1_000_000])
@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
async def test_what_comes_out_goes_in_again(size: int, coding: str, unpack: object) -> None:
    body = bytes(np.random.default_rng(0).integers(0, 4, size, np.uint8))
    packed = await compressed(body, coding)
    assert packed is not None
    assert len(packed) < size / 2
    assert unpack(packed) == body  # type: ignore[operator]


async def test_what_would_gain_nothing_stays_as_it_is() -> None:
    noise = bytes(np.random.default_rng(0).integers(0, 256, 5_000, np.uint8))
    assert await compressed(noise, "gzip") is None
    assert await compressed(bytes(1_000), "gzip") is None


@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_the_length_of_the_json_counts_before_compression(
    http: httpx.AsyncClient, images: np.ndarray, coding: str, bits: int
) -> None:
    message = binary({"images": images, "theta": IDENTITY})
    plain = await http.post("/v2/models/warp/infer", **message)
    message["headers"]["accept-encoding"] = coding
    async with http.stream("POST", "/v2/models/warp/infer", **message) as answer:
        packed = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == coding
    assert int(answer.headers["content-length"]) == len(packed) < len(plain.content)
    body = zlib.decompress(packed, bits)
    assert body == plain.content
    told = decode_response(body, int(answer.headers[HEADER_LENGTH]))
    np.testing.assert_array_equal(told.outputs["images"], images)


async def test_json_is_compressed_too_and_habit_is_not_asking(http: httpx.AsyncClient, images: np.ndarray) -> None:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [3, 28, 28, 1], "data": images.reshape(-1).tolist()}
    request = {"inputs": [tensor]}
    habit = await http.post("/v2/models/rectify/infer", json=request)
    assert "gzip, deflate" in habit.request.headers["accept-encoding"]
    assert "content-encoding" not in habit.headers
    asked = await http.post("/v2/models/rectify/infer", json=request, headers={"accept-encoding": "gzip"})
    assert asked.headers["content-encoding"] == "gzip"
    assert asked.content == habit.content
    assert outputs(asked).outputs["rectified"].shape == (3, 28, 28, 1)
