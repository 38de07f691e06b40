"""The protocol's extensions through the real Ray Serve and its proxy, by the unmodified Triton clients and by hand."""

from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from http_calls import binary, encoded, outputs, problem

pytestmark = pytest.mark.service

Digits = tuple[np.ndarray, np.ndarray]


def digits_input(images: np.ndarray) -> list[triton.InferInput]:
    return [triton.InferInput("images", list(images.shape), "UINT8").set_data_from_numpy(images)]


async def test_the_asyncio_client(service_url: str, digits: Digits) -> None:
    images = digits[0][:200]
    async with triton_aio.InferenceServerClient(service_url.removeprefix("http://")) as client:
        assert await client.is_server_ready()
        assert "statistics" in (await client.get_server_metadata())["extensions"]
        before = (await client.get_inference_statistics("predict"))["model_stats"][0]
        best = triton.InferRequestedOutput("probabilities", class_count=2)
        told = await client.infer("predict", digits_input(images), "1", outputs=[best])
        packed = await client.infer("predict", digits_input(images), response_compression_algorithm="gzip")
        after = (await client.get_inference_statistics("predict", "1"))["model_stats"][0]
    texts = told.as_numpy("probabilities")
    assert texts.shape == (200, 2)
    first = [int(text.split(b":")[1]) for text in texts[:, 0]]
    assert first == packed.as_numpy("label").tolist()
    assert after["inference_count"] - before["inference_count"] == 400
    assert after["execution_count"] > before["execution_count"]
    ran = after["inference_stats"]["compute_infer"]["ns"] - before["inference_stats"]["compute_infer"]["ns"]
    assert 0 < ran < after["inference_stats"]["success"]["ns"] - before["inference_stats"]["success"]["ns"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_answers(service_url: str, digits: Digits, algorithm: str) -> None:
    given = digits_input(digits[0][:300])
    with triton.InferenceServerClient(service_url.removeprefix("http://")) as client:
        packed = client.infer("rectify", given, response_compression_algorithm=algorithm)
        plain = client.infer("rectify", given)
    np.testing.assert_array_equal(packed.as_numpy("rectified"), plain.as_numpy("rectified"))
    message = binary({"images": digits[0][:300]})
    message["headers"]["accept-encoding"] = algorithm
    answer = httpx.post(f"{service_url}/v2/models/rectify/infer", **message, timeout=60)
    assert answer.headers["content-encoding"] == algorithm
    assert int(answer.headers["content-length"]) < len(answer.content) / 2
    np.testing.assert_array_equal(outputs(answer).outputs["rectified"], plain.as_numpy("rectified"))


@pytest.mark.parametrize("path", ["/v2/models/predict/infer", "/v2/models/predict/versions/1/infer"])
def test_a_raw_image(service_url: str, digits: Digits, path: str) -> None:
    headers = {"inference-header-content-length": "0"}
    expected = outputs(httpx.post(f"{service_url}{path}", **binary({"images": digits[0][:1]}), timeout=60)).outputs
    for body in (digits[0][0].tobytes(), encoded(digits[0][0])):
        told = outputs(httpx.post(f"{service_url}{path}", content=body, headers=headers, timeout=60)).outputs
        np.testing.assert_array_equal(told["rectified"], expected["rectified"])
        np.testing.assert_allclose(told["probabilities"], expected["probabilities"], atol=1e-5)
    answer = httpx.post(f"{service_url}/v2/models/warp/infer", content=b"\1" * 784, headers=headers)
    assert "needs images, theta" in problem(answer, 400, "bad-tensor")


def test_the_repository_and_what_is_not_served(service_url: str) -> None:
    with triton.InferenceServerClient(service_url.removeprefix("http://")) as client:
        index = client.get_model_repository_index()
        assert {entry["state"] for entry in index} == {"READY"}
        for entry in index:
            client.load_model(entry["name"])
        assert client.get_system_shared_memory_status() == []
        with pytest.raises(triton.InferenceServerException, match="cannot be unloaded while the service runs"):
            client.unload_model("predict")
        with pytest.raises(triton.InferenceServerException, match="not traced"):
            client.get_trace_settings()


def test_the_document_its_page_and_its_examples(service_url: str) -> None:
    assert "openapi.json" in httpx.get(f"{service_url}/docs").text
    document: dict[str, Any] = httpx.get(f"{service_url}/openapi.json").json()
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    answers = operation["responses"]["200"]["content"]["application/json"]["examples"]
    for model, example in operation["requestBody"]["content"]["application/json"]["examples"].items():
        told = httpx.post(f"{service_url}/v2/models/{model}/infer", json=example["value"], timeout=60).json()
        said = answers[model]["value"]
        assert [(o["name"], o["datatype"], o["shape"]) for o in told["outputs"]] == [
            (o["name"], o["datatype"], o["shape"]) for o in said["outputs"]
        ]
