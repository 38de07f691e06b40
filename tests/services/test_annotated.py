"""Annotations that go with image files through ``POST /v1/augment``, over HTTP in process; the library is the truth."""

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from files_in_process import DIGITS, FILES, ROOMY, as_files, gateway
from gateway_in_process import make_settings
from http_calls import encoded, problem

from services import annotated
from services.forms import MAX_FIELD_BYTES
from stn_core.annotations import Annotations
from stn_core.augment import augment_annotated
from stn_core.recipes import load_recipe

ASKED = {"recipe": "tutorial-mix", "seed": "7", "copies": "2"}
WHOLE: dict[str, Any] = {
    "keypoints_px": [[3.5, 4.0], None, [14.0, 14.0]],
    "boxes_px": [[2, 2, 12, 20]],
    "polygons_px": [[[1, 1], [9, 1], [9, 8]]],
    "mask": (DIGITS[0, ..., 0] // 100).tolist(),
}
POINT = {"keypoints_px": [[5, 6]]}
FLAGS = ["box_polygons_px", "keypoints_inside", "boxes_visible_fraction", "polygons_visible_fraction", "exact"]


LONG = ROOMY | {"max_request_bytes": 4_000_000, "max_json_bytes": 2_000_000, "max_bytes_in_flight": 8_000_000}


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(engine, settings=make_settings(**LONG)) as client:
        yield client


async def augmented(http: httpx.AsyncClient, *annotations: Any, recipe: str = "tutorial-mix") -> httpx.Response:
    """The answer to as many digits, with a list of ``annotations``, as a form."""
    data = {**ASKED, "recipe": recipe, "annotations": json.dumps(annotations)}
    return await http.post("/v1/augment", data=data, **as_files(FILES[: len(annotations)]))


@pytest.mark.parametrize("recipe", ["tutorial-mix", "perspective", "elastic", "rotation-scale-translation", "camera"])
async def test_they_move_as_the_library_moves_them(http: httpx.AsyncClient, recipe: str) -> None:
    entries = (await augmented(http, WHOLE, None, POINT, recipe=recipe)).json()["results"]
    for number, annotations in ((0, WHOLE), (2, POINT)):
        given = [Annotations.from_json(annotations)] * 2
        expected = augment_annotated(DIGITS[[number] * 2], given, load_recipe(recipe), 7)[1]
        found = [copy["annotations"] for copy in entries[number]["copies"]]
        assert found == [orjson.loads(orjson.dumps(moved.to_json())) for moved in expected]
        assert list(found[0]) == [*WHOLE, *FLAGS]
    assert all("annotations" not in copy for copy in entries[1]["copies"])


async def test_each_form_of_request_gives_the_same(http: httpx.AsyncClient) -> None:
    text, (picture,) = json.dumps(WHOLE), FILES[:1]
    data = base64.b64encode(picture).decode()
    asked = {"recipe": "tutorial-mix", "seed": 7, "copies": 2}
    messages: list[dict[str, Any]] = [
        {"data": {**ASKED, "annotations": text}, **as_files([picture])},
        {"data": {**ASKED, "annotations": f"[{text}]"}, **as_files([picture])},
        {"data": ASKED, "files": [("image", ("a", picture)), ("annotations", ("notes.json", text))]},
        {"json": {"images": [{"data": data, "annotations": WHOLE}], "parameters": asked}},
        {"json": {"images": [data], "parameters": {**asked, "annotations": [WHOLE]}}},
        {"params": {**ASKED, "annotations": text}, "content": picture, "headers": {"content-type": "image/png"}},
    ]
    answers = [(await http.post("/v1/augment", **message)).json()["results"] for message in messages]
    assert all("annotations" in copy for copy in answers[0][0]["copies"])
    for (entry,) in answers:
        assert entry["copies"] == answers[0][0]["copies"]


async def test_without_images_and_as_a_png(http: httpx.AsyncClient) -> None:
    data = {**ASKED, "annotations": json.dumps(POINT)}
    bare = await http.post("/v1/augment", data={**data, "images": "false"}, **as_files(FILES[:1]))
    assert [list(copy)[-1] for copy in bare.json()["results"][0]["copies"]] == ["annotations"] * 2
    png = await http.post(
        "/v1/augment", data={**data, "copies": "1"}, **as_files(FILES[:1]), headers={"accept": "image/png"}
    )
    assert json.loads(png.headers["stn-annotations"]) == bare.json()["results"][0]["copies"][0]["annotations"]


@pytest.mark.parametrize(
    ("bad", "status", "expected"),
    [
        ({"keypoints": []}, 400, "expected some of keypoints_px"),
        ("text", 400, "expected JSON"),
        (5, 400, "expected a JSON object"),
        ({"boxes_px": [[9, 0, 1, 1]]}, 400, "boxes_px[0]: expected x1 <= x2"),
        ({"mask": [[0, 1], [1, 0]]}, 400, "annotations.mask: expected the size of its image, 28 x 28 px, got 2 x 2"),
        ({"keypoints_px": [[1, 2]] * 50_001}, 413, "at most 100000 points in one answer, of which 99998 are left"),
    ],
)
async def test_what_is_wrong_with_one_is_its_own_error(
    http: httpx.AsyncClient, bad: Any, status: int, expected: str
) -> None:
    entries = (await augmented(http, POINT, bad, POINT)).json()["results"]
    assert [set(entry) for entry in entries] == [{"name", "copies"}, {"name", "error"}, {"name", "copies"}]
    assert entries[1]["error"]["status"] == status
    assert expected in entries[1]["error"]["detail"]


async def test_a_broken_file_harms_no_other(http: httpx.AsyncClient) -> None:
    data = {**ASKED, "annotations": json.dumps([POINT, POINT])}
    entries = (await http.post("/v1/augment", data=data, **as_files([b"broken", FILES[0]]))).json()["results"]
    assert "error" in entries[0]
    assert entries[1]["copies"][0]["annotations"]["keypoints_inside"] == [True]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"data": {**ASKED, "annotations": "{broken"}},
            "annotations: expected JSON, got something that does not parse",
        ),
        ({"data": {**ASKED, "annotations": "{}"}}, "expected a list of 2, .* single file, got a list of 1"),
        ({"data": {**ASKED, "annotations": "[{}, {}, {}]"}}, "expected a list of 2, .* got a list of 3"),
        ({"data": {**ASKED, "annotations": "5"}}, "expected a list of 2, .* got 5"),
        ({"data": {**ASKED, "annotations": ["[]", "[]"]}}, "parameters.annotations: expected once, got it twice"),
    ],
)
async def test_a_list_that_does_not_fit_the_files(
    http: httpx.AsyncClient, message: dict[str, Any], expected: str
) -> None:
    answer = await http.post("/v1/augment", **message, **as_files(FILES[:2]))
    detail = problem(answer, 400, "bad-body")
    assert "results" not in answer.json()
    assert re.search(expected, detail), detail


async def test_where_they_do_not_belong(http: httpx.AsyncClient) -> None:
    image = {"data": base64.b64encode(FILES[0]).decode(), "annotations": POINT}
    answer = await http.post("/v1/predict", json={"images": [image]})
    assert "annotations: expected none for predict" in problem(answer, 400, "bad-body")
    parameters = {"recipe": "rotation", "annotations": [POINT]}
    answer = await http.post("/v1/augment", json={"images": [image], "parameters": parameters})
    assert "beside each image, or the parameter, got both" in problem(answer, 400, "bad-body")


async def test_more_than_may_be_made(engine: Any, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"keypoints_px": [[1.25, 2.5]] * 9_000}
    assert len(json.dumps(long)) > MAX_FIELD_BYTES
    assert (await augmented(http, long)).status_code == 200
    async with gateway(engine, settings=make_settings(**{**LONG, "max_json_bytes": 1000})) as small:
        assert "at most 1000 bytes" in problem(await augmented(small, long), 413, "too-large")
    monkeypatch.setattr(annotated, "MAX_MASK_PX", 3 * 28 * 28)
    entries = (await augmented(http, {"mask": WHOLE["mask"]}, {"mask": WHOLE["mask"]})).json()["results"]
    assert "at most 2352 pixels of masks in one answer, of which 784 are left" in entries[1]["error"]["detail"]
    assert "copies" in entries[0]


async def test_a_mask_costs_as_much_as_an_image_of_a_spline(engine: Any) -> None:
    """A spline of 16 points: twice 40 x 40 labels are 51,200 terms."""
    file = encoded(np.zeros((40, 40, 1), np.uint8))
    data = {**ASKED, "recipe": "elastic", "annotations": json.dumps({"mask": [[1] * 40] * 40})}
    for most, fits in ((51_200, True), (51_199, False)):
        async with gateway(engine, settings=make_settings(**{**ROOMY, "max_spline_terms": most})) as http:
            answer = await http.post("/v1/augment", data=data, **as_files([file]))
        assert (answer.status_code == 200) is fits
        assert fits or "pixels of masks in one answer" in problem(answer, 413, "too-large")
