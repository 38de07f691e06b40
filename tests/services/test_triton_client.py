"""Every method of the unmodified Triton clients, plain and asyncio, against the gateway on a socket."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from gateway_in_process import IDENTITY, RECIPE, gateway_of, make_links, make_settings, on_a_socket
from http_calls import bytes_tensor, encoded
from tritonclient.utils import InferenceServerException

MODELS = ("predict", "rectify", "straighten", "classify", "warp", "augment", "map")
DATATYPES = {"uint8": "UINT8", "float16": "FP16", "float32": "FP32", "float64": "FP64", "object": "BYTES"}
DATATYPES |= {"bfloat16": "BF16", "uint64": "UINT64"}

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def address(engine: Any) -> Iterator[str]:
    settings = make_settings(max_request_bytes=2_000_000, max_decoded_bytes=4_000_000, max_images=600)
    with on_a_socket(gateway_of(make_links(engine, settings), settings)) as address:
        yield address


@pytest.fixture(scope="module", params=["plain", "asyncio"])
def call(request: pytest.FixtureRequest, address: str) -> Iterator[Call]:
    """Calls a method of one of the two clients by its name."""
    if request.param == "plain":
        with triton.InferenceServerClient(address) as client:
            yield lambda method, *args, **options: getattr(client, method)(*args, **options)
        return

    async def once(method: str, *args: Any, **options: Any) -> Any:
        async with triton_aio.InferenceServerClient(address) as client:
            return await getattr(client, method)(*args, **options)

    yield lambda method, *args, **options: asyncio.run(once(method, *args, **options))


def tensor(name: str, array: np.ndarray, binary_data: bool = True) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
    return given.set_data_from_numpy(array, binary_data=binary_data)


def refused(status: str, call: Call, *args: Any, **options: Any) -> str:
    """The message of an error whose body the client could read."""
    with pytest.raises(InferenceServerException) as raised:
        call(*args, **options)
    assert raised.value.status() == status
    assert raised.value.debug_details() is None  # or the client could not make sense of the body
    return str(raised.value.message())


def test_the_tests_call_every_method_of_the_client() -> None:
    here = inspect.getsource(inspect.getmodule(test_the_tests_call_every_method_of_the_client))  # type: ignore[arg-type]
    for client in (triton.InferenceServerClient, triton_aio.InferenceServerClient):
        methods = [name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")]
        local = {"close", "plugin", "register_plugin", "unregister_plugin", "parse_response_body"}
        missing = [
            name for name in methods if name not in local and f'"{name}"' not in here and f".{name}(" not in here
        ]
        assert not missing


def test_health(call: Call) -> None:
    assert call("is_server_live") is True
    assert call("is_server_ready") is True
    for model in MODELS:
        assert call("is_model_ready", model) is True
        assert call("is_model_ready", model, "1") is True
    assert call("is_model_ready", "nobody") is False
    assert call("is_model_ready", "predict", "2") is False


def test_metadata(call: Call) -> None:
    server = call("get_server_metadata")
    assert (server["name"], server["extensions"]) == (
        "stn-rectify",
        ["binary_tensor_data", "classification", "model_configuration", "parameters", "statistics"],
    )
    for version in ("", "1"):
        model = call("get_model_metadata", "predict", version)
        assert (model["name"], model["versions"]) == ("predict", ["1"])
        assert model["inputs"][0]["shape"] == [-1, 28, 28, 1]
        config = call("get_model_config", "predict", version)
        assert (config["name"], config["max_batch_size"]) == ("predict", 600)
        assert config["input"][0] == {"name": "images", "data_type": "TYPE_UINT8", "dims": [28, 28, 1]}
    assert "got 'nobody'" in refused("404", call, "get_model_metadata", "nobody")
    assert "expected the version 1, got '7'" in refused("404", call, "get_model_config", "predict", "7")


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "float64", "bfloat16", "object"])
def test_infer_takes_images_of_every_datatype(call: Call, engine: Any, images: np.ndarray, dtype: str) -> None:
    import ml_dtypes

    pixels = (images / 255).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    given = {
        "uint8": images,
        "object": bytes_tensor([encoded(image) for image in images]),
        "bfloat16": pixels,
    }.get(dtype)
    array = pixels.astype(dtype) if given is None else given
    result = call("infer", "predict", [tensor("images", array)], model_version="1", request_id="a-42")
    assert result.get_response()["id"] == "a-42"
    rectified, theta = engine.rectify(images)
    label, _ = engine.classify(rectified)
    np.testing.assert_allclose(result.as_numpy("theta"), theta, atol=0.02 if dtype == "bfloat16" else 1e-3)
    np.testing.assert_array_equal(result.as_numpy("label"), label)
    assert result.as_numpy("rectified").dtype == (np.uint8 if dtype in ("uint8", "object") else np.float32)


def test_infer_with_json_both_ways(call: Call, images: np.ndarray) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in ("theta", "label", "rectified")]
    as_json = call("infer", "predict", [tensor("images", images, binary_data=False)], outputs=outputs)
    as_binary = call("infer", "predict", [tensor("images", images)])
    assert as_json.get_output("rectified")["data"][:3] == [0, 0, 0]
    for name in ("theta", "label", "rectified"):
        np.testing.assert_array_equal(as_json.as_numpy(name), as_binary.as_numpy(name))


def test_infer_warps_and_augments(call: Call, images: np.ndarray) -> None:
    warped = call("infer", "warp", [tensor("images", images), tensor("theta", IDENTITY)])
    np.testing.assert_array_equal(warped.as_numpy("images"), images)
    made = call("infer", "augment", [tensor("images", images)], parameters=RECIPE)
    assert made.as_numpy("exact").tolist() == [True] * 3


@pytest.mark.parametrize("binary_data", [True, False])
def test_infer_gives_the_best_classes(call: Call, images: np.ndarray, binary_data: bool) -> None:
    best = triton.InferRequestedOutput("probabilities", binary_data=binary_data, class_count=3)
    texts = call("infer", "predict", [tensor("images", images)], outputs=[best]).as_numpy("probabilities")
    scores = call("infer", "predict", [tensor("images", images)]).as_numpy("probabilities")
    assert texts.shape == (3, 3)
    for row, text in zip(scores, texts, strict=True):
        parts = [one.decode().split(":") if isinstance(one, bytes) else one.split(":") for one in text]
        order = np.argsort(-row)[:3].tolist()
        assert [int(index) for _, index, _ in parts] == order
        assert [name for *_, name in parts] == [str(index) for index in order]
        np.testing.assert_allclose([float(value) for value, *_ in parts], row[order], atol=1e-6)


@pytest.mark.parametrize("answer", ["gzip", "deflate"])
@pytest.mark.parametrize("request_algorithm", ["gzip", "deflate", None])
def test_infer_with_compression(call: Call, digits: Any, answer: str, request_algorithm: str | None) -> None:
    given = [tensor("images", digits[0][:500])]
    packed = call(
        "infer",
        "rectify",
        given,
        request_compression_algorithm=request_algorithm,
        response_compression_algorithm=answer,
    )
    plain = call("infer", "rectify", given)
    for name in ("rectified", "theta"):
        np.testing.assert_array_equal(packed.as_numpy(name), plain.as_numpy(name))
    outputs = [triton.InferRequestedOutput("theta", binary_data=False)]
    packed = call("infer", "rectify", given, outputs=outputs, response_compression_algorithm=answer)
    np.testing.assert_allclose(packed.as_numpy("theta"), plain.as_numpy("theta"), rtol=1e-6)


def test_infer_ignores_hints_and_keeps_to_the_timeout(call: Call, images: np.ndarray) -> None:
    given = [tensor("images", images)]
    hints = {"priority": 1, "sequence_id": 7, "sequence_start": True, "sequence_end": True}
    result = call("infer", "classify", given, timeout=30_000_000, parameters={"custom": "x"}, **hints)
    np.testing.assert_array_equal(result.as_numpy("label"), call("infer", "classify", given).as_numpy("label"))
    assert "within 1e-06 s" in refused("504", call, "infer", "classify", given, timeout=1)


def test_async_infer(address: str, images: np.ndarray) -> None:
    with triton.InferenceServerClient(address, concurrency=4) as client:
        given = [tensor("images", images)]
        pending = [
            client.async_infer("predict", given, request_id=str(i), response_compression_algorithm="gzip")
            for i in range(8)
        ]
        results = [one.get_result() for one in pending]
    assert [result.get_response()["id"] for result in results] == [str(i) for i in range(8)]
    for result in results:
        np.testing.assert_array_equal(result.as_numpy("label"), results[0].as_numpy("label"))


def test_a_body_that_the_client_generated_for_another_transport(address: str, images: np.ndarray) -> None:
    import httpx

    body, length = triton.InferenceServerClient.generate_request_body([tensor("images", images)])
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = httpx.post(f"http://{address}/v2/models/predict/infer", content=body, headers=headers)
    parsed = triton.InferenceServerClient.parse_response_body(
        answer.content, header_length=int(answer.headers["Inference-Header-Content-Length"])
    )
    assert parsed.as_numpy("rectified").shape == (3, 28, 28, 1)


@pytest.mark.parametrize(
    ("inputs", "outputs", "status", "expected"),
    [
        ({"images": np.zeros((1, 20, 28, 1), np.uint8)}, None, "400", "expected [N, 28, 28, 1], got [N, 20, 28, 1]"),
        ({"image": np.zeros((1, 28, 28, 1), np.uint8)}, None, "400", "expected images, got image"),
        ({"images": np.zeros((601, 28, 28, 1), np.uint8)}, None, "413", "at most 600"),
        ({}, [triton.InferRequestedOutput("logits")], "400", "got 'logits'"),
        ({}, [triton.InferRequestedOutput("theta", class_count=2)], "400", "theta has no best classes"),
        ({}, [triton.InferRequestedOutput("label", class_count=-2)], "400", "number of classes from 1, got -2"),
    ],
)
def test_errors_of_infer(
    call: Call, images: np.ndarray, inputs: dict[str, np.ndarray], outputs: Any, status: str, expected: str
) -> None:
    given = [tensor(name, array) for name, array in (inputs or {"images": images}).items()]
    assert expected in refused(status, call, "infer", "predict", given, outputs=outputs)
    assert "got 'nobody'" in refused("404", call, "infer", "nobody", given)
    assert "got '9'" in refused("404", call, "infer", "predict", given, model_version="9")


def test_statistics(call: Call, images: np.ndarray) -> None:
    before = call("get_inference_statistics", "rectify")["model_stats"][0]
    call("infer", "rectify", [tensor("images", images)])
    refused("400", call, "infer", "rectify", [tensor("theta", IDENTITY)])
    (after,) = call("get_inference_statistics", "rectify", "1")["model_stats"]
    assert (after["name"], after["version"]) == ("rectify", "1")
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    counts = {
        name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"]
        for name in after["inference_stats"]
    }
    assert counts == {"success": 1, "fail": 1, "queue": 1, "compute_input": 1, "compute_infer": 1, "compute_output": 1}
    everything = call("get_inference_statistics")["model_stats"]
    assert [model["name"] for model in everything] == list(MODELS)
    assert "got 'nobody'" in refused("404", call, "get_inference_statistics", "nobody")
    assert "got '2'" in refused("404", call, "get_inference_statistics", "rectify", "2")


def test_repository(call: Call) -> None:
    index = call("get_model_repository_index")
    assert index == [{"name": name, "version": "1", "state": "READY", "reason": ""} for name in MODELS]
    assert call("load_model", "predict") is None
    assert "comes from the service's bundle" in refused("501", call, "load_model", "predict", config="{}")
    assert "got 'nobody'" in refused("404", call, "load_model", "nobody")
    assert "deploy it again with another bundle" in refused("501", call, "unload_model", "predict")
    assert "got 'nobody'" in refused("404", call, "unload_model", "nobody")


def test_what_is_not_served_says_so(call: Call) -> None:
    settings = {"trace_level": ["TIMESTAMPS"]}
    for model in (None, "predict"):
        assert "not traced" in refused("501", call, "get_trace_settings", model)
        assert "not traced" in refused("501", call, "update_trace_settings", model, settings)
    assert "logging_config" in refused("501", call, "get_log_settings")
    assert "logging_config" in refused("501", call, "update_log_settings", {"log_verbose_level": 1})


def test_shared_memory_is_not_there(call: Call, images: np.ndarray) -> None:
    assert call("get_system_shared_memory_status") == []
    assert call("get_cuda_shared_memory_status") == []
    for method, *args in (
        ("get_system_shared_memory_status", "r"),
        ("register_system_shared_memory", "r", "/key", 8),
        ("unregister_system_shared_memory",),
        ("unregister_system_shared_memory", "r"),
        ("get_cuda_shared_memory_status", "r"),
        ("register_cuda_shared_memory", "r", "aGFuZGxl", 0, 8),
        ("unregister_cuda_shared_memory",),
        ("unregister_cuda_shared_memory", "r"),
    ):
        assert "shared memory is not served" in refused("501", call, method, *args)
    shared = triton.InferInput("images", [1, 28, 28, 1], "UINT8")
    shared.set_shared_memory("r", 784)
    assert "shared memory is not served" in refused("501", call, "infer", "predict", [shared])
    output = triton.InferRequestedOutput("theta")
    output.set_shared_memory("r", 24)
    given = [tensor("images", images)]
    assert "shared memory is not served" in refused("501", call, "infer", "predict", given, outputs=[output])


def test_all_of_it_below_a_prefix(engine: Any, images: np.ndarray) -> None:
    settings = make_settings()
    with on_a_socket(gateway_of(make_links(engine, settings), settings), "/stn") as address:  # noqa: SIM117
        with triton.InferenceServerClient(f"{address}/stn") as client:
            assert client.is_server_ready()
            assert client.infer("predict", [tensor("images", images)]).as_numpy("label").shape == (3,)
            assert client.infer("predict", [tensor("images", images)], "1").as_numpy("label").shape == (3,)
            assert client.get_inference_statistics("predict")["model_stats"][0]["inference_count"] == 6
