"""Transforms of every family, and images that come out at another size: real small bundles, recipes, and limits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import RECIPE, client_of, infer, make_settings
from http_calls import outputs, problem

from services.links import LocalLink, StageLink
from services.stages import Stage, make_stages
from stn_core.bundle import Manifest, write_bundle
from stn_core.recipes import load_recipe
from stn_core.transforms import identity_like

INPUT_SHAPE, SMALL_SHAPE = (20, 24, 1), (12, 10, 1)
START = np.array([[0.8, 0.2, 0.1], [-0.1, 0.9, 0.0]])
FAMILIES: list[tuple[int, int]] = [(2, 3), (3, 3), (16, 2), (9, 2), (100, 2)]
ON_CANVAS = {"recipe": "rotation-scale-translation", "seed": 3}  # of 42 x 42 px
BY_SPLINE = {"recipe": "elastic", "seed": 3}

Bundle = tuple[Manifest, dict[str, Stage]]


@pytest.fixture(scope="module", params=[("homography", SMALL_SHAPE), ("tps", INPUT_SHAPE)], ids=["homography", "tps"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The manifest of a small bundle of that family, with straightened images of that shape, and its stages, warm."""
    from stn_core.classifiers import build_classifier
    from stn_core.localization import build_localization

    transform, rectified_shape = request.param
    folder = tmp_path_factory.mktemp("bundles") / transform
    networks = {
        "localization": build_localization("dense", INPUT_SHAPE, 0, transform=transform, start=START),
        "classifier": build_classifier("fc", rectified_shape, 3),
    }
    manifest = write_bundle(
        folder,
        networks,
        {},
        name=transform,
        version="7",
        created="2026-01-01",
        input_shape=INPUT_SHAPE,
        rectified_size=None if rectified_shape == INPUT_SHAPE else rectified_shape[:2],
        transform=transform,
        classes=["a", "b", "c"],
        recipe=load_recipe("rotation"),
    )
    return manifest, make_stages(("rectifier", "classifier", "augmenter"), str(folder), "auto", None)


@pytest.fixture
async def small(bundle: Bundle) -> AsyncIterator[httpx.AsyncClient]:
    manifest, stages = bundle
    settings = make_settings()
    links: dict[str, StageLink] = {name: LocalLink(stage, settings.stages[name]) for name, stage in stages.items()}
    async with client_of(links, settings, manifest) as client:
        yield client


@pytest.fixture
def crooked() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, *INPUT_SHAPE), np.uint8)


async def test_the_metadata_tells_both_sizes_and_the_family(small: httpx.AsyncClient, bundle: Bundle) -> None:
    theta_shape, rectified_shape = [-1, *bundle[0].theta_shape], [-1, *bundle[0].rectified_shape]
    told = {model: (await small.get(f"/v2/models/{model}")).json() for model in ("predict", "rectify", "classify")}
    for model in ("predict", "rectify"):
        made = {tensor["name"]: tensor["shape"] for tensor in told[model]["outputs"]}
        assert (made["theta"], made["rectified"]) == (theta_shape, rectified_shape)
        assert told[model]["inputs"][0]["shape"] == [-1, *INPUT_SHAPE]
    assert told["classify"]["inputs"][0]["shape"] == rectified_shape
    assert told["predict"]["versions"] == ["7"]
    config = (await small.get("/v2/models/predict/config")).json()
    assert config["output"][2]["dims"] == theta_shape[1:]


async def test_predict_is_rectify_and_classify(small: httpx.AsyncClient, bundle: Bundle, crooked: np.ndarray) -> None:
    whole = outputs(await infer(small, "predict", {"images": crooked})).outputs
    straightened = outputs(await infer(small, "rectify", {"images": crooked})).outputs
    assert whole["theta"].shape == (5, *bundle[0].theta_shape)
    assert whole["rectified"].shape == (5, *bundle[0].rectified_shape)
    np.testing.assert_array_equal(straightened["rectified"], whole["rectified"])
    answer = outputs(await infer(small, "classify", {"images": whole["rectified"]})).outputs
    np.testing.assert_allclose(answer["probabilities"], whole["probabilities"], atol=1e-6)
    alone = outputs(await infer(small, "rectify", {"images": crooked}, outputs=["theta"])).outputs
    np.testing.assert_array_equal(alone["theta"], whole["theta"])


@pytest.mark.parametrize("shape", [INPUT_SHAPE, SMALL_SHAPE])
async def test_each_model_wants_images_of_its_size(
    small: httpx.AsyncClient, bundle: Bundle, shape: tuple[int, int, int]
) -> None:
    for model, wanted in {"predict": INPUT_SHAPE, "classify": bundle[0].rectified_shape}.items():
        answer = await infer(small, model, {"images": np.zeros((1, *shape), np.uint8)})
        if shape == wanted:
            assert outputs(answer).outputs["probabilities"].shape == (1, 3)
        else:
            expected = "expected [N, {}, {}, {}], got [N, {}, {}, {}]".format(*wanted, *shape)
            assert expected in problem(answer, 400, "bad-tensor")


async def test_warps_of_all_families_at_once_do_not_mix(small: httpx.AsyncClient, crooked: np.ndarray) -> None:
    shapes = FAMILIES * 3
    answers = await asyncio.gather(
        *(
            infer(small, "warp", {"images": crooked, "theta": identity_like(shape, 5).astype(dtype)})
            for shape, dtype in zip(shapes, [np.float32, np.float64] * len(shapes), strict=False)
        )
    )
    for answer in answers:
        np.testing.assert_array_equal(outputs(answer).outputs["images"], crooked)


async def test_theta_of_an_answer_can_be_given_to_warp(small: httpx.AsyncClient, crooked: np.ndarray) -> None:
    theta = outputs(await infer(small, "rectify", {"images": crooked}, outputs=["theta"])).outputs["theta"]
    warped = outputs(await infer(small, "warp", {"images": crooked, "theta": theta})).outputs["images"]
    assert warped.shape == crooked.shape
    assert (warped != crooked).mean() > 0.5


# --- recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "shape"), [("perspective", (3, 3)), ("elastic", (16, 2)), ("rotation", (2, 3))])
async def test_theta_of_a_recipe_is_of_its_family_and_tells_all(
    http: httpx.AsyncClient, images: np.ndarray, recipe: str, shape: tuple[int, int]
) -> None:
    made = outputs(await infer(http, "augment", {"images": images}, parameters={"recipe": recipe, "seed": 3})).outputs
    assert made["theta"].shape == (3, *shape)
    assert made["exact"].all()
    assert ("theta_rectifying" in made) == (recipe != "elastic")
    again = outputs(await infer(http, "warp", {"images": images, "theta": made["theta"]})).outputs["images"]
    assert np.abs(again.astype(int) - made["images"]).max() <= 1


async def test_the_inverse_of_a_spline_is_refused_by_name(http: httpx.AsyncClient, images: np.ndarray) -> None:
    answer = await infer(
        http, "augment", {"images": images}, outputs=["theta", "theta_rectifying"], parameters=BY_SPLINE
    )
    assert "the recipe elastic: it has a thin_plate step, and a thin-plate spline has no inverse" in problem(
        answer, 501, "unsupported"
    )
    answer = await infer(http, "augment", {"images": images}, outputs=["theta"], parameters=BY_SPLINE)
    assert list(outputs(answer).outputs) == ["theta"]


async def test_a_canvas_makes_larger_images(http: httpx.AsyncClient, images: np.ndarray) -> None:
    made = outputs(await infer(http, "augment", {"images": images}, parameters=ON_CANVAS)).outputs
    assert made["images"].shape == (3, 42, 42, 1)
    assert made["theta_rectifying"].shape == (3, 2, 3)


async def test_an_image_larger_than_the_canvas_harms_no_neighbour(http: httpx.AsyncClient, images: np.ndarray) -> None:
    large = np.zeros((1, 28, 43, 1), np.uint8)
    good, bad = await asyncio.gather(
        infer(http, "augment", {"images": images}, parameters=ON_CANVAS),
        infer(http, "augment", {"images": large}, parameters=ON_CANVAS),
    )
    assert outputs(good).outputs["images"].shape == (3, 42, 42, 1)
    assert "rotation-scale-translation, 42 x 42 px, got 28 x 43" in problem(bad, 400, "bad-tensor")


class Untouched:
    """A link to a stage that must not be called."""

    async def call(self, operation: Any, columns: Any) -> Any:
        raise AssertionError("the work was begun")

    async def ready(self) -> bool:
        return True


def canvas(side_px: int) -> dict[str, Any]:
    frame = {"height_px": side_px, "width_px": side_px}
    return {**RECIPE, "recipe": {"name": "wide", "canvas": frame, "steps": [{"op": "invert"}]}}


async def test_what_comes_out_obeys_the_limits_on_what_comes_in(engine: Any) -> None:
    settings = make_settings(max_side_px=150, max_spline_terms=28 * 28 * 16 - 1)
    links: dict[str, StageLink] = dict.fromkeys(settings.stages, Untouched())
    one, many = np.zeros((1, 28, 28, 1), np.uint8), np.zeros((50, 28, 28, 1), np.uint8)
    async with client_of(links, settings) as client:
        cases = [
            ("augment", {"images": one}, canvas(101), "distorted images: expected at most 10000 pixels in an image"),
            (
                "augment",
                {"images": one},
                canvas(151),
                "distorted images: expected sides of at most 150 px, got 151 x 151",
            ),
            ("augment", {"images": many}, canvas(60), "distorted images: expected at most 120000 bytes"),
            ("augment", {"images": one}, BY_SPLINE, "at most 783 pixels in an image that a thin-plate spline of 16"),
            ("warp", {"images": one, "theta": np.zeros((1, 16, 2))}, {}, "scale the images down or cut them"),
        ]
        for model, inputs, parameters, expected in cases:
            detail = problem(await infer(client, model, inputs, parameters=parameters), 413, "too-large")
            assert expected in detail
    wide = engine.manifest.model_copy(update={"rectified_size": (90, 90)})
    async with client_of(links, settings, wide) as client:
        answer = await infer(client, "predict", {"images": many})
        assert "rectified: expected at most 120000 bytes" in problem(answer, 413, "too-large")
