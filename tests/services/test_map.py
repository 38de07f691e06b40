"""The model ``map``: points through theta, both ways, over HTTP in process."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, infer, make_links, make_settings
from http_calls import outputs, problem

from stn_core import points
from stn_core.annotations import MAX_POINTS

TURN = np.array([[0.8, -0.6, 0.1], [0.6, 0.8, -0.2]])
RECTIFIED, SOURCE = (28, 28), (300, 400)


def asked(theta: np.ndarray, count: int = 5, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs for one random set of points per theta."""
    sizes = {"rectified_size": RECTIFIED, "source_size": SOURCE}
    where = np.random.default_rng(len(theta)).uniform(0, 28, (len(theta), count, 2))
    tiled = {name: np.tile(np.array(size), (len(theta), 1)) for name, size in sizes.items()}
    return {"points": where, "theta": theta, **tiled, **changed}


THETAS = {
    "affine": np.stack([TURN, np.eye(2, 3)]),
    "homography": np.array([[[0.8, -0.6, 0.1], [0.6, 0.8, 0.0], [0.05, -0.1, 1.0]]]),
    "spline": np.random.default_rng(3).uniform(-0.05, 0.05, (2, 16, 2))
    + np.stack(np.meshgrid(*[np.linspace(-1, 1, 4)] * 2), axis=-1).reshape(16, 2),
}


@pytest.mark.parametrize("family", THETAS)
async def test_points_go_where_the_core_sends_them_and_come_back(http: httpx.AsyncClient, family: str) -> None:
    inputs = asked(THETAS[family])
    there = outputs(await infer(http, "map", inputs)).outputs
    expected = points.to_source(inputs["points"], inputs["theta"], RECTIFIED, SOURCE)
    np.testing.assert_array_equal(there["points"], expected.points_px)
    np.testing.assert_array_equal(there["inside"], expected.inside)
    back = await infer(http, "map", {**inputs, "points": there["points"]}, parameters={"direction": "to_rectified"})
    np.testing.assert_allclose(outputs(back).outputs["points"], inputs["points"], atol=1e-6)


async def test_each_image_has_a_size_of_its_own(http: httpx.AsyncClient) -> None:
    inputs = asked(
        np.stack([np.eye(2, 3)] * 2),
        points=np.array([[[14.0, 7.0]], [[14.0, 7.0]]]),
        source_size=np.array([[280, 56], [28, 2800]], np.int32),
    )
    found = outputs(await infer(http, "map", inputs)).outputs["points"]
    assert found.tolist() == [[[28.0, 70.0]], [[1400.0, 7.0]]]


async def test_what_has_no_place_is_told(http: httpx.AsyncClient) -> None:
    beyond = np.array([[[1.0, 0, 0], [0, 1, 0], [0, -1, 0.5]]])  # the lower quarter lies beyond the horizon
    inputs = asked(beyond, points=np.array([[[14.0, 2.0], [14.0, 27.0]]]))
    found = outputs(await infer(http, "map", inputs)).outputs
    assert np.isnan(found["points"][0]).all(axis=-1).tolist() == [False, True]
    assert not found["inside"][0, 1]


async def test_json_in_and_out(http: httpx.AsyncClient) -> None:
    def tensor(name: str, datatype: str, values: Any) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": list(np.shape(values)), "data": values}

    document = {
        "inputs": [
            tensor("points", "FP32", [[[14, 14], [28, 0]]]),
            tensor("theta", "FP32", [[[0, -1, 0], [1, 0, 0]]]),
            tensor("rectified_size", "INT64", [[28, 28]]),
            tensor("source_size", "INT64", [[300, 400]]),
        ]
    }
    answer = (await http.post("/v2/models/map/infer", json=document)).json()["outputs"]
    assert {output["name"]: output["data"] for output in answer} == {
        "points": [200.0, 150.0, 400.0, 300.0],
        "inside": [True, True],
    }


@pytest.mark.parametrize(
    ("changed", "code", "expected"),
    [
        ({"points": np.zeros((2, 3))}, "bad-tensor", "points: expected the shape [2, points, 2]"),
        ({"points": np.zeros((0, 3, 2))}, "bad-tensor", "at least one image"),
        ({"points": np.zeros((2, 3, 2), np.uint8)}, "bad-tensor", "points: expected FP32"),
        ({"theta": np.zeros((1, 2, 3))}, "bad-tensor", "theta: expected the shape [2, 2, 3]"),
        ({"theta": np.full((2, 2, 3), np.nan)}, "bad-tensor", "theta: expected finite numbers"),
        ({"source_size": np.zeros((2, 2), np.int64)}, "bad-tensor", "source_size: expected (height, width)"),
        ({"source_size": np.ones((2, 2))}, "bad-tensor", "source_size: expected INT64 or INT32, got FP64"),
        ({"rectified_size": np.ones(2, np.int64)}, "bad-tensor", "rectified_size: expected (height, width)"),
        ({"more": np.ones(2)}, "bad-tensor", "inputs: expected points, theta, rectified_size, source_size"),
    ],
)
async def test_bad_input(http: httpx.AsyncClient, changed: dict[str, np.ndarray], code: str, expected: str) -> None:
    assert expected in problem(await infer(http, "map", {**asked(THETAS["affine"]), **changed}), 400, code)


async def test_other_refusals(http: httpx.AsyncClient) -> None:
    inputs = asked(THETAS["affine"])
    answer = await infer(http, "map", inputs, parameters={"direction": "sideways"})
    assert "expected to_source or to_rectified, got 'sideways'" in problem(answer, 400, "bad-tensor")
    singular = await infer(http, "map", asked(np.zeros((1, 2, 3))), parameters={"direction": "to_rectified"})
    assert "invertible" in problem(singular, 400, "bad-tensor")


async def test_a_request_has_so_many_points(engine: Any) -> None:
    settings = make_settings(max_request_bytes=4_000_000)
    async with client_of(make_links(engine, settings), settings) as http:
        inputs = asked(THETAS["affine"], MAX_POINTS // 2 + 1)
        assert f"at most {MAX_POINTS}" in problem(await infer(http, "map", inputs), 413, "too-large")


async def test_a_singular_theta_harms_no_neighbour(http: httpx.AsyncClient) -> None:
    thetas = [THETAS["affine"][:1], np.zeros((1, 2, 3))] * 4
    way = {"direction": "to_rectified"}
    answers = await asyncio.gather(*(infer(http, "map", asked(theta), parameters=way) for theta in thetas))
    assert [answer.status_code for answer in answers] == [200, 400] * 4
