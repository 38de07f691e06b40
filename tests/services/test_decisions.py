"""Decisions over HTTP in process: asked for by an output or a limit, told with a reason and a confidence."""

from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, infer, make_links, make_settings
from http_calls import bytes_tensor, encoded, outputs, problem

from services.decisions import DECIDE, OUTPUTS, PARAMETERS
from stn_core.augment import augment
from stn_core.bundle import read_manifest
from stn_core.confidence import DECISION_FILE
from stn_core.decision import Limits
from stn_core.errors import InvalidInput
from stn_core.recipes import load_recipe


@pytest.fixture
def crooked(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Turned digits, and two images of noise."""
    turned = augment(digits[0][:20], load_recipe("rotation"), 3).images
    noise = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    return np.concatenate([turned, noise])


async def test_every_limit_is_a_parameter() -> None:
    assert set(PARAMETERS) == {DECIDE, *Limits.model_fields}


@pytest.mark.parametrize("model", ["predict", "rectify"])
async def test_it_is_decided_by_the_bundles_own_limits(
    http: httpx.AsyncClient, engine: Any, crooked: np.ndarray, model: str
) -> None:
    found = outputs(await infer(http, model, {"images": crooked}, parameters={"decide": True})).outputs
    assert [reason.decode() for reason in found["reason"]] == engine.decide(crooked).decisions.reasons()
    assert found["decision"].tolist().count(b"kept") >= 2
    plain = outputs(await infer(http, model, {"images": crooked}, parameters={"decide": False})).outputs
    assert not plain.keys() & set(OUTPUTS)


async def test_decide_is_true_or_false(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    answer = await infer(http, "predict", {"images": crooked}, parameters={"decide": "yes"})
    assert "parameters.decide: expected true or false" in problem(answer, 400, InvalidInput.code)


async def test_nothing_is_decided_unless_asked_for(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    for model in ("predict", "rectify"):
        found = outputs(await infer(http, model, {"images": crooked[:3]})).outputs
        assert not found.keys() & set(OUTPUTS)


@pytest.mark.parametrize("model", ["predict", "rectify"])
async def test_the_answer_is_the_engines(http: httpx.AsyncClient, engine: Any, crooked: np.ndarray, model: str) -> None:
    found = outputs(await infer(http, model, {"images": crooked}, parameters={"min_confidence": 0.9})).outputs
    expected = engine.decide(crooked, min_confidence=0.9)
    np.testing.assert_array_equal(found["rectified"], expected.images)
    np.testing.assert_allclose(found["theta"], expected.theta, atol=1e-5)
    np.testing.assert_allclose(found["theta_applied"], expected.theta_applied, atol=1e-5)
    np.testing.assert_allclose(found["confidence"], expected.decisions.confidence, atol=1e-4)
    assert [reason.decode() for reason in found["reason"]] == expected.decisions.reasons()
    words = np.where(expected.decisions.rectified, b"rectified", b"kept").tolist()
    assert found["decision"].tolist() == words
    assert {b"rectified", b"kept"} == set(words)
    if model == "predict":
        np.testing.assert_array_equal(found["label"], engine.classify(expected.images)[0])


async def test_what_is_kept_is_the_image_itself(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    found = outputs(await infer(http, "rectify", {"images": crooked}, parameters={"max_turn_deg": 0.0})).outputs
    kept = found["decision"] == b"kept"
    assert kept.sum() > 15
    np.testing.assert_array_equal(found["rectified"][kept], crooked[kept])
    np.testing.assert_array_equal(
        found["theta_applied"][kept], np.tile(np.eye(2, 3, dtype=np.float32), (kept.sum(), 1, 1))
    )
    assert b"turn" in found["reason"][kept].tolist()


async def test_an_output_asks_too(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    found = outputs(await infer(http, "rectify", {"images": crooked}, outputs=["theta", "confidence"])).outputs
    assert list(found) == ["theta", "confidence"]
    assert found["confidence"][:20].mean() > found["confidence"][20:].max()  # digits, noise


async def test_a_higher_threshold_keeps_more(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    kept = []
    for least in (0.0, 0.5, 0.9, 1.0):
        answer = await infer(http, "rectify", {"images": crooked}, parameters={"min_confidence": least})
        kept.append(int((outputs(answer).outputs["decision"] == b"kept").sum()))
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"min_confidence": 1.5}, "limits: min_confidence"),
        ({"max_scale": "large"}, "limits: max_scale"),
        ({"max_turn_deg": -1}, "limits: max_turn_deg"),
    ],
)
async def test_limits_that_make_no_sense(
    http: httpx.AsyncClient, crooked: np.ndarray, parameters: dict[str, Any], expected: str
) -> None:
    answer = await infer(http, "predict", {"images": crooked}, parameters=parameters)
    assert expected in problem(answer, 400, "invalid-input")


async def test_a_bundle_without_confidence(engine: Any, crooked: np.ndarray) -> None:
    manifest = read_manifest("digits")
    files = {name: digest for name, digest in manifest.files.items() if name != DECISION_FILE}
    settings = make_settings()
    older = manifest.model_copy(update={"files": files})
    async with client_of(make_links(engine, settings), settings, older) as http:
        for asked in ({"parameters": {"min_confidence": 0.5}}, {"outputs": ["confidence"]}):
            answer = await infer(http, "rectify", {"images": crooked}, **asked)  # type: ignore[arg-type]
            assert "stn calibrate" in problem(answer, 501, "unsupported")
        assert (await infer(http, "rectify", {"images": crooked}, parameters={"max_scale": 2.0})).status_code == 200


async def test_at_full_size_too(engine: Any, crooked: np.ndarray) -> None:
    settings = make_settings(max_pixels_per_image=1_000_000, max_decoded_bytes=4_000_000)
    large = [image.repeat(4, 0).repeat(4, 1) for image in (crooked[0], crooked[-1])]
    files = bytes_tensor([encoded(image) for image in large])
    async with client_of(make_links(engine, settings), settings) as http:
        answer = await infer(http, "straighten", {"images": files}, parameters={"min_confidence": 0.5})
    found = outputs(answer).outputs
    assert found["decision"].tolist() == [b"rectified", b"kept"]
    assert found["rectified_size"][1].tolist() == [112, 112]
    np.testing.assert_array_equal(found["theta"][1], np.eye(2, 3))


async def test_for_files(http: httpx.AsyncClient, crooked: np.ndarray) -> None:
    parts = [("image", (f"{k}.png", encoded(crooked[k]))) for k in (0, -1)]
    results = (await http.post("/v1/predict", files=parts, data={"min_confidence": "0.5"})).json()["results"]
    assert [result["decision"] for result in results] == ["rectified", "kept"]
    assert results[1]["reason"] == "low-confidence"
    assert results[0]["confidence"] > 0.5 > results[1]["confidence"]
    plain = (await http.post("/v1/predict", files=parts[:1])).json()["results"][0]
    assert not plain.keys() & set(OUTPUTS)
