"""The routes for files: what is refused and why, and that a bad or late file leaves the others alone."""

import asyncio
import base64
import logging
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from files_in_process import DIGITS, FILES, ROOMY, as_files, gateway
from gateway_in_process import LIMITS, make_links, make_settings
from http_calls import encoded, problem

from services.settings import Settings
from stn_core.errors import Overloaded, Unavailable

SMALL = encoded(np.zeros((20, 20, 1), np.uint8))


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(engine) as client:
        yield client


async def test_images_of_another_size_are_errors_of_their_own(http: httpx.AsyncClient) -> None:
    for model in ("predict", "rectify", "classify"):
        answer = await http.post(f"/v1/{model}", **as_files([FILES[0], SMALL, FILES[1]]))
        first, other, last = answer.json()["results"]
        assert "error" not in first
        assert "error" not in last
        assert "expected [N, 28, 28, 1], got [N, 20, 20, 1]" in other["error"]["detail"]


async def test_where_nothing_went_well_the_first_error_is_the_answer(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/predict", **as_files([b"", SMALL]))
    assert problem(answer, 400, "bad-tensor") == answer.json()["results"][0]["error"]["detail"]
    document = answer.json()
    assert (document["model"], document["version"]) == ("predict", "1")
    assert [entry["name"] for entry in document["results"]] == ["0.png", "1.png"]
    assert "20, 20" in document["results"][1]["error"]["detail"]
    bare = await http.post("/v1/predict", content=b"x", headers={"content-type": "image/png"})
    assert "1 bytes that are none of them" in problem(bare, 400, "bad-tensor")
    as_image = await http.post("/v1/rectify", headers={"accept": "image/png"}, **as_files([SMALL]))
    assert "20, 20" in problem(as_image, 400, "bad-tensor")


@pytest.mark.parametrize(
    ("model", "query", "data", "code", "expected"),
    [
        ("predict", "colour=1", {}, "bad-body", "images for predict, got 'colour'"),
        ("classify", "images=true", {}, "bad-body", "expected none for classify, got 'images'"),
        ("augment", "", {"x" * 3000: "1"}, "bad-body", "some of recipe, seed, images, copies, annotations for"),
        ("predict", "", {"image": "a.png"}, "bad-body", "got 'image'; with curl a file goes by its name after an @"),
        ("predict", "", {"images": "a.png"}, "bad-body", "images: expected true or false, got 'a.png'; with curl"),
        ("predict", "images=1", {}, "bad-body", "images: expected true or false, got 1"),
        ("augment", "seed=1", {"seed": "1"}, "bad-body", "parameters.seed: expected once, got it twice"),
        ("augment", "", {}, "bad-recipe", "parameters.recipe"),
        ("augment", "recipe=no-such", {}, "bad-recipe", "tutorial-mix"),
        ("augment", "recipe=/etc/hostname", {}, "bad-recipe", "tutorial-mix"),
        ("augment", "", {"recipe": "{broken"}, "bad-recipe", "JSON"),
        ("augment", "recipe=rotation&seed=x", {}, "bad-tensor", "parameters.seed: expected a whole number"),
        ("augment", "recipe=rotation&seed=1.5", {}, "bad-tensor", "got 1.5"),
        ("augment", "recipe=rotation&seed=-1", {}, "bad-tensor", "got -1"),
        (
            "augment",
            "recipe=rotation&copies=0",
            {},
            "bad-tensor",
            "copies: expected a whole number from 1 to 70, got 0",
        ),
        ("augment", "recipe=rotation&copies=true", {}, "bad-tensor", "got True"),
        ("augment", "recipe=rotation&copies=71", {}, "bad-tensor", "got 71"),
        ("augment", "recipe=rotation&copies=36", {}, "too-large", "got 2 files with 36 copies each"),
    ],
)
async def test_bad_parameters(
    http: httpx.AsyncClient, model: str, query: str, data: dict[str, str], code: str, expected: str
) -> None:
    answer = await http.post(f"/v1/{model}?{query}", data=data, **as_files(FILES[:2]))
    detail = problem(answer, 413 if code == "too-large" else 400, code)
    assert expected in detail
    assert len(detail) < 500
    assert "results" not in answer.json()


@pytest.mark.parametrize(
    ("model", "accept", "files", "expected"),
    [
        ("predict", "image/png", 2, "one image, and this one has 2 images; send one file and ask for one copy"),
        ("augment", "image/*", 1, "has 3 images"),
        ("classify", "image/png", 1, "has no image; accept application/json"),
        ("classify", "image/png", 2, "has no image"),
        ("predict", "image/jpeg", 1, "expected application/json or image/png, got 'image/jpeg'"),
        ("predict", "text/html", 1, "expected application/json or image/png"),
        ("predict", "image/jpeg, " * 100 + "text/x", 1, "expected application/json or image/png"),
    ],
)
async def test_forms_of_answers_that_there_are_not(
    http: httpx.AsyncClient, model: str, accept: str, files: int, expected: str
) -> None:
    query = "?recipe=rotation&copies=3" if model == "augment" else ""
    answer = await http.post(f"/v1/{model}{query}", headers={"accept": accept}, **as_files(FILES[:files]))
    detail = problem(answer, 406, "not-acceptable")
    assert expected in detail
    assert len(detail) < 300


async def test_json_takes_the_place_of_a_png_that_cannot_be(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/rectify", headers={"accept": "image/png, */*;q=0.1"}, **as_files(FILES[:2]))
    assert len(answer.json()["results"]) == 2


async def test_bodies_that_are_none(http: httpx.AsyncClient) -> None:
    async def refused(content: bytes, kind: str, status: int = 400, code: str = "bad-body") -> str:
        return problem(await http.post("/v1/predict", content=content, headers={"content-type": kind}), status, code)

    multipart = "multipart/form-data; boundary=b"
    assert "at least one file" in await refused(b"--b--", multipart)
    assert "ends before" in await refused(b"--b\r\nContent-Disp", multipart)
    assert "boundary" in await refused(b"--b--", "multipart/form-data")
    assert "does not parse" in await refused(b'{"images": ', "application/json")
    assert "curl -H" in await refused(FILES[0], "application/x-www-form-urlencoded")
    assert "which is smaller" in await refused(b"x" * 90_001, "application/json", 413, "too-large")
    problem(await http.post("/v1/predict", content=b"x", headers={"content-encoding": "gzip"}), 400, "bad-body")
    problem(await http.post("/v1/predict", **as_files([b"x" * 100_001])), 413, "too-large")
    problem(await http.get("/v1/predict"), 405, "wrong-method")
    problem(await http.post("/v1/warp"), 404, "unknown-route")
    base64_beside = {"images": ["%%%", base64.b64encode(FILES[0]).decode()]}
    bad, good = (await http.post("/v1/predict", json=base64_beside)).json()["results"]
    assert "expected base64" in bad["error"]["detail"]
    assert good["label"] == 0


async def test_more_files_than_allowed(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/predict", **as_files([b"x"] * 71))
    assert "at most 70 in one request" in problem(answer, 413, "too-large")


def tiff(side_px: int, tile_px: int) -> bytes:
    """A black picture that lies in one tile, which a reader decodes whole."""
    pixels = zlib.compress(bytes(min(tile_px, 300) ** 2), 9)
    tags = {256: side_px, 257: side_px, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile_px, 323: tile_px, 325: len(pixels)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


async def test_small_files_with_huge_pictures_are_refused_unopened(http: httpx.AsyncClient) -> None:
    bombs = [
        encoded(np.zeros((300, 300, 1), np.uint8)),
        encoded(np.zeros((300, 300, 1), np.uint8), "WEBP"),
        encoded(np.zeros((1, 16_385, 1), np.uint8)),
        tiff(40_000, 40_000),
        tiff(28, 300),
    ]
    answer = await http.post("/v1/augment?recipe=rotation", **as_files([*bombs, FILES[0], tiff(28, 64)]))
    *refused, good, tiled = answer.json()["results"]
    assert [entry["error"]["status"] for entry in refused] == [413] * 5
    assert [entry["error"]["type"] for entry in refused] == ["urn:stn:error:too-large"] * 5
    assert len(good["copies"]) == len(tiled["copies"]) == 1
    for entry, said in zip(
        refused, ["10000 pixels", "10000 pixels", "16384 px", "exceeds limit", "10000"], strict=True
    ):
        assert said in entry["error"]["detail"]


WIDE = '{"name": "wide", "canvas": {"height_px": 160, "width_px": 180}, "steps": [{"op": "flip_vertical"}]}'


@pytest.mark.parametrize(
    ("recipe", "side_px", "copies", "fit"), [("rotation", 100, 1, 12), ("rotation", 100, 4, 3), (WIDE, 28, 1, 4)]
)
async def test_the_pixels_of_a_request_are_bounded_together(
    engine: Any, recipe: str, side_px: int, copies: int, fit: int
) -> None:
    """In the files and in what is made of them; those beyond the limit are refused alone."""
    files = [encoded(np.full((side_px, side_px, 1), value, np.uint8)) for value in range(14)]
    settings = make_settings(max_pixels_per_image=40_000, max_images=70)
    assert settings.limits.max_decoded_bytes == LIMITS["max_decoded_bytes"] == 120_000
    async with gateway(engine, settings=settings) as http:
        asked = {"recipe": recipe, "copies": str(copies), "images": "false"}
        entries = (await http.post("/v1/augment", data=asked, **as_files(files))).json()["results"]
        assert ["error" in entry for entry in entries] == [False] * fit + [True] * (14 - fit)
        assert entries[-1]["error"]["status"] == 413
        assert "120000 bytes of decoded images" in entries[-1]["error"]["detail"]


class Moody:
    """A stage link that answers as the stage does, but for the digits that an error, or a wait, is put down for."""

    def __init__(self, link: Any, moods: dict[int, Exception | float]) -> None:
        self._link, self._moods = link, moods

    async def call(self, operation: Any, columns: Any) -> Any:
        (digit,) = np.flatnonzero((columns["images"] == DIGITS).all(axis=(1, 2, 3)))
        mood = self._moods.get(int(digit))
        if isinstance(mood, Exception):
            raise mood
        await asyncio.sleep(mood or 0)
        return await self._link.call(operation, columns)


def moody(engine: Any, moods: dict[int, Exception | float], **limits: Any) -> httpx.AsyncClient:
    """A gateway whose classifier takes one digit at a time, in a mood for each."""
    settings = make_settings(**ROOMY | limits).model_dump()
    settings["classifier"] |= {"max_batch_images": 1, "max_in_flight_batches": 20}
    own = Settings.model_validate(settings)
    return gateway(engine, {"classifier": Moody(make_links(engine, own)["classifier"], moods)}, own)


async def test_overload_of_some_is_theirs_and_of_all_the_answers(engine: Any) -> None:
    async with moody(engine, {0: Overloaded("full", 2.5), 2: Unavailable("gone")}) as http:
        answer = await http.post("/v1/classify", **as_files(FILES[:4]))
        assert answer.status_code == 200
        assert "retry-after" not in answer.headers
        entries = answer.json()["results"]
        assert [entry.get("label") for entry in entries] == [None, 1, None, 3]
        assert entries[0]["error"]["status"] == entries[2]["error"]["status"] == 503
        assert entries[0]["error"]["retry_after_s"] == 2.5
        assert "retry_after_s" not in entries[2]["error"]
    for error, seconds in [(Overloaded("full", 2.5), "3"), (Unavailable("gone"), "1")]:
        async with moody(engine, {0: error, 1: error}) as http:
            answer = await http.post("/v1/classify", **as_files(FILES[:2]))
            problem(answer, 503, error.code)
            assert answer.headers["retry-after"] == seconds
            assert len(answer.json()["results"]) == 2


async def test_a_file_that_takes_too_long_does_not_take_the_others_along(engine: Any) -> None:
    async with moody(engine, {1: 60.0}, request_timeout_s=3) as http:
        late = (await http.post("/v1/classify", **as_files(FILES[:3]))).json()["results"]
        assert [entry.get("label") for entry in late] == [0, None, 2]
        assert late[1]["error"]["type"] == "urn:stn:error:timed-out"
        assert "within 3 s" in late[1]["error"]["detail"]
    async with moody(engine, {0: 60.0}, request_timeout_s=0.3) as http:
        problem(await http.post("/v1/classify", **as_files(FILES[:1])), 504, "timed-out")


async def test_a_body_that_never_ends_is_too_late(engine: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await asyncio.sleep(60)

    async with gateway(engine, settings=make_settings(request_timeout_s=0.2)) as http:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        problem(await http.post("/v1/predict", content=endless(), headers=kind), 504, "timed-out")


async def test_a_fault_is_the_files_own_and_tells_no_secrets(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ray.serve").propagate = True
    async with moody(engine, {0: RuntimeError("secret")}) as http:
        answer = await http.post("/v1/classify", **as_files(FILES[:2]))
        bad, good = answer.json()["results"]
        assert good["label"] == 1
        assert bad["error"]["status"] == 500
        assert "secret" not in answer.text
        number = bad["error"]["detail"].split()[5].rstrip(";")
    assert any(number in record.getMessage() for record in caplog.records)
    assert "secret" in caplog.text


async def test_bodies_share_the_bytes_of_the_protocols(engine: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    start = b'--b\r\ncontent-disposition: form-data; name="x"; filename="x"\r\n\r\n' + bytes(60_000)

    async def slow() -> AsyncIterator[bytes]:
        yield start
        begun.set()
        await go_on.wait()
        yield b"\r\n--b--\r\n"

    large = as_files([FILES[0], bytes(60_000)])
    async with gateway(engine, settings=make_settings(max_bytes_in_flight=100_000)) as http:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        first = asyncio.create_task(http.post("/v1/predict", content=slow(), headers=kind))
        await begun.wait()
        assert "try again later" in problem(await http.post("/v1/predict", **large), 503, "overloaded")
        protocols = await http.post("/v2/models/predict/infer", content=bytes(60_000))
        problem(protocols, 503, "overloaded")
        go_on.set()
        problem(await first, 400, "bad-tensor")
        room_again = await http.post("/v1/predict", **large)
        assert room_again.json()["results"][0]["label"] == 0


def test_no_decoder_reads_what_is_not_named() -> None:
    from services.settings import Limits
    from services.uploads import FORMATS, read_head
    from stn_core.errors import BadTensor

    assert FORMATS == ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
    for kind in ("PPM", "ICO", "TGA", "PCX", "EPS", "PDF", "JPEG2000", "AVIF"):
        with pytest.raises(BadTensor, match="none of them"):
            read_head(encoded(DIGITS[0], kind), Limits())
