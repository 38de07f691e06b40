"""The HTTP side in process: every route, every error, with the real stages over the shipped bundle."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from http_calls import binary, bytes_tensor, encoded, outputs, problem

from services.gateway import Gateway
from services.links import LocalLink, StageLink
from services.pipelines import Pipelines
from services.settings import Settings
from services.stages import AugmentStage, ClassifyStage, RectifyStage
from stn_core.bundle import read_manifest
from stn_core.errors import Overloaded, StnError
from stn_core.recipes import load_recipe

LIMITS = {"max_request_bytes": 100_000, "max_images": 50, "max_json_bytes": 50_000, "max_decoded_bytes": 120_000}


def make_settings(**limits: Any) -> Settings:
    return Settings.model_validate(
        {
            "classifier": {"placement": "gateway"},
            "limits": {**LIMITS, "max_pixels_per_image": 10_000, **limits},
        }
    )


def make_links(engine: Any, settings: Settings) -> dict[str, StageLink]:
    manifest = read_manifest("digits")
    return {
        "rectifier": LocalLink(RectifyStage(engine), settings.rectifier),
        "classifier": LocalLink(ClassifyStage(engine), settings.classifier),
        "augmenter": LocalLink(AugmentStage(manifest.input_shape, manifest.recipe), settings.augmenter),
    }


def client_of(links: dict[str, StageLink], settings: Settings) -> httpx.AsyncClient:
    pipelines = Pipelines(settings, links, "1", (28, 28, 1), [str(i) for i in range(10)])
    transport = httpx.ASGITransport(Gateway(pipelines, settings).asgi_app(), raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as client:
        yield client


@pytest.fixture
def images(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return digits[0][:3]


async def infer(http: httpx.AsyncClient, model: str, inputs: dict[str, np.ndarray], **options: Any) -> httpx.Response:
    return await http.post(f"/v2/models/{model}/infer", **binary(inputs, **options))


IDENTITY = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))
RECIPE = {"recipe": "tutorial-mix", "seed": 0}


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_server_metadata_names_the_limits(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.json()["limits"]["max_images"] == 50


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/augment/versions/1/ready"])
async def test_health(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_model_routes_with_and_without_version(http: httpx.AsyncClient, images: np.ndarray, version: str) -> None:
    metadata = (await http.get(f"/v2/models/predict{version}")).json()
    assert metadata["versions"] == ["1"]
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["label", "probabilities", "theta", "rectified"]
    assert (await http.get(f"/v2/models/predict{version}/ready")).json() == {"name": "predict", "ready": True}
    answer = await http.post(f"/v2/models/predict{version}/infer", **binary({"images": images}))
    assert list(outputs(answer).outputs) == ["label", "probabilities", "theta", "rectified"]


async def test_every_model_answers_what_its_metadata_says(http: httpx.AsyncClient, images: np.ndarray) -> None:
    given = {
        "predict": ({"images": images}, {}),
        "rectify": ({"images": images}, {}),
        "classify": ({"images": images}, {}),
        "warp": ({"images": images, "theta": IDENTITY}, {}),
        "augment": ({"images": images}, RECIPE),
    }
    for model, (inputs, parameters) in given.items():
        answer = outputs(await infer(http, model, inputs, parameters=parameters))
        for tensor in (await http.get(f"/v2/models/{model}")).json()["outputs"]:
            array = answer.outputs[tensor["name"]]
            assert array.ndim == len(tensor["shape"])
            pairs = zip(array.shape, tensor["shape"], strict=True)
            assert all(said in (-1, side) for side, said in pairs), (model, tensor)


async def test_only_what_was_asked_comes_back(http: httpx.AsyncClient, images: np.ndarray) -> None:
    for model, names in {"predict": ["label"], "rectify": ["theta"], "augment": ["affine", "images"]}.items():
        answer = await infer(http, model, {"images": images}, outputs=names, parameters=RECIPE)
        assert list(outputs(answer).outputs) == names


async def test_theta_alone_equals_theta_beside_the_images(http: httpx.AsyncClient, images: np.ndarray) -> None:
    both = outputs(await infer(http, "rectify", {"images": images})).outputs["theta"]
    alone = outputs(await infer(http, "rectify", {"images": images}, outputs=["theta"])).outputs["theta"]
    np.testing.assert_array_equal(alone, both)


@pytest.mark.parametrize("model", ["predict", "rectify", "classify", "augment"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((0, 28, 28, 1), np.uint8), "at least one image"),
        (np.zeros((28, 28, 1), np.uint8), "expected the shape"),
        (np.zeros((2, 28, 28, 1), np.float64), "expected UINT8, FP32 or BYTES, got FP64"),
        (np.full((2, 28, 28, 1), np.nan, np.float32), "finite"),
        (np.full((2, 28, 28, 1), np.inf, np.float32), "finite"),
        (np.full((2, 28, 28, 1), 255, np.float32), r"in [0, 1], got 255 to 255; divide by 255"),
    ],
)
async def test_bad_images(http: httpx.AsyncClient, model: str, array: np.ndarray, expected: str) -> None:
    answer = await infer(http, model, {"images": array}, parameters=RECIPE)
    assert expected in problem(answer, 400, "bad-tensor")


@pytest.mark.parametrize("shape", [(2, 20, 28, 1), (2, 28, 28, 3)])
async def test_images_of_another_size(http: httpx.AsyncClient, shape: tuple[int, ...]) -> None:
    for model in ("predict", "rectify", "classify"):
        answer = await infer(http, model, {"images": np.zeros(shape, np.uint8)})
        assert "expected [N, 28, 28, 1], got [N, " in problem(answer, 400, "bad-tensor")
    for model in ("warp", "augment"):
        inputs = {"images": np.zeros(shape, np.uint8), **({"theta": IDENTITY[:2]} if model == "warp" else {})}
        assert outputs(await infer(http, model, inputs, parameters=RECIPE)).outputs["images"].shape == shape


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        ("predict", {"image": IDENTITY}, "expected images, got image"),
        ("predict", {"images": IDENTITY, "more": IDENTITY}, "expected images, got images, more"),
        ("warp", {"theta": IDENTITY}, "expected images, theta, got theta"),
        ("augment", {"theta": IDENTITY}, "expected images and optionally ids, got theta"),
        ("classify", {}, "expected images, got none"),
    ],
)
async def test_wrong_input_names(
    http: httpx.AsyncClient, model: str, inputs: dict[str, np.ndarray], expected: str
) -> None:
    assert expected in problem(await infer(http, model, inputs, parameters=RECIPE), 400, "bad-tensor")


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        (IDENTITY[:2], "expected the shape [3, 2, 3]"),
        (IDENTITY.reshape(3, 6), "expected the shape [3, 2, 3]"),
        (IDENTITY.astype(np.int32), "expected FP32 or FP64"),
        (np.full((3, 2, 3), np.nan, np.float32), "finite"),
        (np.full((3, 2, 3), 1e300), "finite"),
    ],
)
async def test_bad_theta(http: httpx.AsyncClient, images: np.ndarray, theta: np.ndarray, expected: str) -> None:
    answer = await infer(http, "warp", {"images": images, "theta": theta})
    assert expected in problem(answer, 400, "bad-tensor")


@pytest.mark.parametrize(
    ("parameters", "code", "expected"),
    [
        ({"seed": 1}, "bad-recipe", "parameters.recipe"),
        ({"recipe": 5, "seed": 1}, "bad-recipe", "got int"),
        ({"recipe": "no-such", "seed": 1}, "bad-recipe", "tutorial-mix"),
        ({"recipe": "/etc/hostname", "seed": 1}, "bad-recipe", "tutorial-mix"),
        ({"recipe": "{broken", "seed": 1}, "bad-recipe", "JSON"),
        ({"recipe": {"name": "x", "steps": [{"op": "explode"}]}, "seed": 1}, "bad-recipe", "recipe"),
        ({"recipe": "tutorial-mix"}, "bad-tensor", "parameters.seed"),
        ({"recipe": "tutorial-mix", "seed": -1}, "bad-tensor", "got -1"),
        ({"recipe": "tutorial-mix", "seed": True}, "bad-tensor", "got True"),
        ({"recipe": "tutorial-mix", "seed": 2.5}, "bad-tensor", "got 2.5"),
    ],
)
async def test_bad_augment_parameters(
    http: httpx.AsyncClient, images: np.ndarray, parameters: dict[str, Any], code: str, expected: str
) -> None:
    assert expected in problem(await infer(http, "augment", {"images": images}, parameters=parameters), 400, code)


async def test_bad_ids(http: httpx.AsyncClient, images: np.ndarray) -> None:
    for ids in (np.arange(2, dtype=np.uint64), np.arange(3)):
        answer = await infer(http, "augment", {"images": images, "ids": ids}, parameters=RECIPE)
        assert "ids: expected UINT64 [3]" in problem(answer, 400, "bad-tensor")


async def test_a_recipe_may_be_an_object(http: httpx.AsyncClient, images: np.ndarray) -> None:
    as_object = {"recipe": load_recipe("rotation").model_dump(mode="json"), "seed": 9}
    by_name = {"recipe": "rotation", "seed": 9}
    made = [outputs(await infer(http, "augment", {"images": images}, parameters=p)) for p in (as_object, by_name)]
    np.testing.assert_array_equal(made[0].outputs["images"], made[1].outputs["images"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_encoded_images(http: httpx.AsyncClient, images: np.ndarray, kind: str) -> None:
    tensor = bytes_tensor([encoded(image, kind) for image in images])
    answer = outputs(await infer(http, "warp", {"images": tensor, "theta": IDENTITY}))
    assert answer.outputs["images"].dtype == np.uint8
    assert np.abs(answer.outputs["images"].astype(float) - images).max() <= (0 if kind == "PNG" else 60)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
async def test_encoded_images_of_other_modes_become_gray(http: httpx.AsyncClient, mode: str) -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (28, 28), 255).convert(mode).save(buffer, "PNG")
    answer = outputs(await infer(http, "rectify", {"images": bytes_tensor([buffer.getvalue()])}))
    assert answer.outputs["rectified"].shape == (1, 28, 28, 1)


async def test_broken_encoded_images_name_the_culprit(http: httpx.AsyncClient, images: np.ndarray) -> None:
    good = encoded(images[0])
    cases = [
        ([good, b"no image"], "at 1 that are neither or broken"),
        ([good, good[:60]], "at 1 that are neither or broken"),
        ([b""], "0 bytes at 0"),
        ([good, encoded(np.zeros((20, 20, 1), np.uint8))], "expected [N, 28, 28, 1], got [N, 20, 20, 1]"),
    ]
    for items, expected in cases:
        answer = await infer(http, "predict", {"images": bytes_tensor(items)})
        assert expected in problem(answer, 400, "bad-tensor")
    mixed = bytes_tensor([good, good, encoded(np.zeros((20, 20, 1), np.uint8))])
    answer = await infer(http, "warp", {"images": mixed, "theta": IDENTITY})
    assert "one size" in problem(answer, 400, "bad-tensor")


async def test_a_small_file_with_a_huge_picture_is_refused_unopened(http: httpx.AsyncClient) -> None:
    bomb = encoded(np.zeros((3000, 3000, 1), np.uint8))
    assert len(bomb) < 50_000
    answer = await infer(http, "augment", {"images": bytes_tensor([bomb])}, parameters=RECIPE)
    assert "at most 10000 pixels" in problem(answer, 413, "too-large")


async def test_limits_of_a_request(http: httpx.AsyncClient) -> None:
    many = np.zeros((51, 28, 28, 1), np.uint8)
    assert "at most 50" in problem(await infer(http, "predict", {"images": many}), 413, "too-large")
    wide = {"images": np.zeros((1, 1, 10_001, 1), np.uint8), "theta": IDENTITY[:1]}
    assert "10000 pixels" in problem(await infer(http, "warp", wide), 413, "too-large")
    big = bytes_tensor([encoded(np.zeros((100, 100, 1), np.uint8))] * 13)
    answer = await infer(http, "augment", {"images": big}, parameters=RECIPE)
    assert "120000 bytes" in problem(answer, 413, "too-large")
    text = json.dumps({"inputs": [], "pad": "0" * 60_000})
    assert "binary" in problem(await http.post("/v2/models/predict/infer", content=text), 413, "too-large")


async def test_the_body_limit_holds_with_and_without_a_length(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 10_000
            yield b"0" * 10_000

    announced = await http.post("/v2/models/predict/infer", content=b"0" * 100_001)
    assert "at most 100000 bytes" in problem(announced, 413, "too-large")
    problem(await http.post("/v2/models/predict/infer", content=endless()), 413, "too-large")
    assert sent <= 200_000  # the rest was not asked for


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies(http: httpx.AsyncClient, images: np.ndarray, encoding: str, pack: Any) -> None:
    message = binary({"images": images})
    headers = {**message["headers"], "content-encoding": encoding}

    async def post(body: bytes) -> httpx.Response:
        return await http.post("/v2/models/predict/infer", content=body, headers=headers)

    packed = pack(message["content"])
    assert outputs(await post(packed)).outputs["label"].shape == (3,)
    assert "expands to more" in problem(await post(pack(b"0" * 5_000_000)), 413, "too-large")
    assert "ends too early" in problem(await post(packed[:-9]), 400, "bad-body")
    assert "follow the end" in problem(await post(packed + b"xx"), 400, "bad-body")
    assert "not valid" in problem(await post(b"plain"), 400, "bad-body")


async def test_an_unknown_encoding(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v2/models/predict/infer", content=b"{}", headers={"content-encoding": "br"})
    assert "expected gzip, deflate or none, got 'br'" in problem(answer, 400, "bad-body")


@pytest.mark.parametrize("length", ["-1", "x", "9999", "1e3", "²"])
async def test_a_bad_header_length(http: httpx.AsyncClient, length: str) -> None:
    headers = {"inference-header-content-length": length.encode()}
    problem(await http.post("/v2/models/predict/infer", content=b"{}", headers=headers), 400, "bad-body")


async def test_an_unknown_output_is_refused(http: httpx.AsyncClient, images: np.ndarray) -> None:
    answer = await infer(http, "predict", {"images": images}, outputs=["logits"])
    assert "label, probabilities, theta, rectified" in problem(answer, 400, "bad-tensor")


async def test_unknown_routes_models_versions_and_methods(http: httpx.AsyncClient) -> None:
    problem(await http.get("/"), 404, "unknown-route")
    problem(await http.get("/v2/health/ready/"), 404, "unknown-route")
    problem(await http.get("/v2/models/nobody"), 404, "unknown-model")
    problem(await http.get("/v2/models/predict/versions/2/ready"), 404, "unknown-model")
    wrong = await http.get("/v2/models/predict/infer")
    problem(wrong, 405, "wrong-method")
    assert "POST" in wrong.headers["allow"]


async def test_a_request_may_ask_for_a_shorter_timeout(http: httpx.AsyncClient, images: np.ndarray) -> None:
    answer = await infer(http, "predict", {"images": images}, parameters={"timeout": 1})
    assert "within 1e-06 s" in problem(answer, 504, "timed-out")
    answer = await infer(http, "predict", {"images": images}, parameters={"timeout": "soon"})
    assert "microseconds" in problem(answer, 400, "bad-body")
    outputs(await infer(http, "predict", {"images": images}, parameters={"timeout": 20_000_000}))


class Odd:
    """A stage link that fails in a way of choice."""

    def __init__(self, error: Exception | None = None, ready: bool = True, seconds: float = 0.0) -> None:
        self.error, self.is_ready, self.seconds = error, ready, seconds

    async def call(self, operation: Any, columns: Any) -> Any:
        await asyncio.sleep(self.seconds)
        raise self.error or AssertionError

    async def ready(self) -> bool:
        return self.is_ready


async def test_a_failing_stage_fails_its_models_alone_and_tells_no_secrets(
    engine: Any, images: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"classifier": Odd(RuntimeError("secret"))}
    logging.getLogger("ray.serve").propagate = True
    async with client_of(links, settings) as http:
        message = binary({"images": images})
        message["headers"]["x-request-id"] = "r-17"
        answer = await http.post("/v2/models/predict/infer", **message)
        assert "r-17" in problem(answer, 500, "internal")
        assert "secret" not in answer.text
        outputs(await infer(http, "rectify", {"images": images}))
    assert any("r-17" in record.getMessage() for record in caplog.records)
    assert "secret" in caplog.text


async def test_errors_of_stages_keep_their_kind(engine: Any, images: np.ndarray) -> None:
    settings = make_settings()
    for error, status, code in [(Overloaded("full", 2.5), 503, "overloaded"), (StnError("odd"), 500, "internal")]:
        links = make_links(engine, settings) | {"rectifier": Odd(error)}
        async with client_of(links, settings) as http:
            answer = await infer(http, "rectify", {"images": images})
            problem(answer, status, code)
            assert answer.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_an_unready_stage_makes_its_models_unready(engine: Any) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"classifier": Odd(ready=False)}
    async with client_of(links, settings) as http:
        assert "classifier" in problem(await http.get("/v2/health/ready"), 503, "unavailable")
        problem(await http.get("/v2/models/predict/ready"), 503, "unavailable")
        assert (await http.get("/v2/models/rectify/ready")).status_code == 200
        assert (await http.get("/v2/health/live")).status_code == 200


async def test_a_slow_stage_times_out(engine: Any, images: np.ndarray) -> None:
    settings = make_settings(request_timeout_s=0.05)
    links = make_links(engine, settings) | {"classifier": Odd(seconds=5)}
    async with client_of(links, settings) as http:
        problem(await infer(http, "classify", {"images": images}), 504, "timed-out")


async def test_bodies_in_flight_are_bounded_together(engine: Any) -> None:
    settings = make_settings(max_bytes_in_flight=100_000, request_timeout_s=0.3)
    links = make_links(engine, settings) | {"classifier": Odd(seconds=5)}
    images = np.zeros((40, 28, 28, 1), np.uint8)
    async with client_of(links, settings) as http:
        answers = await asyncio.gather(*(infer(http, "classify", {"images": images}) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [503, 503, 504, 504, 504]
        problem(await infer(http, "classify", {"images": images}), 504, "timed-out")  # the room was given back
