"""The service in this process: reached by the client as one over the network is, and without Ray."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from stn_client import Client, TimedOut, Unsupported

from stn_cli import in_process as module
from stn_cli.connection import connected
from stn_cli.in_process import URL, InProcess, in_process
from stn_core.errors import BadTensor, InvalidInput


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected(None, None, None) as client:
        yield client


def test_it_answers_as_the_engine_does(client: Client, digits: tuple[np.ndarray, np.ndarray], engine: Any) -> None:
    images = digits[0][:700]
    prediction = client.predict(images)
    rectified, theta = engine.rectify(images)
    np.testing.assert_allclose(prediction.theta, theta, atol=1e-5)
    assert np.array_equal(prediction.label, engine.classify(rectified)[0])
    assert client.server_ready()
    assert client.model("straighten")["parameters"]["classes"] == [str(digit) for digit in range(10)]
    with pytest.raises(BadTensor, match=r"expected \[N, 28, 28, 1\]"):
        client.predict(np.zeros((1, 5, 5), np.uint8))


def test_any_number_of_threads_may_use_it(client: Client, digits: tuple[np.ndarray, np.ndarray]) -> None:
    expected, found = client.classify(digits[0][:40]).label, []
    threads = [threading.Thread(target=lambda: found.append(client.classify(digits[0][:40]).label)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.array_equal(labels, expected) for labels in found)


def test_it_loads_no_ray_and_no_tensorflow(tmp_path: Any) -> None:
    code = (
        "import sys; from stn_cli.connection import connected\n"
        "with connected(None, None, None) as client: assert client.server_ready()\n"
        "print([m for m in ('ray', 'tensorflow', 'imgaug') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def _never(scope: Any, receive: Any, send: Any) -> None:
    import asyncio

    await asyncio.sleep(3600)


def test_a_request_ends_with_its_timeout() -> None:
    with Client(URL, transport=InProcess(_never), read_timeout_s=0.05) as client, pytest.raises(TimedOut):
        client.metadata()


def test_closing_it_ends_what_is_under_way() -> None:
    transport = InProcess(_never)
    ended = []

    def ask() -> None:
        with Client(URL, transport=transport, retries=0) as client:
            ended.append(client.server_ready())

    thread = threading.Thread(target=ask)
    thread.start()
    while not any(task for task in _tasks(transport)):
        pass
    transport.close()
    thread.join(10)
    assert ended == [False]
    transport.close()  # twice does no harm


def _tasks(transport: InProcess) -> set[Any]:
    import asyncio

    return asyncio.all_tasks(transport._loop)


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "services.gateway", None)
    with pytest.raises(Unsupported, match=r"pip install 'stn-rectify\[serve\]' brings it; or give .* --url"):
        in_process("digits", "auto")


def test_options_of_one_way_are_refused_on_the_other() -> None:
    with (
        pytest.raises(InvalidInput, match="--bundle: the service at http://x has its own"),
        connected("http://x", "b", None),
    ):
        pass
    assert module.settings_of("digits", "onnx").engine == "onnx"
