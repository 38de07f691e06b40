"""Image files in, JSON or an image out, over HTTP in process; the protocol's own answers are the truth."""

import base64
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from files_in_process import DIGITS, FILES, ROOMY, as_files, gateway
from gateway_in_process import infer, make_settings
from http_calls import bytes_tensor, encoded, outputs
from PIL import Image

from services.asks import Ask
from services.friendly_answers import JSON, PNG, json_answer
from services.pipelines import Outcome
from services.protocol import ModelSpec, TensorSpec
from stn_core.errors import BadTensor, Overloaded
from stn_core.pictures import decode_picture
from stn_core.recipes import load_recipe

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(engine) as client:
        yield client


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    entries: list[dict[str, Any]] = answer.json()["results"]
    return entries


def pixels(image: str) -> np.ndarray:
    """An image of an answer, ``[H, W, C]``."""
    return decode_picture(base64.b64decode(image), formats=("PNG",))


async def test_every_form_of_request_gives_what_the_protocol_gives(http: httpx.AsyncClient) -> None:
    truth = outputs(await infer(http, "predict", {"images": bytes_tensor(FILES)})).outputs
    texts = [base64.b64encode(file).decode() for file in FILES]
    named = [{"name": f"{number}.png", "data": text} for number, text in enumerate(texts)]
    sent: list[dict[str, Any]] = [
        as_files(FILES),
        {"json": {"images": texts}},
        {"json": {"images": [f"data:image/png;base64,{text}" for text in texts]}},
        {"json": {"images": named}},
        *({"content": file, "headers": {"content-type": "image/png"}} for file in FILES[:2]),
    ]
    for message in sent:
        answer = await http.post("/v1/predict", **message)
        entries = results(answer)
        assert answer.json().keys() == {"model", "version", "results"}
        assert (answer.json()["model"], answer.json()["version"]) == ("predict", "1")
        first = FILES.index(message["content"]) if "content" in message else 0
        for number, entry in enumerate(entries, first):
            assert list(entry) == ["name", "label", "class", "probability", "probabilities", "theta"]
            assert entry["name"] == (
                f"{number}.png" if "files" in message or message.get("json", {}).get("images") is named else None
            )
            assert entry["label"] == truth["label"][number]
            assert entry["class"] == str(entry["label"])
            assert (
                entry["probability"] == entry["probabilities"][entry["class"]] == max(entry["probabilities"].values())
            )
            by_class = [entry["probabilities"][str(k)] for k in range(10)]
            np.testing.assert_allclose(by_class, truth["probabilities"][number], atol=1e-6)
            np.testing.assert_allclose(entry["theta"], truth["theta"][number], atol=1e-6)
        assert len(entries) == (1 if "content" in message else 10)


async def test_numbers_are_those_of_the_model_to_the_last_bit(http: httpx.AsyncClient) -> None:
    truth = outputs(await infer(http, "predict", {"images": bytes_tensor(FILES[:1])})).outputs
    (entry,) = results(await http.post("/v1/predict", **as_files(FILES[:1])))
    np.testing.assert_array_equal(np.float32(entry["theta"]), truth["theta"][0])
    np.testing.assert_array_equal(np.float32(entry["probability"]), truth["probabilities"][0].max())


async def test_rectify_and_classify_and_images_on_demand(http: httpx.AsyncClient) -> None:
    truth = outputs(await infer(http, "rectify", {"images": bytes_tensor(FILES)})).outputs
    with_image = results(await http.post("/v1/rectify", **as_files(FILES)))
    without = results(await http.post("/v1/rectify?images=false", **as_files(FILES)))
    predicted = results(await http.post("/v1/predict", data={"images": "true"}, **as_files(FILES)))
    classified = results(await http.post("/v1/classify", **as_files(FILES)))
    for number, entry in enumerate(with_image):
        assert list(entry) == ["name", "theta", "image"]
        assert list(without[number]) == ["name", "theta"]
        assert without[number]["theta"] == entry["theta"]
        assert list(predicted[number])[-1] == "image"
        for image in (entry["image"], predicted[number]["image"]):
            np.testing.assert_allclose(pixels(image).astype(int), truth["rectified"][number], atol=1)
        assert list(classified[number]) == ["name", "label", "class", "probability", "probabilities"]
        assert classified[number]["label"] == number


async def test_good_files_come_back_beside_a_corrupt_one(http: httpx.AsyncClient) -> None:
    for broken, reason in [(b"no image", "8 bytes that are none of them"), (FILES[3][:60], "neither or broken")]:
        files = [FILES[number % 10] for number in range(64)]
        files[41] = broken
        entries = results(await http.post("/v1/predict", **as_files(files)))
        assert [entry["name"] for entry in entries] == [f"{number}.png" for number in range(64)]
        for number, entry in enumerate(entries):
            assert ("error" in entry) == (number == 41)
            assert number == 41 or entry["label"] == number % 10
        assert entries[41].keys() == {"name", "error"}
        error = entries[41]["error"]
        assert (error["status"], error["type"]) == (400, "urn:stn:error:bad-tensor")
        assert reason in error["detail"] == error["error"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF"])
async def test_formats_without_loss_give_one_answer(http: httpx.AsyncClient, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    as_png = results(await http.post("/v1/predict?images=true", **as_files(FILES[:3])))
    files = [encoded(digit, kind, **options) for digit in DIGITS[:3]]
    assert results(await http.post("/v1/predict?images=true", **as_files(files))) == as_png


async def test_colours_transparency_and_the_first_of_many_frames(http: httpx.AsyncClient) -> None:
    gray, clear = Image.fromarray(DIGITS[4, ..., 0]), Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    clear.paste(gray.convert("RGBA"), mask=gray.point(lambda value: 255 if value else 0))
    files = []
    for picture, kind, options in [
        (clear, "WEBP", {"lossless": True}),
        (gray.convert("CMYK"), "TIFF", {}),
        (gray, "GIF", {"save_all": True, "append_images": [Image.new("L", (28, 28))]}),
        (gray, "TIFF", {"save_all": True, "append_images": [Image.new("L", (28, 28))]}),
        (Image.fromarray(DIGITS[4, ..., 0].astype(np.uint16) * 257), "TIFF", {}),
    ]:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    first, *others = results(await http.post("/v1/rectify", **as_files([FILES[4], *files])))
    assert [(entry["theta"], entry["image"]) for entry in others] == [(first["theta"], first["image"])] * len(files)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
async def test_formats_with_loss(http: httpx.AsyncClient, kind: str) -> None:
    entries = results(await http.post("/v1/predict", **as_files([encoded(digit, kind) for digit in DIGITS])))
    assert [entry["label"] for entry in entries] == list(range(10))


async def test_one_image_as_png_with_the_rest_in_headers(http: httpx.AsyncClient) -> None:
    (entry,) = results(await http.post("/v1/predict?images=true", **as_files(FILES[7:8])))
    answer = await http.post("/v1/predict", headers={"accept": "image/png"}, **as_files(FILES[7:8]))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == PNG
    assert answer.headers["vary"] == "accept"
    assert answer.content == base64.b64decode(entry["image"])
    said = {name[4:]: json.loads(text) for name, text in answer.headers.items() if name.startswith("stn-")}
    assert said == {name: entry[name] for name in ("label", "class", "probability", "probabilities", "theta")}


async def test_a_png_of_what_a_recipe_makes(http: httpx.AsyncClient) -> None:
    sent = {"headers": {"accept": "image/*"}, "data": {"recipe": "elastic", "seed": "3", "images": "false"}}
    answer = await http.post("/v1/augment", **sent, **as_files(FILES[5:6]))
    truth = outputs(await infer(http, "augment", {"images": DIGITS[5:6]}, parameters={"recipe": "elastic", "seed": 3}))
    np.testing.assert_array_equal(decode_picture(answer.content), truth.outputs["images"][0])
    np.testing.assert_array_equal(json.loads(answer.headers["stn-theta"]), truth.outputs["theta"][0])
    assert answer.headers["stn-exact"] == "true"
    assert "stn-theta-rectifying" not in answer.headers


async def test_copies_are_drawn_as_equal_images_of_one_request_are(http: httpx.AsyncClient) -> None:
    asked = {"recipe": "tutorial-mix", "seed": 7}
    answer = await http.post(
        "/v1/augment", data={"recipe": "tutorial-mix", "seed": "7", "copies": "4"}, **as_files(FILES[:3])
    )
    entries = results(answer)
    for number, entry in enumerate(entries):
        truth = outputs(await infer(http, "augment", {"images": DIGITS[[number] * 4]}, parameters=asked)).outputs
        assert len(entry["copies"]) == 4
        for k, copy in enumerate(entry["copies"]):
            assert list(copy) == ["theta", "theta_rectifying", "exact", "image"]
            np.testing.assert_array_equal(pixels(copy["image"]), truth["images"][k])
            np.testing.assert_array_equal(copy["theta"], truth["theta"][k])
            np.testing.assert_array_equal(copy["theta_rectifying"], truth["theta_rectifying"][k])
        assert len({copy["image"] for copy in entry["copies"]}) == 4


async def test_a_copy_depends_on_the_image_the_recipe_the_seed_and_its_number_alone(http: httpx.AsyncClient) -> None:
    recipe = load_recipe("rotation").model_dump(mode="json")
    many = results(await http.post("/v1/augment?recipe=rotation&copies=3", **as_files(FILES[:3])))
    one = results(await http.post("/v1/augment?recipe=rotation&seed=0", **as_files([FILES[2], FILES[1]])))
    files = {**as_files(FILES[1:2]), "data": {"recipe": json.dumps(recipe)}}
    inline = results(await http.post("/v1/augment", **files))
    body = {"images": [base64.b64encode(FILES[1]).decode()], "parameters": {"recipe": recipe, "copies": 2}}
    as_json = results(await http.post("/v1/augment", json=body))
    uploaded = results(
        await http.post(
            "/v1/augment", files=[("recipe", ("r.json", json.dumps(recipe))), as_files(FILES[1:2])["files"][0]]
        )
    )
    assert [entry["copies"][0] for entry in one] == [many[2]["copies"][0], many[1]["copies"][0]]
    assert inline[0]["copies"] == uploaded[0]["copies"] == many[1]["copies"][:1]
    assert as_json[0]["copies"] == many[1]["copies"][:2]
    other = results(await http.post("/v1/augment?recipe=rotation&seed=1", **as_files(FILES[1:2])))
    assert other[0]["copies"] != inline[0]["copies"]


async def test_augment_keeps_colours_and_sizes_of_its_own_and_puts_images_on_a_canvas(http: httpx.AsyncClient) -> None:
    asked = {"recipe": "camera", "seed": 0}
    files = [encoded(COLOUR), FILES[0], encoded(COLOUR, "WEBP", lossless=True)]
    entries = results(await http.post("/v1/augment?recipe=camera", **as_files(files)))
    for entry, images in zip(entries, (COLOUR[None], DIGITS[:1], COLOUR[None]), strict=True):
        truth = outputs(await infer(http, "augment", {"images": images}, parameters=asked))
        np.testing.assert_array_equal(pixels(entry["copies"][0]["image"]), truth.outputs["images"][0])
        assert entry["by_imgaug"] == truth.parameters["by_imgaug"]
    (entry,) = results(await http.post("/v1/augment?recipe=rotation-scale-translation", **as_files(FILES[:1])))
    assert pixels(entry["copies"][0]["image"]).shape == (42, 42, 1)


async def test_a_body_may_be_compressed(http: httpx.AsyncClient) -> None:
    request = http.build_request("POST", "/v1/predict", **as_files(FILES[:1]))
    headers = {"content-type": request.headers["content-type"], "content-encoding": "gzip"}
    (entry,) = results(await http.post("/v1/predict", content=gzip.compress(request.read()), headers=headers))
    assert entry["label"] == 0


async def test_a_long_name_comes_back_shortened(http: httpx.AsyncClient) -> None:
    name = "../" * 200 + "ü\n.png"
    (entry,) = results(await http.post("/v1/predict", files={"image": (name, FILES[0])}))
    assert len(entry["name"]) == 159
    assert entry["name"].startswith("../../")


async def test_more_files_than_are_under_way_at_once(engine: Any) -> None:
    settings = make_settings(**(ROOMY | {"max_images": 600, "max_request_bytes": 1_000_000}))
    async with gateway(engine, settings=settings) as http:
        entries = results(await http.post("/v1/classify", **as_files([FILES[number % 10] for number in range(600)])))
    assert [entry["label"] for entry in entries] == [number % 10 for number in range(600)]


def test_outputs_of_any_model_appear_under_their_own_names() -> None:
    outputs = (
        TensorSpec("rectified", (-1, 4, 4, 1), ("UINT8",)),
        TensorSpec("label", (-1,), ("INT64",)),
        TensorSpec("probabilities", (-1, 3), ("FP32",)),
        TensorSpec("confidence", (-1,), ("FP32",)),
        TensorSpec("decision", (-1,), ("BYTES",)),
        TensorSpec("points", (-1, 2, 2), ("FP64",)),
        TensorSpec("whole", (-1, -1, -1, 3), ("UINT8",)),
    )
    spec = ModelSpec("odd", "3", (), outputs, (), {"classes": ["a", "b", "a"]})
    made = {
        "rectified": np.full((1, 4, 4, 1), 7, np.uint8),
        "label": np.array([2]),
        "probabilities": np.array([[0.25, 0.15, 0.6]], np.float32),
        "confidence": np.array([0.1], np.float32),
        "decision": bytes_tensor(["gerichtet ä".encode()]),
        "points": np.array([[[0.5, 1.0], [2.0, np.nan]]]),
        "whole": COLOUR[None],
        "between_stages": np.zeros(1),
    }
    asked, outcome = Ask(spec, {}, pictures=True), Outcome(made, {"note": "x"}, 1, 0)
    body = json.loads(json_answer(asked, ["n", None], [outcome, Overloaded("full", 2.5)], "/v1/odd").body)
    entry, refused = body["results"]
    assert list(entry)[:4] == ["name", "label", "class", "probability"]
    assert entry["probabilities"] == {"a": 0.6, "b": 0.15}
    assert (entry["label"], entry["class"], entry["probability"]) == (2, "a", 0.6)
    assert (entry["confidence"], entry["decision"], entry["note"]) == (0.1, "gerichtet ä", "x")
    assert entry["points"] == [[0.5, 1.0], [2.0, None]]
    np.testing.assert_array_equal(pixels(entry["image"])[..., 0], np.full((4, 4), 7))
    np.testing.assert_array_equal(pixels(entry["whole"]), COLOUR)
    assert "between_stages" not in entry
    assert refused["name"] is None
    assert refused["error"]["retry_after_s"] == 2.5
    failed = json_answer(asked, [None, "m"], [BadTensor("wrong"), Overloaded("full")], "/v1/odd")
    assert failed.status_code == 400
    assert json.loads(failed.body)["detail"] == "wrong"


async def test_files_count_as_requests_in_the_statistics(http: httpx.AsyncClient, images: np.ndarray) -> None:
    parts = [("image", ("a.png", encoded(images[0]))), ("image", ("b.png", b"nothing"))]
    assert (await http.post("/v1/predict", files=parts)).status_code == 200
    (told,) = (await http.get("/v2/models/predict/stats")).json()["model_stats"]
    counts = {name: told["inference_stats"][name]["count"] for name in ("success", "fail")}
    assert (told["inference_count"], counts) == (1, {"success": 1, "fail": 1})
