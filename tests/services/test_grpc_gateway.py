"""The protocol over gRPC in process: every method, every error, asked by the unmodified Triton client."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from gateway_in_process import IDENTITY, RECIPE, make_links, make_settings
from grpc_in_process import asked, inputs_of, methods_over, served, why_not
from http_calls import bytes_tensor, encoded
from test_gateway import Odd
from tritonclient.grpc import InferRequestedOutput, service_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.grpc_methods import SERVICE, STREAM, UNARY, GrpcMethods
from stn_core.augment import augment
from stn_core.errors import Overloaded, Unavailable
from stn_core.recipes import load_recipe

MODELS = ("predict", "rectify", "straighten", "classify", "warp", "augment", "map")


@pytest.fixture
async def client(engine: Any) -> AsyncIterator[InferenceServerClient]:
    settings = make_settings()
    async with (
        served(methods_over(make_links(engine, settings), settings)) as address,
        InferenceServerClient(address) as connected,
    ):
        yield connected


async def refused(call: Any, code: str) -> str:
    """What a call is refused with, whose status code is checked."""
    with pytest.raises(InferenceServerException) as caught:
        await call
    assert caught.value.status() == f"StatusCode.{code}"
    return str(caught.value.message())


def test_all_of_the_protocols_methods_are_there() -> None:
    names = {method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    assert {*UNARY, STREAM} == names
    assert all(callable(getattr(GrpcMethods, name)) for name in names)


async def test_health(client: InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("augment")
    assert await client.is_model_ready("augment", "1")
    assert not await client.is_model_ready("augment", "2")
    assert not await client.is_model_ready("nobody")


async def test_metadata(client: InferenceServerClient) -> None:
    server = await client.get_server_metadata(as_json=True)
    assert server["name"] == "stn-rectify"
    assert {"classification", "model_configuration", "statistics"} <= set(server["extensions"])
    model = await client.get_model_metadata("predict", as_json=True)
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": ["-1", "28", "28", "1"]}]
    assert [output["name"] for output in model["outputs"]][:4] == ["label", "probabilities", "theta", "rectified"]
    assert "expected one of" in await refused(client.get_model_metadata("nobody"), "NOT_FOUND")


async def test_config(client: InferenceServerClient) -> None:
    config = (await client.get_model_config("predict")).config
    assert (config.name, config.max_batch_size) == ("predict", 50)
    assert list(config.input[0].dims) == [28, 28, 1]
    assert config.input[0].data_type == service_pb2.model__config__pb2.DataType.TYPE_UINT8
    assert json.loads(config.parameters["classes"].string_value) == [str(digit) for digit in range(10)]
    await refused(client.get_model_config("predict", "2"), "NOT_FOUND")


async def test_repository_index(client: InferenceServerClient) -> None:
    index = await client.get_model_repository_index()
    assert [(model.name, model.version, model.state) for model in index.models] == [
        (name, "1", "READY") for name in MODELS
    ]


async def test_every_model_answers_what_its_metadata_says(client: InferenceServerClient, images: np.ndarray) -> None:
    sizes = np.full((3, 2), 28, np.int64)
    points = {"points": np.ones((3, 5, 2)), "theta": IDENTITY, "rectified_size": sizes, "source_size": sizes}
    given = {
        "predict": ({"images": images}, {}),
        "rectify": ({"images": images}, {}),
        "classify": ({"images": images}, {}),
        "warp": ({"images": images, "theta": IDENTITY}, {}),
        "augment": ({"images": images, "ids": np.arange(3, dtype=np.uint64)}, RECIPE),
        "straighten": ({"images": images}, {}),
        "map": (points, {}),
    }
    assert sorted(given) == sorted(MODELS)
    for model, (inputs, parameters) in given.items():
        result = await client.infer(model, inputs_of(inputs), request_id=f"q-{model}", parameters=parameters)
        assert result.get_response().id == f"q-{model}"
        assert result.get_response().model_name == model
        config = (await client.get_model_config(model)).config
        optional = json.loads(config.parameters["optional_outputs"].string_value or "[]")
        for tensor in (await client.get_model_metadata(model)).outputs:
            if tensor.name in optional:
                assert result.as_numpy(tensor.name) is None
                continue
            array = result.as_numpy(tensor.name)
            assert len(array) == 3
            assert all(said in (-1, side) for side, said in zip(array.shape, tensor.shape, strict=True))


async def test_predict_equals_the_engine(client: InferenceServerClient, engine: Any, images: np.ndarray) -> None:
    result = await client.infer("predict", inputs_of({"images": images}), model_version="1")
    rectified, theta = engine.rectify(images)
    np.testing.assert_allclose(result.as_numpy("theta"), theta, atol=1e-5)
    np.testing.assert_allclose(result.as_numpy("rectified"), rectified, atol=1)
    np.testing.assert_array_equal(result.as_numpy("label"), engine.classify(rectified)[0])


async def test_encoded_images_and_compressed_messages(client: InferenceServerClient, images: np.ndarray) -> None:
    pixels = await client.infer("rectify", inputs_of({"images": images}))
    files = inputs_of({"images": bytes_tensor([encoded(image) for image in images])})
    for options in ({}, {"compression_algorithm": "gzip"}, {"compression_algorithm": "deflate"}):
        result = await client.infer("rectify", files, **options)
        np.testing.assert_array_equal(result.as_numpy("rectified"), pixels.as_numpy("rectified"))


async def test_typed_contents_are_read_as_raw_ones_are(client: InferenceServerClient, images: np.ndarray) -> None:
    raw = await client.infer("rectify", inputs_of({"images": images}))
    request = service_pb2.ModelInferRequest(model_name="rectify")
    tensor = request.inputs.add(name="images", datatype="UINT8", shape=images.shape)
    tensor.contents.uint_contents.extend(images.reshape(-1).tolist())
    answer = await client._client_stub.ModelInfer(request)
    assert answer.raw_output_contents[1] == raw.as_numpy("theta").tobytes()


async def test_only_what_was_asked_comes_back(client: InferenceServerClient, images: np.ndarray) -> None:
    asked = [InferRequestedOutput("exact"), InferRequestedOutput("images")]
    result = await client.infer("augment", inputs_of({"images": images}), outputs=asked, parameters=RECIPE)
    assert [output.name for output in result.get_response().outputs] == ["exact", "images"]
    expected = augment(images, load_recipe("tutorial-mix"), 0).images
    np.testing.assert_array_equal(result.as_numpy("images"), expected)


async def test_an_inline_recipe_and_what_the_answer_says_of_it(
    client: InferenceServerClient, images: np.ndarray
) -> None:
    recipe = load_recipe("camera").model_dump_json()
    result = await client.infer("augment", inputs_of({"images": images}), parameters={"recipe": recipe, "seed": 1})
    said = result.get_response().parameters["by_imgaug"].string_param
    assert said == "gaussian_blur,gaussian_noise,contrast,brightness"


async def test_bad_requests(client: InferenceServerClient, images: np.ndarray) -> None:
    inputs = inputs_of({"images": images})
    bad = "INVALID_ARGUMENT"
    assert "[N, 28, 28, 1]" in await refused(client.infer("predict", inputs_of({"images": images[:, 1:]})), bad)
    assert "expected images" in await refused(client.infer("predict", inputs_of({"image": images})), bad)
    asked = [InferRequestedOutput("logits")]
    assert "label, probabilities" in await refused(client.infer("predict", inputs, outputs=asked), bad)
    assert "nobody" in await refused(client.infer("augment", inputs, parameters={"recipe": "nobody", "seed": 1}), bad)
    assert "parameters.seed" in await refused(client.infer("augment", inputs, parameters={"recipe": "jitter"}), bad)
    assert "microseconds" in await refused(client.infer("predict", inputs, timeout=-1), bad)
    assert "expected images" in await refused(client.infer("predict", []), bad)
    await client.infer("predict", inputs)


async def test_unknown_models_and_versions(client: InferenceServerClient, images: np.ndarray) -> None:
    inputs = inputs_of({"images": images})
    assert "predict, rectify" in await refused(client.infer("nobody", inputs), "NOT_FOUND")
    assert "expected the version 1, got '2'" in await refused(client.infer("predict", inputs, "2"), "NOT_FOUND")
    assert len(await refused(client.infer("x" * 5000, inputs), "NOT_FOUND")) < 300


async def test_messages_over_the_limits(client: InferenceServerClient) -> None:
    detail = await refused(
        client.infer("predict", inputs_of({"images": np.zeros((128, 28, 28, 1), np.uint8)})), "RESOURCE_EXHAUSTED"
    )
    assert "at most 100000 bytes, got 100" in detail
    detail = await refused(
        client.infer("predict", inputs_of({"images": np.zeros((51, 28, 28, 1), np.uint8)})), "RESOURCE_EXHAUSTED"
    )
    assert "at most 50 in one request, got 51" in detail


async def test_what_is_not_served_says_what_to_do(client: InferenceServerClient) -> None:
    absent = "UNIMPLEMENTED"
    assert "shared memory is not served" in await refused(client.get_system_shared_memory_status(), absent)
    assert "cuda shared memory" in await refused(client.register_cuda_shared_memory("a", b"", 0, 1), absent)
    assert "not traced" in await refused(client.get_trace_settings(), absent)
    assert "logging_config" in await refused(client.update_log_settings({"log_info": True}), absent)


async def test_load_and_unload(client: InferenceServerClient) -> None:
    assert await client.load_model("predict") is None
    assert "without parameters" in await refused(client.load_model("predict", config="{}"), "UNIMPLEMENTED")
    assert "stop the service" in await refused(client.unload_model("predict"), "UNIMPLEMENTED")
    for call in (client.load_model, client.unload_model):
        assert "got 'nobody'" in await refused(call("nobody"), "NOT_FOUND")


async def test_the_best_classes_by_name(client: InferenceServerClient, images: np.ndarray) -> None:
    inputs = inputs_of({"images": images})
    best = [InferRequestedOutput("probabilities", class_count=2), InferRequestedOutput("label")]
    result = await client.infer("predict", inputs, outputs=best)
    texts = [text.decode().split(":") for text in result.as_numpy("probabilities")[:, 0]]
    assert [int(number) for _, number, _ in texts] == result.as_numpy("label").tolist()
    assert result.as_numpy("probabilities").shape == (3, 2)
    asked = [InferRequestedOutput("theta", class_count=2)]
    assert "no best classes" in await refused(client.infer("predict", inputs, outputs=asked), "INVALID_ARGUMENT")


async def test_a_decision_is_asked_for_by_a_parameter(client: InferenceServerClient, images: np.ndarray) -> None:
    result = await client.infer("rectify", inputs_of({"images": images}), parameters={"max_turn_deg": 1e-6})
    assert result.as_numpy("decision").tolist() == [b"kept"] * 3
    np.testing.assert_array_equal(result.as_numpy("rectified"), images)


async def counted(client: InferenceServerClient, model: str) -> tuple[int, int, int]:
    """Images answered, requests answered, requests refused."""
    (one,) = (await client.get_inference_statistics(model)).model_stats
    return one.inference_count, one.inference_stats.success.count, one.inference_stats.fail.count


async def test_requests_are_counted(client: InferenceServerClient, images: np.ndarray) -> None:
    inputs = inputs_of({"images": images})
    await client.infer("rectify", inputs)
    assert [await counted(client, model) for model in ("rectify", "predict")] == [(3, 1, 0), (0, 0, 0)]
    bad = "INVALID_ARGUMENT"
    await refused(client.infer("rectify", inputs_of({"images": images[:, 1:]})), bad)
    await refused(client.infer("rectify", inputs, timeout=-1), bad)
    await refused(client.infer("rectify", inputs, outputs=[InferRequestedOutput("logits")]), bad)
    await refused(
        client.infer("rectify", inputs_of({"images": np.zeros((30, 60, 60, 1), np.uint8)})), "RESOURCE_EXHAUSTED"
    )
    await refused(client.infer("rectify", inputs, timeout=1), "DEADLINE_EXCEEDED")
    assert await counted(client, "rectify") == (3, 1, 5)
    answers = [one async for one in client.stream_infer(asked([{"model_name": "rectify", "inputs": inputs}] * 2))]
    assert len(answers) == 2
    assert await counted(client, "rectify") == (9, 3, 5)
    (one,) = (await client.get_inference_statistics("rectify", "1")).model_stats
    assert (one.name, one.version, one.execution_count) == (
        "rectify",
        "1",
        sum(b.compute_infer.count for b in one.batch_stats),
    )
    assert 0 < one.inference_stats.compute_infer.ns < one.inference_stats.success.ns
    assert [one.name for one in (await client.get_inference_statistics()).model_stats] == list(MODELS)
    assert "got 'nobody'" in await refused(client.get_inference_statistics("nobody"), "NOT_FOUND")


async def test_bytes_that_are_no_message(client: InferenceServerClient) -> None:
    for method in ("ModelInfer", "ModelConfig", "ModelReady", "RepositoryIndex"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client._channel.unary_unary(f"/{SERVICE}/{method}")(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_may_ask_for_a_shorter_timeout(client: InferenceServerClient, images: np.ndarray) -> None:
    inputs = inputs_of({"images": images})
    assert "within 1e-06 s" in await refused(client.infer("predict", inputs, timeout=1), "DEADLINE_EXCEEDED")
    await client.infer("predict", inputs, timeout=20_000_000)


async def test_a_slow_stage_times_out_and_a_client_that_leaves_takes_its_bytes_with_it(engine: Any) -> None:
    settings = make_settings(request_timeout_s=0.3, max_bytes_in_flight=100_000)
    links = make_links(engine, settings) | {"classifier": Odd(seconds=60)}
    large = inputs_of({"images": np.zeros((30, 28, 28, 1), np.float32)})  # one of them fits
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        assert await why_not(client, large, client_timeout=0.1) == "Deadline Exceeded"
        async with asyncio.timeout(20):
            while await counted(client, "classify") != (0, 0, 1):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            while "of 100000 bytes" in await why_not(client, large, timeout=1):
                await asyncio.sleep(0.01)
        reasons = sorted(await asyncio.gather(*(why_not(client, large) for _ in range(3))))
        assert "no answer within 0.3 s" in reasons[0]
        assert all("of 100000 bytes" in reason for reason in reasons[1:])


async def test_inference_takes_the_short_cut_where_there_is_one(
    engine: Any, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    links = make_links(engine, settings)
    gone = methods_over(links | {"rectifier": Odd(Unavailable("gone"), ready=False)}, settings)
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        monkeypatch.setattr(GrpcMethods, "here", gone)
        assert await refused(client.infer("rectify", inputs_of({"images": images})), "UNAVAILABLE") == "gone"
        assert await client.is_model_ready("rectify")  # which goes the long way
        monkeypatch.setattr(GrpcMethods, "here", None)
        await client.infer("rectify", inputs_of({"images": images}))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Overloaded("full", 2.5), grpc.StatusCode.UNAVAILABLE),
        (Unavailable("gone"), grpc.StatusCode.UNAVAILABLE),
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_errors_of_stages(
    engine: Any, images: np.ndarray, error: Exception, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"rectifier": Odd(error)}
    logging.getLogger("ray.serve").propagate = True
    request = service_pb2.ModelInferRequest(model_name="rectify", raw_input_contents=[images.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=images.shape)
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client._client_stub.ModelInfer(request)
    assert caught.value.code() is code
    pushback_ms = dict(caught.value.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
    assert pushback_ms == ("2500" if isinstance(error, Overloaded) else None)
    assert "secret" not in str(caught.value.details())
    assert ("secret" in caplog.text) == (code is grpc.StatusCode.INTERNAL)


async def test_an_unready_stage_makes_its_models_unready(engine: Any) -> None:
    settings = make_settings()
    links = make_links(engine, settings) | {"classifier": Odd(ready=False)}
    async with served(methods_over(links, settings)) as address, InferenceServerClient(address) as client:
        assert await client.is_server_live()
        assert not await client.is_server_ready()
        assert not await client.is_model_ready("predict")
        assert await client.is_model_ready("rectify")
        states = {model.name: model for model in (await client.get_model_repository_index()).models}
        assert states["predict"].state == "UNAVAILABLE"
        assert "classifier" in states["predict"].reason
        assert states["warp"].state == "READY"
        ready = await client._client_stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(ready=True))
        assert [model.name for model in ready.models] == ["rectify", "warp", "augment", "map"]
