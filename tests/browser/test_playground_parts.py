"""The Playground's modules, run in a browser, against what Python says of the same."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from chromium import IN_CHROMIUM
from PIL import Image
from playwright.sync_api import Browser

from stn_core.augment import augment
from stn_core.geometry import CORNERS, invert
from stn_core.recipes import load_recipe, parse_recipe
from stn_core.transforms import corner_errors_px, map_points
from stn_core.wire import HEADER_LENGTH, InferRequest, decode_request, encode_response

pytestmark = IN_CHROMIUM

VALUES = [
    {"rotate_deg": 0, "scale": 1, "shear_deg": 0, "shift_x_px": 0, "shift_y_px": 0},
    {"rotate_deg": 60, "scale": 1, "shear_deg": 0, "shift_x_px": 0, "shift_y_px": 0},
    {"rotate_deg": -123, "scale": 0.6, "shear_deg": 25, "shift_x_px": 3.5, "shift_y_px": -2.25},
    {"rotate_deg": 10, "scale": 1.45, "shear_deg": -40, "shift_x_px": -8, "shift_y_px": 8},
]


@pytest.fixture(scope="module")
def run(browser: Browser, service_url: str) -> Any:
    """``run(module, body, *given)``: what a function with this body makes of the module ``m`` and the values given."""
    page = browser.new_page()
    page.goto(service_url)

    def runs(module: str, body: str, *given: Any) -> Any:
        code = f"async (given) => {{ const m = await import('/playground/{module}.js'); {body} }}"
        return page.evaluate(code, given)

    return runs


def as_js(image: np.ndarray) -> dict[str, Any]:
    height, width, channels = image.shape
    return {"height": height, "width": width, "channels": channels, "data": image.ravel().tolist()}


def recipe_of(values: dict[str, float]) -> dict[str, Any]:
    step = {"op": "affine", "rotate_deg": values["rotate_deg"], "scale": values["scale"]}
    step |= {"shear_x_deg": values["shear_deg"]}
    step |= {"translate_x_px": values["shift_x_px"], "translate_y_px": values["shift_y_px"]}
    return {"name": "by-hand", "steps": [step]}


@pytest.mark.parametrize("size", [(28, 28, 1), (20, 31, 3)])
def test_sliders_distort_as_a_recipe_does(run: Any, size: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    made = run(
        "geometry",
        """const [image, every] = given, p = await import('/playground/pixels.js');
        image.data = Uint8Array.from(image.data);
        return every.map((values) => {
          const theta = m.invert(m.distortion(values, [image.height, image.width]));
          return [theta, Array.from(p.warp(image, theta).data)];
        });""",
        as_js(image),
        VALUES,
    )
    for values, (theta, pixels) in zip(VALUES, made, strict=True):
        expected = augment(image[None], parse_recipe(recipe_of(values)), seed=0)
        np.testing.assert_allclose(theta, expected.theta[0], atol=1e-12)
        difference = np.abs(np.array(pixels).reshape(size) - expected.images[0].astype(int))
        assert difference.max() <= 1  # of rounding


def test_a_corner_error_is_that_of_the_reports(run: Any) -> None:
    made = np.array([[0.8, 0.5, 0.1], [-0.4, 0.9, -0.2]])
    found = invert(made) + np.array([[0.05, -0.02, 0.1], [0.01, 0.03, -0.07]])
    read = map_points(found[None], CORNERS)[0].tolist()
    error_px = run("geometry", "return m.cornerErrorPx(...given)", made.tolist(), read, [28, 20])
    assert error_px == pytest.approx(float(corner_errors_px(made[None], found[None], (28, 20))[0]))


def test_messages_are_those_of_the_protocol(run: Any) -> None:
    body, length = run(
        "protocol",
        """const inputs = {
          images: { datatype: "UINT8", shape: [2, 1, 1, 3], data: Uint8Array.of(1, 2, 3, 250, 251, 252) },
          sizes: { datatype: "INT64", shape: [1, 2], data: BigInt64Array.of(28n, -5n) },
          files: { datatype: "BYTES", shape: [2], data: [Uint8Array.of(7), Uint8Array.of()] },
        };
        const { body, headers } = m.encodeRequest(inputs, ["label"], { seed: 7 });
        return [Array.from(new Uint8Array(await body.arrayBuffer())), Number(headers[m.HEADER_LENGTH])];""",
    )
    request = decode_request(bytes(body), length)
    assert request.inputs["images"].tolist() == [[[[1, 2, 3]]], [[[250, 251, 252]]]]
    assert request.inputs["sizes"].tolist() == [[28, -5]]
    assert request.inputs["files"].tolist() == [b"\x07", b""]
    assert request.parameters == {"seed": 7, "binary_data_output": True}
    assert request.outputs is not None
    assert [(output.name, output.binary) for output in request.outputs] == [("label", True)]

    outputs = {
        "label": np.array([3, -1], np.int64),
        "odd": np.array([1, 2, 3], np.uint8),  # leaves what follows unaligned
        "theta": np.array([[0.5, -2.0]], np.float64),
        "reason": np.array([b"ok", "zu schräg".encode()], object),
    }
    asked = InferRequest({}, None, {"binary_data_output": True})
    message = encode_response(outputs, "predict", "1", asked, {"by_imgaug": "elastic"})
    read = run(
        "protocol",
        """const { outputs: o, parameters } = m.decodeResponse(Uint8Array.from(given[0]).buffer, given[1]);
        return [o.label.data.join(), Array.from(o.odd.data), Array.from(o.theta.data), o.theta.shape,
                m.texts(o.reason), parameters];""",
        list(message.body),
        message.headers[HEADER_LENGTH],
    )
    assert read == ["3,-1", [1, 2, 3], [0.5, -2.0], [1, 2], ["ok", "zu schräg"], {"by_imgaug": "elastic"}]


def test_a_drawing_becomes_a_digit_as_mnist_has_them(run: Any) -> None:
    drawing = np.zeros((280, 280, 1), np.uint8)
    drawing[30:230, 200:220] = 255  # 200 px high, 20 px wide: 20 x 2 px, its middle in the middle
    drawing[210:230, 120:220] = 255
    data = run(
        "pixels",
        "given[0].data = Uint8Array.from(given[0].data); return Array.from(m.asDigit(given[0], [28, 28]).data)",
        as_js(drawing),
    )
    digit = np.array(data).reshape(28, 28)
    rows, columns = np.nonzero(digit)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 10)
    mass = digit / digit.sum()
    centre = [(mass.sum(axis=1 - axis) * (np.arange(28) + 0.5)).sum() for axis in (0, 1)]
    np.testing.assert_allclose(centre, 14, atol=0.5)
    blank = as_js(np.zeros((280, 280, 1), np.uint8))
    assert run("pixels", "return m.asDigit(given[0], [28, 28])", blank) is None


def test_clutter_is_pieces_of_others_and_only_adds(run: Any) -> None:
    image, other = np.full((28, 28, 1), 100, np.uint8), np.full((28, 28, 1), 200, np.uint8)
    made = run("pixels", "return m.clutter(given[0], 3, [given[1]], 5).data", as_js(image), as_js(other))
    again = run("pixels", "return m.clutter(given[0], 3, [given[1]], 5).data", as_js(image), as_js(other))
    values, counts = np.unique(list(made), return_counts=True)
    assert values.tolist() == [100, 200]
    assert 36 <= counts[1] <= 3 * 36
    assert made == again


def test_a_png_is_gray_and_holds_the_pixels(run: Any) -> None:
    image = np.random.default_rng(1).integers(0, 256, (28, 20, 1), dtype=np.uint8)
    text = run("png", "given[0].data = Uint8Array.from(given[0].data); return m.grayPng(given[0])", as_js(image))
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    picture.load()  # checks the checksums
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.array(picture), image[..., 0])


def test_problems_of_a_recipe_lie_where_the_service_says(run: Any) -> None:
    text = json.dumps(
        {"name": "mine", "steps": [{"op": "one_of", "steps": [{"op": "affine", "rotat_deg": 3, "scale": [2, 1]}]}]},
        indent=2,
    )
    details = []
    for broken in (text, text.replace('"name": "mine",', ""), text.replace("3,", "3")):
        with pytest.raises(Exception, match="recipe") as raised:
            parse_recipe(broken)
        details.append((broken, str(raised.value)))
    for broken, detail in details:
        problems = run("places", "return m.problemsIn(...given)", broken, detail)
        assert problems, detail
        for problem in problems:
            assert problem["line"] == broken[: problem["start"]].count("\n") + 1
    unknown, missing, syntax = (run("places", "return m.problemsIn(...given)", *one) for one in details)
    assert any(text[one["start"] : one["end"]] == '"rotat_deg": 3' for one in unknown), unknown
    assert (missing[0]["line"], "name" in missing[0]["message"]) == (1, True)
    assert syntax[0]["line"] == 10


METRICS = """
# HELP stn_requests_total Requests.
# TYPE stn_requests_total counter
stn_requests_total{model="predict",protocol="http",status="200"} 5
stn_requests_total{model="a \\"b\\" \\\\ c",protocol="http",status="400"} 2.0
stn_queued_images 3
up +Inf
"""


def test_metrics_are_read_and_compared(run: Any) -> None:
    samples = run("metrics", "return m.parseMetrics(given[0])", METRICS)
    assert [sample["value"] for sample in samples] == [5, 2, 3, float("inf")]
    assert samples[1]["labels"]["model"] == 'a "b" \\ c'
    by_status = """return [...m.sums(m.parseMetrics(given[0]), "stn_requests_total", (labels) => labels.status)]"""
    assert run("metrics", by_status, METRICS) == [["200", 5], ["400", 2]]
    grown = "return [...m.growth(new Map(given[0]), new Map(given[1]))]"
    assert run("metrics", grown, [["a", 5], ["b", 9]], [["a", 7], ["b", 2], ["c", 1]]) == [["a", 2], ["b", 2], ["c", 1]]
    buckets = [["0.1", 0], ["0.2", 10], ["+Inf", 10]]
    assert run("metrics", "return m.quantile(new Map(given[0]), 0.5)", buckets) == pytest.approx(0.15)
    assert run("metrics", "return m.quantile(new Map(given[0]), 0.5)", [["+Inf", 0]]) is None


def test_one_request_is_under_way_and_the_latest_wish_is_next(run: Any) -> None:
    done = run(
        "latest",
        """const done = [];
        const ask = m.latest(async (wish) => { await new Promise((go) => setTimeout(go, 5)); done.push(wish); });
        await Promise.all([1, 2, 3, 4].map(ask));
        return done;""",
    )
    assert done == [1, 4]


def test_the_grid_of_a_spline_is_where_it_reads_from(run: Any) -> None:
    theta = augment(np.zeros((1, 28, 20, 1), np.uint8), load_recipe("elastic"), seed=3).theta
    places = run(
        "models",
        """const [shape, data] = given;
        return m.gridOf({ datatype: "FP64", shape, data: Float64Array.from(data) }, [28, 20]);""",
        list(theta.shape),
        theta.ravel().tolist(),
    )
    steps = np.linspace(-1, 1, 9)
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    expected_px = (map_points(theta, points)[0] + 1) * [10, 14]
    np.testing.assert_allclose(places, expected_px, atol=1e-6)


def test_images_are_fitted_to_what_another_bundle_takes(run: Any) -> None:
    image = np.random.default_rng(2).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    fitted = "return Array.from(m.fitted(given[0], given[1], given[2]).data)"
    halved = np.array(run("pixels", fitted, as_js(image), [14, 14], 4)).reshape(14, 14, 4)
    means = image[..., 0].reshape(14, 2, 14, 2).mean(axis=(1, 3))
    assert np.abs(halved[..., 0] - means).max() <= 0.5
    assert (halved[..., :3] == halved[..., :1]).all()
    assert (halved[..., 3] == 255).all()
    assert run("pixels", fitted, as_js(image), [28, 28], 1) == image.ravel().tolist()
