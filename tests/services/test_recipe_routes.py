"""The shipped recipes over HTTP, and what the table of routes says of them all."""

import shlex
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from files_in_process import DIGITS, FILES, as_files, gateway
from gateway_in_process import make_links, make_settings
from http_calls import problem

from services.decisions import PARAMETERS
from services.friendly import friendly_routes
from services.pipelines import Pipelines
from services.recipe_routes import PREVIEW_DRAWS, PREVIEW_SEED
from stn_core.augment import augment
from stn_core.bundle import read_manifest
from stn_core.errors import Overloaded
from stn_core.pictures import decode_picture
from stn_core.png import GAP_PX
from stn_core.recipes import load_recipe, parse_recipe, shipped_recipes

CLUTTERED = "translated-clutter"  # its step reads all of MNIST's sample, which takes long


@pytest.fixture
async def http(engine: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(engine) as client:
        yield client


async def test_all_recipes_are_listed_with_what_tells_them_apart(http: httpx.AsyncClient) -> None:
    recipes = {recipe["name"]: recipe for recipe in (await http.get("/v1/recipes")).json()["recipes"]}
    assert list(recipes) == shipped_recipes()
    assert all(recipe["description"] and recipe["exact"] for recipe in recipes.values())
    families = {name: recipes[name]["family"] for name in ("rotation", "perspective", "elastic")}
    assert families == {"rotation": "affine", "perspective": "homography", "elastic": "tps"}
    assert recipes["camera"]["by_imgaug"] == ["gaussian_blur", "gaussian_noise", "contrast", "brightness"]
    assert recipes["rotation"]["by_imgaug"] == []
    assert recipes[CLUTTERED]["canvas"] == {"height_px": 60, "width_px": 60}
    assert recipes["rotation"]["canvas"] is None


async def test_a_recipe_can_be_sent_back_as_it_came(http: httpx.AsyncClient) -> None:
    for name in shipped_recipes():
        assert parse_recipe((await http.get(f"/v1/recipes/{name}")).json()) == load_recipe(name)
    recipe = (await http.get("/v1/recipes/perspective")).content
    files = {"files": [("recipe", ("mine.json", recipe)), *as_files(FILES[:1])["files"]]}
    inline = await http.post("/v1/augment", **files)
    by_name = await http.post("/v1/augment?recipe=perspective", **as_files(FILES[:1]))
    assert inline.json()["results"] == by_name.json()["results"]


@pytest.mark.parametrize("name", sorted(set(shipped_recipes()) - {CLUTTERED}))
async def test_a_preview_shows_digits_and_what_becomes_of_them(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get(f"/v1/recipes/{name}/preview.png")
    assert answer.headers["content-type"] == "image/png"
    assert len(answer.content) < 60_000
    assert (await http.get(f"/v1/recipes/{name}/preview.png")).content == answer.content
    shown = decode_picture(answer.content)[::2, ::2]  # each pixel is shown as four
    made = augment(np.concatenate([DIGITS] * PREVIEW_DRAWS), load_recipe(name), PREVIEW_SEED).images
    side = made.shape[1]
    left = GAP_PX + (side - 28) // 2
    np.testing.assert_array_equal(shown[GAP_PX : GAP_PX + 28, left : left + 28], DIGITS[0])
    np.testing.assert_array_equal(shown[-GAP_PX - side : -GAP_PX, -GAP_PX - side : -GAP_PX], made[-1])


async def test_names_that_no_recipe_has(http: httpx.AsyncClient) -> None:
    for path in ("nobody", "nobody/preview.png", "x" * 3000, "camera.yaml", "%2e%2e%2fcamera"):
        answer = await http.get(f"/v1/recipes/{path}")
        if "%2f" in path:
            problem(answer, 404, "unknown-route")
            continue
        detail = problem(answer, 404, "unknown-recipe")
        assert "tutorial-mix" in detail
        assert len(detail) < 400
    problem(await http.get("/v1/recipes/camera/"), 404, "unknown-route")
    problem(await http.post("/v1/recipes"), 405, "wrong-method")


class Full:
    """An augmenter that is full, and then is not."""

    def __init__(self, link: Any) -> None:
        self._link, self._calls = link, 0

    async def call(self, operation: Any, columns: Any) -> Any:
        self._calls += 1
        if self._calls == 1:
            raise Overloaded("full", 2.0)
        return await self._link.call(operation, columns)


async def test_a_preview_that_failed_is_drawn_at_the_next_call(engine: Any) -> None:
    links = make_links(engine, make_settings())
    async with gateway(engine, {"augmenter": Full(links["augmenter"])}) as http:
        problem(await http.get("/v1/recipes/rotation/preview.png"), 503, "overloaded")
        assert (await http.get("/v1/recipes/rotation/preview.png")).status_code == 200


async def test_the_table_describes_the_routes_that_are_there(engine: Any, http: httpx.AsyncClient) -> None:
    settings = make_settings()
    pipelines = Pipelines(settings, make_links(engine, settings), read_manifest("digits"))
    routes = friendly_routes(pipelines, settings)
    assert {route.path for route in routes} == {
        *(f"/v1/{model}" for model in ("predict", "rectify", "straighten", "classify", "augment")),
        *("/v1/recipes", "/v1/recipes/{name}", "/v1/recipes/{name}/preview.png"),
    }
    for route in routes:
        assert (await http.request("DELETE", route.path)).status_code == 405
        command = shlex.split(route.example)
        assert command[0] == "curl"
        assert any(route.path.replace("{name}", "camera") == word.removeprefix("$URL") for word in command)
        for parameter in route.parameters:  # one that it does not know would be refused as such
            answer = await http.post(f"{route.path}?{parameter.name}=odd", **as_files(FILES[:1]))
            assert "expected some of" not in answer.text
            assert parameter.description
    (predict,) = (route for route in routes if route.path == "/v1/predict")
    assert [parameter.name for parameter in predict.parameters] == [*PARAMETERS, "images"]
    assert predict.gives == ("application/json", "image/png")


def test_the_digits_of_previews_are_mnists(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = digits
    for label, digit in enumerate(DIGITS):
        (found,) = np.flatnonzero((images == digit).all(axis=(1, 2, 3)))
        assert labels[found] == label
