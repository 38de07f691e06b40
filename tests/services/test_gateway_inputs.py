"""The tensors and parameters of a request, over HTTP in process: what is refused and why, and pictures as files."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import IDENTITY, RECIPE, infer
from http_calls import bytes_tensor, encoded, outputs, problem

from stn_core.recipes import load_recipe


@pytest.mark.parametrize("model", ["predict", "rectify", "classify", "augment"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((0, 28, 28, 1), np.uint8), "at least one image"),
        (np.zeros((28, 28, 1), np.uint8), "expected the shape"),
        (np.zeros((2, 28, 28, 1), np.int16), "expected UINT8, FP32, FP16, BF16, FP64 or BYTES, got INT16"),
        (np.full((2, 28, 28, 1), np.nan), "finite"),
        (np.full((2, 28, 28, 1), 1e300), "finite"),
        (np.full((2, 28, 28, 1), 2, np.float16), r"in [0, 1], got 2 to 2"),
        (np.full((2, 28, 28, 1), np.nan, np.float32), "finite FP32 pixels, got nan at [0, 0, 0, 0]"),
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
        ("classify", {f"{i:0100}": IDENTITY for i in range(50)}, "and 46 more"),
    ],
)
async def test_wrong_input_names(
    http: httpx.AsyncClient, model: str, inputs: dict[str, np.ndarray], expected: str
) -> None:
    detail = problem(await infer(http, model, inputs, parameters=RECIPE), 400, "bad-tensor")
    assert expected in detail
    assert len(detail) < 300


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        (IDENTITY[:2], "expected the shape [3, 2, 3]"),
        (IDENTITY.reshape(3, 6), "[B, K*K, 2] (thin-plate spline, K from 3 to 10), got [3, 6]"),
        (np.zeros((3, 2, 2), np.float32), "expected the shape [B, 2, 3] (affine), [B, 3, 3] (homography)"),
        (np.zeros((3, 15, 2), np.float32), "got [3, 15, 2]"),
        (np.zeros((3, 121, 2), np.float32), "got [3, 121, 2]"),
        (np.zeros((2, 16, 2), np.float32), "expected the shape [3, 16, 2] (one per image), got [2, 16, 2]"),
        (np.full((3, 3, 3), np.inf, np.float32), "finite"),
        (IDENTITY.astype(np.int32), "expected FP32, FP16 or FP64, got INT32"),
        (np.full((3, 2, 3), np.nan, np.float32), "finite"),
        (np.full((3, 2, 3), 1e300), "at most 1e+06 either way"),
        (np.full((3, 2, 3), -3e38, np.float32), "got -3e+38 at [0, 0, 0]"),
        (np.full((3, 2, 3), 1.1e6, np.float32), "at most 1e+06 either way"),
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
        ({"recipe": "y" * 3000, "seed": 1}, "bad-recipe", "tutorial-mix"),
        ({"recipe": "{" * 70_000, "seed": 1}, "bad-recipe", "at most 65536 bytes"),
        ({"recipe": {"name": "x", "steps": [{"op": "affine"}] * 5000}, "seed": 1}, "bad-recipe", "at most 65536 bytes"),
        ({"recipe": {"name": "x", "steps": [{"op": "t" * 3000}]}, "seed": 1}, "bad-recipe", "flip_vertical"),
        ({"recipe": {"name": "x", "n" * 3000: 1}, "seed": 1}, "bad-recipe", "Extra inputs"),
        ({"recipe": "tutorial-mix", "seed": "z" * 3000}, "bad-tensor", "parameters.seed"),
        ({"recipe": "tutorial-mix"}, "bad-tensor", "parameters.seed"),
        ({"recipe": "tutorial-mix", "seed": -1}, "bad-tensor", "got -1"),
        ({"recipe": "tutorial-mix", "seed": True}, "bad-tensor", "got True"),
        ({"recipe": "tutorial-mix", "seed": 2.5}, "bad-tensor", "got 2.5"),
    ],
)
async def test_bad_augment_parameters(
    http: httpx.AsyncClient, images: np.ndarray, parameters: dict[str, Any], code: str, expected: str
) -> None:
    detail = problem(await infer(http, "augment", {"images": images}, parameters=parameters), 400, code)
    assert expected in detail
    assert len(detail) < 500


async def test_a_recipe_nested_past_any_depth(http: httpx.AsyncClient) -> None:
    images = '{"name": "images", "datatype": "UINT8", "shape": [1, 1, 1, 1], "data": [0]}'
    recipe = '{"name": "x", "steps": ' + "[" * 500 + "]" * 500 + "}"
    body = f'{{"inputs": [{images}], "parameters": {{"seed": 0, "recipe": {recipe}}}}}'
    answer = await http.post("/v2/models/augment/infer", content=body)
    assert "Recursion limit" in problem(answer, 400, "bad-recipe")


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


async def test_a_picture_as_base64_text_must_say_so(http: httpx.AsyncClient, images: np.ndarray) -> None:
    text = base64.b64encode(encoded(images[0])).decode()
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [text]}
    answer = await http.post("/v2/models/predict/infer", json={"inputs": [tensor]})
    assert 'base64 text at 0; give the tensor the parameter "content_type": "base64"' in problem(
        answer, 400, "bad-tensor"
    )
    tensor["parameters"] = {"content_type": "base64"}
    told = outputs(await http.post("/v2/models/predict/infer", json={"inputs": [tensor]}))
    pixels = outputs(await infer(http, "predict", {"images": images[:1]}))
    np.testing.assert_array_equal(told.outputs["rectified"], pixels.outputs["rectified"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
async def test_other_floats_are_read_as_fp32(http: httpx.AsyncClient, images: np.ndarray, dtype: type) -> None:
    pixels = (images / 255).astype(dtype)
    given = outputs(await infer(http, "predict", {"images": pixels})).outputs
    as_fp32 = outputs(await infer(http, "predict", {"images": pixels.astype(np.float32)})).outputs
    assert given["rectified"].dtype == np.float32
    for name in as_fp32:
        np.testing.assert_array_equal(given[name], as_fp32[name])
    warped = outputs(await infer(http, "warp", {"images": pixels, "theta": IDENTITY.astype(dtype)})).outputs["images"]
    np.testing.assert_array_equal(warped, pixels.astype(np.float32), strict=True)


async def test_the_bytes_of_half_floats_count_as_those_of_fp32(http: httpx.AsyncClient) -> None:
    small = {"images": np.zeros((12, 50, 50, 1), np.float16), "theta": np.tile(IDENTITY[:1], (12, 1, 1))}
    outputs(await infer(http, "warp", small))
    large = {"images": np.zeros((13, 50, 50, 1), np.float16), "theta": np.tile(IDENTITY[:1], (13, 1, 1))}
    assert "got 130000" in problem(await infer(http, "warp", large), 413, "too-large")


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
    long = {"images": np.zeros((1, 16_385, 1, 1), np.uint8), "theta": IDENTITY[:1]}
    assert "sides of at most 16384 px, got 16385 x 1" in problem(await infer(http, "warp", long), 413, "too-large")
    long = {"images": bytes_tensor([encoded(long["images"][0])])}
    assert "16384" in problem(await infer(http, "augment", long, parameters=RECIPE), 413, "too-large")
    big = bytes_tensor([encoded(np.zeros((100, 100, 1), np.uint8))] * 13)
    answer = await infer(http, "augment", {"images": big}, parameters=RECIPE)
    assert "120000 bytes" in problem(answer, 413, "too-large")
    text = json.dumps({"inputs": [], "pad": "0" * 95_000})
    assert "binary" in problem(await http.post("/v2/models/predict/infer", content=text), 413, "too-large")
