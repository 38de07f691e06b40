"""Image files sent to a real service by a real curl, and the page about it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from files_in_process import DIGITS, FILES, as_files
from gateway_in_process import make_links, make_settings
from http_calls import binary, bytes_tensor, encoded, outputs, problem
from service_process import REPOSITORY

from services.body import ByteBudget
from services.friendly import friendly_routes
from services.pipelines import Pipelines
from stn_core.bundle import read_manifest
from stn_core.pictures import decode_picture

pytestmark = pytest.mark.service

PAGE = REPOSITORY / "docs" / "files-and-curl.md"
with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the page speaks of."""
    (tmp_path / "digit.png").write_bytes(FILES[2])
    (tmp_path / "photo.jpg").write_bytes(encoded(DIGITS[2].repeat(9, 0).repeat(9, 1).repeat(3, 2), "JPEG"))
    (tmp_path / "seven.webp").write_bytes(encoded(DIGITS[7], "WEBP", lossless=True))
    return tmp_path


def shell(commands: str, url: str, folder: Path) -> str:
    script = f"set -euo pipefail\nURL={url}\n{commands}"
    ran = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents that stand one after another in ``text``."""
    found, decoder = [], json.JSONDecoder()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


@with_curl
def test_the_commands_of_the_page_do_what_they_say(service_url: str, folder: Path) -> None:
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    said = documents(shell(commands.replace("URL=http://127.0.0.1:8000\n", ""), service_url, folder))
    one, shown, two, classified, augmented, annotated, bare, by_json = said
    assert [entry["label"] for entry in two["results"]] == [2, 7]
    assert [entry["name"] for entry in two["results"]] == ["digit.png", "seven.webp"]
    assert one["results"] == two["results"][:1]
    assert shown["results"] == [{**one["results"][0], "image": shown["results"][0]["image"]}]
    assert bare["results"] == [{**shown["results"][0], "name": None}]
    assert by_json["results"] == [{**one["results"][0], "name": None}]
    assert classified["results"][0]["label"] == 2
    assert len(augmented["results"][0]["copies"]) == 3
    assert len(annotated["results"][0]["copies"][0]["annotations"]["box_polygons_px"][0]) == 4
    assert decode_picture((folder / "straight.png").read_bytes()).shape == (28, 28, 1)
    assert min(decode_picture((folder / "large.png").read_bytes()).shape[:2]) >= 9 * 28


@with_curl
def test_the_examples_of_the_routes_run(service_url: str, folder: Path, engine: Any) -> None:
    settings = make_settings()
    pipelines = Pipelines(settings, make_links(engine, settings), read_manifest("digits"))
    routes = friendly_routes(pipelines, settings, ByteBudget(1))
    commands = [route.example.replace("curl ", "curl --fail -sS ", 1) for route in routes]
    said = documents(shell("\n".join(commands), service_url, folder))
    assert len(said) == len(routes) - 3
    assert decode_picture((folder / "camera.png").read_bytes()).shape == (304, 604, 1)


def test_the_example_in_python_runs(
    service_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(folder)
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    exec(example, {"url": service_url})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("broken.png images: expected a file in PNG")
    assert second == "digit.png 2"


def test_files_give_what_the_protocol_gives(service_url: str) -> None:
    truth = outputs(
        httpx.post(f"{service_url}/v2/models/predict/infer", **binary({"images": bytes_tensor(FILES)}), timeout=60)
    )
    files = [*FILES * 6, *FILES[:3]]
    files.insert(17, b"no image")
    answer = httpx.post(f"{service_url}/v1/predict", **as_files(files), timeout=60)
    results = answer.json()["results"]
    assert [number for number, entry in enumerate(results) if "error" in entry] == [17]
    del results[17]
    for number, entry in enumerate(results):
        assert entry["label"] == truth.outputs["label"][number % 10]
        np.testing.assert_allclose(entry["theta"], truth.outputs["theta"][number % 10], atol=1e-5)
        np.testing.assert_allclose(entry["probability"], truth.outputs["probabilities"][number % 10].max(), atol=1e-4)


def test_errors_over_real_http(service_url: str) -> None:
    problem(httpx.post(f"{service_url}/v1/predict", content=FILES[0]), 400, "bad-body")
    problem(httpx.post(f"{service_url}/v1/predict?x=1", **as_files(FILES[:1])), 400, "bad-body")
    problem(httpx.post(f"{service_url}/v1/predict", **as_files([b"x"])), 400, "bad-tensor")
    problem(httpx.get(f"{service_url}/v1/recipes/nobody"), 404, "unknown-recipe")
    many = httpx.post(f"{service_url}/v1/rectify", headers={"accept": "image/png"}, **as_files(FILES))
    problem(many, 406, "not-acceptable")
