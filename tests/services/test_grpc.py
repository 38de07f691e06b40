"""The real thing over gRPC: Ray Serve started by the launcher, asked by the unmodified Triton client."""

import asyncio
import contextlib
import inspect
import queue
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import yaml
from grpc_in_process import inputs_of
from http_calls import bytes_tensor, encoded
from service_process import REPOSITORY, launched, processes_marked, wait_for_url
from tritonclient.utils import InferenceServerException

from services.processes import free_ports
from stn_core.augment import augment
from stn_core.recipes import load_recipe

pytestmark = pytest.mark.service

Digits = tuple[np.ndarray, np.ndarray]
Call = Callable[..., Any]
MODELS = ("predict", "rectify", "straighten", "classify", "warp", "augment", "map")


class Both(NamedTuple):
    """A service that speaks both, and the mark that all its processes bear."""

    url: str
    address: str
    mark: str

    @property
    def grpc_port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextlib.contextmanager
def serving_both(config: str, folder: Path, port: int, *options: str) -> Iterator[Both]:
    with launched(config, folder / "log", *options) as (process, _, mark):
        yield Both(wait_for_url(process, folder / "log"), f"127.0.0.1:{port}", mark)
        process.terminate()
        assert process.wait(60) == 0, (folder / "log").read_text()
        assert f"gRPC at 127.0.0.1:{port}" in (folder / "log").read_text()
        assert not processes_marked(mark)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The two services of deploy/local.yaml."""
    (port,) = free_ports(1)
    with serving_both("deploy/local.yaml", tmp_path_factory.mktemp("grpc"), port, f"--grpc-port={port}") as service:
        yield service


@pytest.fixture
def client(both: Both) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(both.address) as connected:
        yield connected


@pytest.fixture(params=["plain", "asyncio"])
def call(request: pytest.FixtureRequest, both: Both) -> Iterator[Call]:
    """Calls a method of one of the two clients by its name."""
    if request.param == "plain":
        with triton.InferenceServerClient(both.address) as connected:
            yield lambda method, *args, **options: getattr(connected, method)(*args, **options)
        return

    async def once(method: str, *args: Any, **options: Any) -> Any:
        async with triton_aio.InferenceServerClient(both.address) as connected:
            return await getattr(connected, method)(*args, **options)

    yield lambda method, *args, **options: asyncio.run(once(method, *args, **options))


def refused(code: str, call: Any, *arguments: Any, **options: Any) -> str:
    """What a call is refused with, whose status code is checked."""
    with pytest.raises(InferenceServerException) as caught:
        call(*arguments, **options)
    assert caught.value.status() == f"StatusCode.{code}"
    return str(caught.value.message())


def test_the_tests_call_every_method_of_the_client() -> None:
    here = inspect.getsource(inspect.getmodule(test_the_tests_call_every_method_of_the_client))  # type: ignore[arg-type]
    for kind in (triton.InferenceServerClient, triton_aio.InferenceServerClient):
        methods = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        methods -= {"close", "plugin", "register_plugin", "unregister_plugin"}
        assert not [name for name in methods if f'"{name}"' not in here and f".{name}(" not in here]


def test_a_live_ready_described_server(call: Call) -> None:
    assert call("is_server_live")
    assert call("is_server_ready")
    assert call("get_server_metadata").name == "stn-rectify"
    for model in MODELS:
        metadata = call("get_model_metadata", model, "1")
        assert metadata.versions == ["1"]
        assert call("is_model_ready", model, "1")
        assert metadata.inputs[0].name == ("points" if model == "map" else "images")
        assert call("get_model_config", model).config.max_batch_size == 4096
    assert not call("is_model_ready", "nobody")
    assert "got 'nobody'" in refused("NOT_FOUND", call, "get_model_metadata", "nobody")
    assert "the version 1, got '7'" in refused("NOT_FOUND", call, "get_model_config", "predict", "7")


def test_infer_and_what_is_counted(call: Call, both: Both, digits: Digits) -> None:
    from stn_client import Client

    images = digits[0][:300]
    before = call("get_inference_statistics", "predict").model_stats[0]
    result = call("infer", "predict", inputs_of({"images": images}), "1", request_id="a-42")
    with Client(both.url) as http:
        expected = http.predict(images)
    refused("INVALID_ARGUMENT", call, "infer", "predict", inputs_of({"images": images[:, 1:]}))
    after = call("get_inference_statistics", "predict", "1").model_stats[0]
    assert result.get_response().id == "a-42"
    np.testing.assert_allclose(result.as_numpy("theta"), expected.theta, atol=1e-6)
    np.testing.assert_array_equal(result.as_numpy("label"), expected.label)
    np.testing.assert_allclose(result.as_numpy("rectified"), expected.rectified, atol=1)
    assert after.inference_count - before.inference_count == 2 * len(images)  # one process counts both protocols
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert {one.name for one in call("get_inference_statistics").model_stats} == set(MODELS)
    assert "got 'nobody'" in refused("NOT_FOUND", call, "get_inference_statistics", "nobody")


def test_encoded_images_requested_outputs_and_compression(call: Call, digits: Digits) -> None:
    images = digits[0][:4]
    files = inputs_of({"images": bytes_tensor([encoded(image) for image in images])})
    asked = [triton.InferRequestedOutput("theta"), triton.InferRequestedOutput("rectified")]
    plain = call("infer", "rectify", inputs_of({"images": images}))
    for coding in ("gzip", "deflate", None):
        result = call("infer", "rectify", files, outputs=asked, compression_algorithm=coding)
        assert [output.name for output in result.get_response().outputs] == ["theta", "rectified"]
        np.testing.assert_array_equal(result.as_numpy("rectified"), plain.as_numpy("rectified"))


def test_the_best_classes(call: Call, digits: Digits) -> None:
    inputs = inputs_of({"images": digits[0][:5]})
    asked = [triton.InferRequestedOutput("probabilities", class_count=2), triton.InferRequestedOutput("label")]
    result = call("infer", "predict", inputs, outputs=asked)
    texts = result.as_numpy("probabilities")
    assert texts.shape == (5, 2)
    assert [int(text.split(b":")[1]) for text in texts[:, 0]] == result.as_numpy("label").tolist()


def test_the_repository(call: Call) -> None:
    index = call("get_model_repository_index").models
    assert [(model.name, model.version, model.state) for model in index] == [(name, "1", "READY") for name in MODELS]
    assert call("load_model", "predict") is None
    assert "another bundle" in refused("UNIMPLEMENTED", call, "load_model", "predict", config="{}")
    assert "stop the service" in refused("UNIMPLEMENTED", call, "unload_model", "predict")
    assert "got 'nobody'" in refused("NOT_FOUND", call, "unload_model", "nobody")


def test_what_is_not_served_says_so(call: Call, digits: Digits) -> None:
    absent = "UNIMPLEMENTED"
    assert "not traced" in refused(absent, call, "get_trace_settings")
    assert "not traced" in refused(absent, call, "update_trace_settings", None, {"trace_level": ["TIMESTAMPS"]})
    assert "logging_config" in refused(absent, call, "get_log_settings")
    assert "logging_config" in refused(absent, call, "update_log_settings", {"log_verbose_level": 1})
    for method, *args in (
        ("get_system_shared_memory_status",),
        ("register_system_shared_memory", "r", "/key", 8),
        ("unregister_system_shared_memory", "r"),
        ("get_cuda_shared_memory_status",),
        ("register_cuda_shared_memory", "r", b"aGFuZGxl", 0, 8),
        ("unregister_cuda_shared_memory", "r"),
    ):
        assert "shared memory is not served" in refused(absent, call, method, *args)
    shared = triton.InferInput("images", [1, 28, 28, 1], "UINT8")
    shared.set_shared_memory("r", 784)
    assert "images: shared memory" in refused(absent, call, "infer", "predict", [shared])


def test_async_infer(client: triton.InferenceServerClient, digits: Digits) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(20):
        inputs = inputs_of({"images": digits[0][:2]})
        client.async_infer(
            "classify", inputs, lambda result, error: answers.put((result, error)), request_id=str(number)
        )
    given = [answers.get(timeout=60) for _ in range(20)]
    assert [error for _, error in given] == [None] * 20
    assert {result.get_response().id for result, _ in given} == {str(number) for number in range(20)}


async def test_the_asyncio_clients_stream(both: Both, digits: Digits) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, model in enumerate(("predict", "nobody", "rectify")):
            yield {"model_name": model, "inputs": inputs_of({"images": digits[0][:2]}), "request_id": str(number)}

    async with triton_aio.InferenceServerClient(both.address) as connected:
        answers = [answer async for answer in connected.stream_infer(requests())]
    assert [error is None for _, error in answers] == [True, False, True]
    assert answers[2][0].get_response().id == "2"


def test_augment_is_what_the_library_does(client: triton.InferenceServerClient, digits: Digits) -> None:
    images = digits[0][:70]
    result = client.infer("augment", inputs_of({"images": images}), parameters={"recipe": "tutorial-mix", "seed": 5})
    expected = augment(images, load_recipe("tutorial-mix"), 5)
    np.testing.assert_array_equal(result.as_numpy("images"), expected.images)
    np.testing.assert_array_equal(result.as_numpy("theta"), expected.theta)
    assert result.as_numpy("exact").all()


def test_messages_larger_than_grpc_takes_by_itself(client: triton.InferenceServerClient) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1800, 1500, 3), np.uint8)  # 24 MB, there and back
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))
    warped = client.infer("warp", inputs_of({"images": images, "theta": theta})).as_numpy("images")
    np.testing.assert_array_equal(warped, images)


def test_errors(client: triton.InferenceServerClient, digits: Digits) -> None:
    inputs = inputs_of({"images": digits[0][:3]})
    assert "[N, 28, 28, 1]" in refused(
        "INVALID_ARGUMENT", client.infer, "predict", inputs_of({"images": digits[0][:3, 1:]})
    )
    assert "predict, rectify" in refused("NOT_FOUND", client.infer, "nobody", inputs)
    assert "version 1" in refused("NOT_FOUND", client.infer, "predict", inputs, "2")
    assert "1e-06 s" in refused("DEADLINE_EXCEEDED", client.infer, "predict", inputs, timeout=1)
    refused("DEADLINE_EXCEEDED", client.infer, "predict", inputs, client_timeout=1e-6)
    broken = triton.InferInput("images", [1], "BYTES")
    broken._raw_content = b"\xff\x00\x00\x00PNG"
    assert "1 elements, each a uint32 length" in refused("INVALID_ARGUMENT", client.infer, "predict", [broken])
    vast = triton.InferInput("images", [2**40, 2**40], "UINT8")
    vast._raw_content = b"x"
    assert "values, got the shape" in refused("INVALID_ARGUMENT", client.infer, "predict", [vast])
    typed = inputs_of({"images": digits[0][:3].astype(np.int32)})
    assert "INT32" in refused("INVALID_ARGUMENT", client.infer, "predict", typed)
    large = np.zeros((43_000, 28, 28, 1), np.uint8)
    assert "33554432" in refused("RESOURCE_EXHAUSTED", client.infer, "predict", inputs_of({"images": large}))
    packed = np.zeros((200_000, 28, 28, 1), np.uint8)  # few bytes that would become more than gRPC is to take
    gzip = {"compression_algorithm": "gzip"}
    refused("RESOURCE_EXHAUSTED", client.infer, "predict", inputs_of({"images": packed}), **gzip)
    client.infer("predict", inputs)


def test_a_deadline_of_the_client_ends_the_work(client: triton.InferenceServerClient, digits: Digits) -> None:
    def counted() -> tuple[int, int]:
        statistics = client.get_inference_statistics("augment").model_stats[0].inference_stats
        return statistics.success.count, statistics.fail.count

    succeeded, failed = counted()
    inputs = inputs_of({"images": digits[0][:4000]})
    parameters = {"recipe": "camera", "seed": 1}  # by imgaug, image by image: seconds
    refused("DEADLINE_EXCEEDED", client.infer, "augment", inputs, parameters=parameters, client_timeout=0.05)
    give_up_s = time.monotonic() + 30
    while counted() == (succeeded, failed) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert counted() == (succeeded, failed + 1)


def test_a_stream(client: triton.InferenceServerClient, digits: Digits) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    models = ["predict", "rectify", "nobody", "classify"] * 5
    for number, model in enumerate(models):
        client.async_stream_infer(model, inputs_of({"images": digits[0][:2]}), request_id=str(number))
    for number, model in enumerate(models):
        result, error = answers.get(timeout=60)
        if model == "nobody":
            assert "expected one of the models" in str(error)
        else:
            assert result.get_response().id == str(number)
    client.stop_stream()


async def test_many_concurrent_requests_each_get_their_own_answer(both: Both, digits: Digits) -> None:
    images = digits[0][:400]
    async with triton_aio.InferenceServerClient(both.address) as client:
        whole = await client.infer("predict", inputs_of({"images": images}))
        calls = [client.infer("predict", inputs_of({"images": images[i : i + 4]})) for i in range(0, 400, 4)]
        parts = await asyncio.gather(*calls)
    theta = np.concatenate([part.as_numpy("theta") for part in parts])
    np.testing.assert_allclose(theta, whole.as_numpy("theta"), atol=1e-5)


def answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


def test_grpc_listens_on_this_machine_alone(both: Both) -> None:
    """HAProxy, and behind it the replica and the fallback proxy, which Ray would have listen at all interfaces."""
    commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in processes_marked(both.mark)]
    (config,) = {words[words.index("-f") + 1] for words in commands if "haproxy" in words[0] and "-f" in words}
    lines = Path(config).read_text().splitlines()
    behind = {int(match[1]) for line in lines if (match := re.match(r" *server .*:(\d+) proto h2", line))}
    assert len(behind) == 2
    for port in (both.grpc_port, *behind):
        assert answers("127.0.0.1", port)
        assert not answers("127.0.0.2", port)  # this machine too, by another address


def test_the_page_runs(both: Both) -> None:
    page = (REPOSITORY / "docs/grpc.md").read_text()
    names: dict[str, Any] = {"address": both.address}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(block, names)
    assert names["rectified"].shape == (10, 28, 28, 1)


def test_a_port_for_each_that_is_free(both: Both) -> None:
    (free,) = free_ports(1)
    taken = str(both.grpc_port)
    for port, said in [(taken, f"port {taken} on 127.0.0.1 is in use"), (str(free), "a port each for HTTP and gRPC")]:
        options = [f"--port={free}", f"--grpc-port={port}"]
        command = [sys.executable, "-m", "services.launcher", "deploy/local.yaml", *options]
        result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert said in result.stderr


@pytest.mark.parametrize("option", ["--haproxy", "--no-haproxy"])
def test_the_long_way_through_ray(tmp_path: Path, digits: Digits, option: str) -> None:
    """Where an autoscaler must see each request, or there is no HAProxy, and messages go from process to process."""
    (port,) = free_ports(1)
    config = yaml.safe_load((REPOSITORY / "deploy/embedded.yaml").read_text())
    deployment = config["applications"][0]["deployments"][0]
    del deployment["num_replicas"]
    deployment["autoscaling_config"] = {"min_replicas": 1, "max_replicas": 1}
    functions = ["services.grpc_methods.add_to_server"]
    config["grpc_options"] = {"port": port, "grpc_servicer_functions": functions, "enable_reflection": False}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    with serving_both(str(tmp_path / "own.yaml"), tmp_path, port, option) as service:
        assert not answers("127.0.0.2", port)
        with triton.InferenceServerClient(service.address) as client:
            test_augment_is_what_the_library_does(client, digits)
            test_messages_larger_than_grpc_takes_by_itself(client)
            test_errors(client, digits)
            test_a_deadline_of_the_client_ends_the_work(client, digits)
            test_a_stream(client, digits)
