"""A real service as those see it who run it: truthful health, metrics of all its processes, logs, traces."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from http_calls import binary, problem
from service_process import REPOSITORY, launched, processes_marked, wait_for_url
from test_metrics import figure, figures

from drills.known import known_digits
from drills.traffic import Plan, counts, traffic

pytestmark = pytest.mark.service

IMAGES = {"images": np.zeros((3, 28, 28, 1), np.uint8)}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The services of deploy/local.yaml, which log each request and trace into files: URL, process, mark, folder."""
    folder = tmp_path_factory.mktemp("operations")
    config = yaml.safe_load((REPOSITORY / "deploy/local.yaml").read_text())
    args = config["applications"][0]["args"]
    args["rectifier"]["max_queued_images"] = 4096
    args["observability"] = {"log_requests": True, "log_folder": str(folder), "traces": "file", "trace_share": 0.0}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with launched(str(path), folder / "service.log") as (process, _, mark):
        yield wait_for_url(process, folder / "service.log"), process, mark, folder


def wait_for(condition: Callable[[], Any]) -> Any:
    """What ``condition`` gives, once that is something."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.TransportError, KeyError):
            if found := condition():
                return found
        time.sleep(0.1)
    raise AssertionError(f"it did not happen in {PATIENCE_S} s")


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.glob(pattern) for line in file.read_text().splitlines()]


def statuses(url: str) -> list[int]:
    return [httpx.get(f"{url}{path}", timeout=30).status_code for path in ("/readyz", "/v2/health/ready")]


def test_any_gateway_tells_the_figures_of_all_processes(service: Any) -> None:
    url = service[0]
    message = binary(IMAGES)
    message["headers"] |= {"x-request-id": "seen-from-outside", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = httpx.post(f"{url}/v2/models/predict/infer", **message, timeout=60)
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (200, ["seen-from-outside"])
    wait_for(
        lambda: (
            figure(httpx.get(f"{url}/metrics").text, "stn_batch_images_sum", stage="classifier", operation="classify")
            == 3
        )
    )
    text = httpx.get(f"{url}/metrics").text
    assert figure(text, "stn_requests_total", model="predict", protocol="http", status="200") == 1
    assert figure(text, "stn_batch_images_sum", stage="rectifier", operation="rectify") == 3
    assert figure(text, "stn_processes", deployment="Classifier") == 1


def test_a_request_is_in_the_log_under_its_id(service: Any) -> None:
    line = next(one for one in lines(service[3], "stn-requests-*") if one["request_id"] == "seen-from-outside")
    assert (line["model"], line["status"], line["images"], line["trace_id"]) == ("predict", 200, 3, TRACE)


def test_its_trace_reaches_into_the_process_of_its_stage(service: Any) -> None:
    # It waits in the gateway, and once more in the process of the classifier.
    stages = ["RectifyStage.rectify", "call to the classifier", "ClassifyStage.classify"]
    expected = sorted(["http predict", "queue", "queue", *stages])

    def found() -> list[dict[str, Any]] | None:
        spans = lines(service[3], "stn-traces-*")
        return spans if sorted(span["name"] for span in spans) == expected else None

    spans = wait_for(found)
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{TRACE}"}
    request = next(span for span in spans if span["name"] == "http predict")
    assert {span["parent_id"] for span in spans if span is not request} == {request["context"]["span_id"]}


def test_errors_past_rays_way_and_past_the_short_cut_have_the_id_once(service: Any) -> None:
    url, headers = service[0], {"x-request-id": "mine"}
    for path in ("/v2/models/no-such/infer", "/v2/models/no-such/versions/1/infer", "/v1/predict"):
        answer = httpx.post(f"{url}{path}", headers=headers, content=b"{}", timeout=30)
        assert answer.status_code in (400, 404)
        assert (answer.headers.get_list("x-request-id"), answer.json()["request_id"]) == (["mine"], "mine")


def test_all_that_is_refused_is_counted_by_whomever(service: Any) -> None:
    """By the replica, by HAProxy for it, and of a body before Ray reads it."""
    url = service[0]

    def refused(reason: str) -> float:
        key = ("stn_refused_total", frozenset({"reason": reason}.items()))
        return figures(httpx.get(f"{url}/metrics").text).get(key, 0.0)

    before = refused("overloaded")
    port = int(url.split("/")[2].rpartition(":")[2])
    with traffic(Plan(port, "http", connections=160, images=64, rate=4000, seconds=3), known_digits()) as load:
        records = load.wait()
    answered = counts(records)
    assert answered.wrong == answered.lost == 0
    assert min(answered.right, answered.refused) > 50
    by_haproxy = [one for one in records if one.status == 503 and "the queue is full" in one.said]
    assert by_haproxy
    assert len(by_haproxy) < answered.refused, "the replica refuses too"
    assert httpx.post(f"{url}/v2/models/predict/infer", **binary(IMAGES), timeout=60).status_code == 200
    assert refused("overloaded") - before == answered.refused

    before = refused("too-large")
    huge = httpx.post(
        f"{url}/v1/predict", headers={"content-type": "image/png"}, content=b"x" * (33 * 2**20), timeout=60
    )
    assert huge.json()["request_id"] == huge.headers["x-request-id"]
    assert (huge.status_code, refused("too-large") - before) == (413, 1)


def test_readiness_ends_with_a_stage_and_comes_back_with_it(service: Any) -> None:
    url, _, mark, _ = service
    assert statuses(url) == [200, 200]
    before = figure(httpx.get(f"{url}/metrics").text, "stn_batch_images_sum", stage="classifier", operation="classify")

    def refused_without_it() -> Any:
        for pid in processes_marked(mark):  # also the one that Ray starts in its place, which may be there at once
            if _serves(pid, "Classifier"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        answer = httpx.get(f"{url}/readyz", timeout=30)
        return answer if answer.status_code == 503 else None

    refused = wait_for(refused_without_it)
    assert "the classifier did not say that it is warm" in problem(refused, 503, "unavailable")
    assert httpx.get(f"{url}/healthz").status_code == 200
    wait_for(lambda: statuses(url) == [200, 200])
    text = wait_for(lambda: (text := httpx.get(f"{url}/metrics").text) and 'deployment="Classifier"' in text and text)
    assert figure(text, "stn_batch_images_sum", stage="classifier", operation="classify") >= before


def _serves(pid: int, deployment: str) -> bool:
    with contextlib.suppress(OSError):
        return f"ServeReplica:stn:{deployment}" in Path(f"/proc/{pid}/cmdline").read_text()
    return False
