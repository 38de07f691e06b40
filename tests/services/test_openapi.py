"""The OpenAPI document says what the routes do, its examples run, and the page shows all of it."""

import base64
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, gateway_of, make_links, make_settings
from http_calls import binary, encoded, outputs
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from services.documentation import PAGE
from services.examples import examples_of
from services.protocol import model_specs
from stn_core.bundle import Manifest, read_manifest
from stn_core.errors import StnError
from stn_core.pictures import decode_picture

INFER = "/v2/models/{model}/infer"


@pytest.fixture
async def document(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from refs(item)


def valid(document: dict[str, Any], schema: dict[str, Any], body: Any) -> None:
    """Asserts that ``body`` is what ``schema``, whose references are the document's, asks for."""
    root = Resource(document, DRAFT202012)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))
    problems = list(
        Draft202012Validator(absolute, registry=Registry().with_resource("urn:api", root)).iter_errors(body)
    )
    assert not problems, problems[0]


async def test_the_document_has_the_routes_of_the_application_and_no_others(
    engine: Any, document: dict[str, Any]
) -> None:
    settings = make_settings()
    routes = gateway_of(make_links(engine, settings), settings)._routed().routes
    served = {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    described = {(method, path) for method, path, _ in operations(document)}
    assert described == served
    assert len(served) > 35


async def test_the_document_is_sound(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert set(document["info"]) >= {"title", "version"}
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in set(refs(document)), f"nothing refers to {name}"
    for target in refs(document):
        assert target.removeprefix("#/components/schemas/") in schemas
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\w+", name) for name in ids)
    for method, path, operation in operations(document):
        in_path = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path" and p["required"]}
        assert in_path == set(re.findall(r"\{(\w+)\}", path)), path
        assert operation["summary"]
        assert operation["tags"]
        assert all(answer["description"] for answer in operation["responses"].values())
        assert method == "POST" or "requestBody" not in operation


async def test_every_error_is_a_problem_document(document: dict[str, Any]) -> None:
    statuses = {str(error.status) for error in StnError.by_code.values()}
    for _, path, operation in operations(document):
        codes = set(operation["responses"])
        assert "500" in codes
        assert codes <= {"200", *statuses, "500"}
        assert "200" in codes or "501" in codes, path
        for code in codes - {"200"}:
            content = operation["responses"][code]["content"]
            assert list(content) == ["application/problem+json"]
    of_infer = document["paths"][INFER]["post"]["responses"]
    assert set(of_infer) == {"200", "400", "404", "408", "413", "500", "501", "503", "504"}
    assert "urn:stn:error:bad-recipe" in of_infer["400"]["description"]


async def test_every_example_runs_and_answers_what_it_says(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    operation = document["paths"][INFER]["post"]
    requests = operation["requestBody"]["content"]["application/json"]
    answers = operation["responses"]["200"]["content"]["application/json"]
    assert (
        set(requests["examples"])
        == set(answers["examples"])
        == {"predict", "rectify", "classify", "warp", "augment", "map"}
    )
    for model, example in requests["examples"].items():
        valid(document, requests["schema"], example["value"])
        answer = await http.post(INFER.replace("{model}", model), json=example["value"])
        assert answer.status_code == 200, answer.text
        told, said = answer.json(), answers["examples"][model]["value"]
        valid(document, answers["schema"], told)
        valid(document, answers["schema"], said)
        assert {key: told[key] for key in told if key != "outputs"} == {k: said[k] for k in said if k != "outputs"}
        for one, other in zip(told["outputs"], said["outputs"], strict=True):
            assert {k: one[k] for k in ("name", "datatype", "shape")} == {
                k: other[k] for k in ("name", "datatype", "shape")
            }
            np.testing.assert_allclose(numbers(one["data"]), numbers(other["data"]), atol=1e-2)


def numbers(data: list[Any]) -> list[float]:
    return [float(part) for item in data for part in (item.split(":") if isinstance(item, str) else [item])]


async def test_answers_of_the_other_routes_are_as_described(
    http: httpx.AsyncClient, document: dict[str, Any], images: np.ndarray
) -> None:
    outputs(await http.post("/v2/models/predict/infer", **binary({"images": images})))
    checked = 0
    for method, path, operation in operations(document):
        content = operation["responses"].get("200", {}).get("content", {}).get("application/json")
        if path.endswith("/infer") or "Files" in operation["tags"] or content is None:
            continue
        called = path.replace("{model}", "predict").replace("{version}", "1").replace("{name}", "camera")
        answer = await http.request(method, called)
        assert answer.status_code == 200, (path, answer.text)
        valid(document, content["schema"], answer.json())
        checked += 1
    assert checked > 15
    picture = encoded(images[0])
    told = await http.post("/v1/predict", files=[("image", ("a.png", picture)), ("image", ("b.png", picture[:40]))])
    results = document["paths"]["/v1/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    valid(document, results, told.json())
    assert [("error" in result) for result in told.json()["results"]] == [False, True]
    refused = await http.get("/v2/models/nobody")
    valid(document, {"$ref": "#/components/schemas/Problem"}, refused.json())


def bundle_with(**changes: Any) -> Manifest:
    return read_manifest("digits").model_copy(update=changes)


@pytest.mark.parametrize("shape", [(20, 30, 3), (40, 40, 1), (8, 8, 4)])
async def test_pictures_of_examples_are_what_another_bundle_takes(engine: Any, shape: tuple[int, int, int]) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings, bundle_with(input_shape=shape)) as http:
        operation = (await http.get("/openapi.json")).json()["paths"][INFER]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    for model in ("predict", "rectify", "classify"):
        (text,) = examples[model]["value"]["inputs"][0]["data"]
        assert decode_picture(base64.b64decode(text), channels=shape[2]).shape == shape
    answers = operation["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(answers) == {"warp", "augment", "map"}  # what the other bundle would say is not known


@pytest.mark.parametrize("changes", [{"transform": "homography"}, {"classes": list("abcdefghij")}])
async def test_answers_are_told_only_where_they_are_known(engine: Any, changes: dict[str, Any]) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings, bundle_with(**changes)) as http:
        operation = (await http.get("/openapi.json")).json()["paths"][INFER]["post"]
    assert set(operation["responses"]["200"]["content"]["application/json"]["examples"]) == {"warp", "augment", "map"}


def test_a_model_that_takes_any_size_gets_the_digit_in_its_own() -> None:
    specs = model_specs(read_manifest("digits"))
    free = dataclasses.replace(specs["predict"].inputs[0], shape=(-1, -1, -1, 1))
    specs["predict"] = dataclasses.replace(specs["predict"], inputs=(free,))
    example = next(example for example in examples_of(specs) if example.model == "predict")
    (text,) = example.request["inputs"][0]["data"]
    assert decode_picture(base64.b64decode(text), channels=1).shape == (28, 28, 1)
    assert example.answer is not None


async def test_channels_that_no_picture_has_leave_the_pictures_out(engine: Any) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings, bundle_with(input_shape=(28, 28, 2))) as http:
        operation = (await http.get("/openapi.json")).json()["paths"][INFER]["post"]
    assert set(operation["requestBody"]["content"]["application/json"]["examples"]) == {"warp", "augment", "map"}


async def test_the_page_needs_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    answer = await http.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", answer.text)
    assert len(answer.text.splitlines()) < 250
    assert '<html lang="en">' in answer.text
    assert 'aria-live="polite"' in answer.text


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's script in node")
async def test_the_page_shows_every_route_example_and_schema(document: dict[str, Any]) -> None:
    (script,) = re.findall(r"<script>(.*)</script>", PAGE.read_text(), re.DOTALL)
    document["info"]["description"] = '<img src=x onerror="alert(1)">'
    browser = f"""
      const main = {{ setAttribute() {{}}, addEventListener() {{}} }};
      const document = {{ getElementById: () => main }};
      const fetch = async () => ({{ ok: true, json: async () => ({json.dumps(document)}) }});
      setTimeout(() => console.log(main.innerHTML || main.textContent), 50);
    """
    shown = subprocess.run(["node", "-e", browser + script], capture_output=True, text=True, check=True).stdout
    for method, path, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in shown
        assert f'<span class="method">{method}</span> <code>{path}</code>' in shown
        assert operation["summary"] in shown
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name.lower()}"' in shown
    for target in re.findall(r'href="#([^"]+)"', shown):
        assert f'id="{target}"' in shown
    for model in ("predict", "rectify", "classify", "warp", "augment", "map"):
        assert f'data-path="/v2/models/{model}/infer"' in shown
    assert "[20, 0, 40, 0]" in shown
    assert "<img" not in shown
    for tag in ("details", "table", "section", "pre", "div", "p", "a"):
        assert len(re.findall(rf"<{tag}[ >]", shown)) == shown.count(f"</{tag}>"), tag
