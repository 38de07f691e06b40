"""The real thing: Ray Serve started by the launcher, spoken to over HTTP and by the unmodified Triton client."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from http_calls import binary, bytes_tensor, encoded, outputs, problem
from service_process import REPOSITORY, launched, processes_marked, running_service, wait_for_url

from services.processes import free_ports, holder_of_port
from services.settings import Limits, Settings, StageSettings
from stn_core.augment import augment
from stn_core.recipes import load_recipe

pytestmark = pytest.mark.service

Digits = tuple[np.ndarray, np.ndarray]


def ask(client: triton.InferenceServerClient, model: str, inputs: dict[str, np.ndarray], **options: Any) -> Any:
    names = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64", "uint64": "UINT64", "object": "BYTES"}
    tensors = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), names[array.dtype.name])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return client.infer(model, tensors, **options)


@pytest.fixture
def client(service_url: str) -> Any:
    with triton.InferenceServerClient(service_url.removeprefix("http://")) as connected:
        yield connected


def test_the_triton_client_sees_a_live_ready_described_server(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for model in ("predict", "rectify", "classify", "warp", "augment"):
        assert client.is_model_ready(model)
        metadata = client.get_model_metadata(model)
        assert client.is_model_ready(model, metadata["versions"][0])
        assert metadata["inputs"][0]["name"] == "images"
        assert client.get_model_config(model)["max_batch_size"] > 0


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_predict_equals_the_engine(client: Any, engine: Any, digits: Digits, dtype: str) -> None:
    images = digits[0][:300] if dtype == "uint8" else (digits[0][:300] / 255).astype(np.float32)
    result = ask(client, "predict", {"images": images}, request_id="a-42")
    rectified, theta = engine.rectify(images)
    label, probabilities = engine.classify(rectified)
    assert result.get_response()["id"] == "a-42"
    np.testing.assert_allclose(result.as_numpy("theta"), theta, atol=1e-5)
    np.testing.assert_allclose(result.as_numpy("rectified"), rectified, atol=1 if dtype == "uint8" else 1e-4)
    np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities, atol=1e-2)
    assert result.as_numpy("rectified").dtype == images.dtype
    assert result.as_numpy("label").dtype == np.int64
    assert (result.as_numpy("label") == label).mean() > 0.99


def test_rectify_then_classify_equals_predict(client: Any, digits: Digits) -> None:
    images = digits[0][:20]
    rectified = ask(client, "rectify", {"images": images}).as_numpy("rectified")
    whole, second = ask(client, "predict", {"images": images}), ask(client, "classify", {"images": rectified})
    np.testing.assert_array_equal(whole.as_numpy("rectified"), rectified)
    np.testing.assert_allclose(second.as_numpy("probabilities"), whole.as_numpy("probabilities"), atol=1e-5)


def test_outputs_come_as_asked_binary_or_json(client: Any, digits: Digits) -> None:
    asked = [
        triton.InferRequestedOutput("theta", binary_data=False),
        triton.InferRequestedOutput("label", binary_data=True),
    ]
    result = ask(client, "predict", {"images": digits[0][:3]}, outputs=asked)
    first, second = result.get_response()["outputs"]
    assert (first["name"], len(first["data"])) == ("theta", 18)
    assert (second["name"], second["parameters"]) == ("label", {"binary_data_size": 24})
    assert result.as_numpy("theta").shape == (3, 2, 3)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client: Any, digits: Digits, algorithm: str) -> None:
    plain = ask(client, "predict", {"images": digits[0][:5]})
    packed = ask(client, "predict", {"images": digits[0][:5]}, request_compression_algorithm=algorithm)
    np.testing.assert_array_equal(packed.as_numpy("label"), plain.as_numpy("label"))


def test_encoded_images_give_what_their_pixels_give(client: Any, digits: Digits) -> None:
    images = digits[0][:4]
    by_pixels = ask(client, "predict", {"images": images})
    by_file = ask(client, "predict", {"images": bytes_tensor([encoded(image) for image in images])})
    np.testing.assert_array_equal(by_file.as_numpy("rectified"), by_pixels.as_numpy("rectified"))


def test_warp_by_the_identity_returns_images_of_any_size_bit_for_bit(client: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 61, 40, 3), np.uint8)
    theta = np.tile(np.eye(2, 3), (2, 1, 1))
    for dtype in (np.float32, np.float64):
        warped = ask(client, "warp", {"images": images, "theta": theta.astype(dtype)})
        np.testing.assert_array_equal(warped.as_numpy("images"), images)


def test_augment_is_what_the_library_does_and_warp_undoes_it(client: Any, digits: Digits) -> None:
    images = digits[0][:70]
    result = ask(client, "augment", {"images": images}, parameters={"recipe": "tutorial-mix", "seed": 5})
    expected = augment(images, load_recipe("tutorial-mix"), 5)
    np.testing.assert_array_equal(result.as_numpy("images"), expected.images)
    np.testing.assert_array_equal(result.as_numpy("theta"), expected.theta)
    np.testing.assert_array_equal(result.as_numpy("theta_rectifying"), expected.theta_rectifying)
    assert result.as_numpy("exact").all()
    undone = ask(
        client, "warp", {"images": result.as_numpy("images"), "theta": result.as_numpy("theta_rectifying")}
    ).as_numpy("images")
    before = np.abs(result.as_numpy("images").astype(float) - images).mean()
    assert np.abs(undone.astype(float) - images).mean() < before / 2


def test_an_inline_recipe_and_ids(client: Any, digits: Digits) -> None:
    recipe = load_recipe("rotation").model_dump_json()
    ids = np.arange(6, dtype=np.uint64)
    inputs = {"images": digits[0][:6], "ids": ids}
    whole = ask(client, "augment", inputs, parameters={"recipe": recipe, "seed": 1}).as_numpy("theta")
    tail = {name: array[3:] for name, array in inputs.items()}
    part = ask(client, "augment", tail, parameters={"recipe": recipe, "seed": 1}).as_numpy("theta")
    np.testing.assert_array_equal(part, whole[3:])


def test_many_concurrent_requests_each_get_their_own_answer(service_url: str, digits: Digits) -> None:
    images = digits[0][:400]

    async def traffic() -> list[Any]:
        async with httpx.AsyncClient(base_url=service_url, timeout=60) as http:
            whole = outputs(await http.post("/v2/models/predict/infer", **binary({"images": images})))
            calls = [
                http.post("/v2/models/predict/infer", **binary({"images": images[i : i + 4]})) for i in range(0, 400, 4)
            ]
            return [whole, *[outputs(answer) for answer in await asyncio.gather(*calls)]]

    whole, *parts = asyncio.run(traffic())
    theta = np.concatenate([part.outputs["theta"] for part in parts])
    np.testing.assert_allclose(theta, whole.outputs["theta"], atol=1e-5)


def test_a_request_larger_than_any_batch(service_url: str, digits: Digits, engine: Any) -> None:
    images = digits[0][:1500]
    answer = httpx.post(f"{service_url}/v2/models/rectify/infer", **binary({"images": images}), timeout=60)
    np.testing.assert_allclose(outputs(answer).outputs["theta"], engine.localize(images), atol=1e-5)


def test_json_in_json_out(service_url: str, digits: Digits) -> None:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": digits[0][0].tolist()}
    answer = httpx.post(f"{service_url}/v2/models/predict/infer", json={"id": "x", "inputs": [tensor]}, timeout=60)
    assert answer.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in answer.headers
    assert answer.json()["id"] == "x"
    assert len(outputs(answer).outputs["rectified"].reshape(-1)) == 784


def test_errors_over_real_http(service_url: str, digits: Digits) -> None:
    infer = f"{service_url}/v2/models/predict/infer"
    small = binary({"images": np.zeros((2, 20, 28, 1), np.uint8)})
    detail = problem(httpx.post(infer, **small), 400, "bad-tensor")
    assert "[N, 28, 28, 1]" in detail
    assert "[N, 20, 28, 1]" in detail
    problem(httpx.post(infer, content=b"{not json"), 400, "bad-body")
    problem(httpx.post(f"{service_url}/v2/models/nobody/infer", content=b"{}"), 404, "unknown-model")
    problem(httpx.post(f"{service_url}/v2/models/predict/versions/77/infer", content=b"{}"), 404, "unknown-model")
    problem(httpx.get(f"{service_url}/elsewhere"), 404, "unknown-route")
    problem(httpx.get(infer), 405, "wrong-method")
    outputs(httpx.post(infer, **binary({"images": digits[0][:1]}), timeout=60))


def test_a_body_over_the_limit_is_refused_and_the_next_request_is_served(service_url: str, digits: Digits) -> None:
    limit = httpx.get(f"{service_url}/v2").json()["limits"]["max_request_bytes"]
    answer = httpx.post(f"{service_url}/v2/models/predict/infer", content=b"0" * (limit + 1), timeout=60)
    assert str(limit) in problem(answer, 413, "too-large")
    outputs(httpx.post(f"{service_url}/v2/models/predict/infer", **binary({"images": digits[0][:1]}), timeout=60))


def test_clients_that_leave_in_the_middle_harm_nobody(service_url: str, digits: Digits) -> None:
    host, port = service_url.removeprefix("http://").split(":")
    message = binary({"images": digits[0][:64]})
    length = message["headers"]["inference-header-content-length"]
    head = (
        f"POST /v2/models/predict/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {length}\r\n"
        f"Content-Length: {len(message['content'])}\r\n\r\n"
    ).encode()
    for sent in (head, head + message["content"][:100], head + message["content"]):
        for _ in range(5):
            with socket.create_connection((host, int(port))) as leaving:
                leaving.sendall(sent)
    answer = httpx.post(f"{service_url}/v2/models/predict/infer", **binary({"images": digits[0][:8]}), timeout=60)
    assert outputs(answer).outputs["label"].shape == (8,)


def test_a_port_in_use_is_an_error_at_once(service_url: str) -> None:
    port = service_url.rpartition(":")[2]
    command = [sys.executable, "-m", "services.launcher", "deploy/local.yaml", f"--port={port}"]
    started_s = time.monotonic()
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use ({holder_of_port(int(port))})" in result.stderr
    assert time.monotonic() - started_s < 45  # which is sooner than any service starts and fails


def test_the_example_of_the_documentation_runs(service_url: str) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / "docs/service.md").read_text(), re.M | re.S)
    names: dict[str, Any] = {"url": service_url}
    exec(example, names)
    assert names["rectified"].shape == (10, 28, 28, 1)


def test_the_documentation_names_every_setting() -> None:
    page = (REPOSITORY / "docs/service.md").read_text()
    keys = [*Settings.model_fields, *StageSettings.model_fields, *Limits.model_fields]
    assert [key for key in keys if f"`{key}`" not in page] == []


@pytest.mark.parametrize("config", ["embedded", "cluster"])
def test_the_other_placements_come_up_and_answer(config: str, tmp_path: Path, digits: Digits, engine: Any) -> None:
    images = digits[0][:40]
    with running_service(config, tmp_path) as url:
        assert httpx.get(f"{url}/v2/health/ready", timeout=30).json() == {"ready": True}
        # Requests that Ray counts have an id that Ray made, and where an autoscaler decides it must count them. It does
        # also while HAProxy does not know the replica yet and asks Ray's own proxy instead.
        for _ in range(100):
            predicted = httpx.post(f"{url}/v2/models/predict/infer", **binary({"images": images}), timeout=60)
            np.testing.assert_allclose(outputs(predicted).outputs["theta"], engine.localize(images), atol=1e-5)
            (request_id,) = predicted.headers.get_list("x-request-id")
            by_ray = re.fullmatch("[0-9a-f]{16}-[0-9a-f]+", request_id) is None
            if by_ray == (config == "cluster"):
                break
            time.sleep(0.1)
        assert by_ray == (config == "cluster")
        parameters = {"recipe": "tutorial-mix", "seed": 2}
        made = httpx.post(
            f"{url}/v2/models/augment/infer", **binary({"images": images}, parameters=parameters), timeout=60
        )
        np.testing.assert_array_equal(
            outputs(made).outputs["images"], augment(images, load_recipe("tutorial-mix"), 2).images
        )
        # 32 kB that become 6.4 MB: more than Ray takes in one message
        parameters["recipe"] = {
            "name": "wide",
            "canvas": {"height_px": 400, "width_px": 400},
            "steps": [{"op": "invert"}],
        }
        made = httpx.post(
            f"{url}/v2/models/augment/infer", **binary({"images": images}, parameters=parameters), timeout=60
        )
        assert outputs(made).outputs["images"].shape == (40, 400, 400, 1)


@pytest.mark.parametrize("seconds", [0.5, 4.0, 12.0])
def test_stopped_while_it_starts_it_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    with launched("deploy/embedded.yaml", tmp_path / "log", "--no-haproxy") as (process, _, mark):
        time.sleep(seconds)
        process.terminate()
        process.wait(60)
        assert not processes_marked(mark)
        assert process.returncode in (0, -15), (tmp_path / "log").read_text()  # -15: before it could take signals


def test_a_killed_replica_comes_back(tmp_path: Path, digits: Digits) -> None:
    """Meanwhile the models that need it say so, the others go on; and two stop signals end it as cleanly as one."""
    message = binary({"images": digits[0][:5]})
    with launched("deploy/local.yaml", tmp_path / "log") as (process, _, mark):
        url = wait_for_url(process, tmp_path / "log")
        (pid,) = (pid for pid in processes_marked(mark) if "ServeReplica:stn:Classifier" in command_of(pid))
        os.kill(pid, signal.SIGKILL)
        rectified = httpx.post(f"{url}/v2/models/rectify/infer", **message, timeout=60)
        assert outputs(rectified).outputs["rectified"].shape == (5, 28, 28, 1)
        wait_until_answered(url, message, 120)
        (folder,) = re.findall(r"^logs in (.+)$", (tmp_path / "log").read_text(), re.MULTILINE)
        assert any("Classifier" in file.name for file in Path(folder).iterdir())
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "it was over before the second signal"
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert "Traceback" not in (tmp_path / "log").read_text()
        assert not processes_marked(mark)


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def wait_until_answered(url: str, message: dict[str, Any], patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.post(f"{url}/v2/models/predict/infer", **message, timeout=60)
            if answer.status_code == 200:
                return
            assert answer.status_code in (503, 504), answer.text
        except httpx.TransportError:  # HAProxy, or Ray's proxy, may close connections while it is told of replicas
            pass
        assert time.monotonic() < deadline_s, "no answer in time"
        time.sleep(0.2)


def test_a_config_that_cannot_work_is_refused_with_the_reason(tmp_path: Path) -> None:
    import yaml

    config = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())
    config["applications"][0]["deployments"][0]["num_replica"] = 2
    config["applications"][0]["args"]["rectifier"]["max_batch"] = 2
    path = tmp_path / "broken.yaml"
    path.write_text(json.dumps(config))
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "services.launcher", str(path), f"--port={port}"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "num_replica: no such key" in result.stderr
    assert "rectifier.max_batch" in result.stderr
