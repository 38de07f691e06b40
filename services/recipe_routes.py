"""The shipped recipes over HTTP: what there is, each as data, and a picture of what each does."""

import asyncio
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from services.batching import Array
from services.pipelines import Pipelines
from services.routes import DescribedRoute, json_answer
from services.settings import Limits
from stn_core.errors import TimedOut, UnknownRecipe, brief
from stn_core.pictures import decode_picture
from stn_core.png import encode_png, mosaic
from stn_core.recipes import Recipe, is_exact, load_recipe, shipped_recipes, steps_by_imgaug, theta_shape_of
from stn_core.transforms import THETA_SHAPES
from stn_core.wire import InferRequest

PREVIEW_SEED, PREVIEW_DRAWS = 0, 4
_DIGITS_SIDE_PX = 28
_KEPT = {"cache-control": "max-age=3600"}
_FAMILIES = {THETA_SHAPES[name]: name for name in ("affine", "homography", "tps")}


class RecipeRoutes:
    """Previews are drawn by the model ``augment``, once each."""

    def __init__(self, pipelines: Pipelines, limits: Limits) -> None:
        self._pipelines = pipelines
        self._limits = limits
        self._previews: dict[str, bytes] = {}

    def routes(self, base: str) -> list[DescribedRoute]:
        path, json, png = f"{base}/recipes", ("application/json",), ("image/png",)
        call = f'curl "$URL{path}'
        return [
            DescribedRoute("GET", path, self.every, "The shipped recipes", (), (), json, f'{call}"'),
            DescribedRoute(
                "GET", f"{path}/{{name}}", self.one, "A recipe, to be changed and sent back", (), (), json,
                f'{call}/camera"',
            ),
            DescribedRoute(
                "GET", f"{path}/{{name}}/preview.png", self.preview, "Digits, and what a recipe makes of them", (), (),
                png, f'{call}/camera/preview.png" -o camera.png',
            ),
        ]  # fmt: skip

    async def every(self, request: Request) -> Response:
        return json_answer({"recipes": [_described(load_recipe(name)) for name in shipped_recipes()]})

    async def one(self, request: Request) -> Response:
        return json_answer(_recipe_of(request).model_dump(mode="json"))

    async def preview(self, request: Request) -> Response:
        recipe = _recipe_of(request)
        if recipe.name not in self._previews:
            self._previews[recipe.name] = await self._drawn(recipe)
        return Response(self._previews[recipe.name], headers=_KEPT, media_type="image/png")

    async def _drawn(self, recipe: Recipe) -> bytes:
        digits = await asyncio.to_thread(_digits)
        images = np.concatenate([digits] * PREVIEW_DRAWS)
        asked = InferRequest({"images": images}, parameters={"recipe": recipe.name, "seed": PREVIEW_SEED})
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                made = await self._pipelines.infer(self._pipelines.specs["augment"], asked)
        except TimeoutError:
            raise TimedOut(
                f"no preview of {recipe.name} within {self._limits.request_timeout_s:g} s; try later"
            ) from None
        rows = [digits, *np.split(made.outputs["images"], PREVIEW_DRAWS)]
        return await asyncio.to_thread(lambda: encode_png(_enlarged(mosaic(rows)), level=9))


def _enlarged(pixels: Array, times: int = 2) -> Array:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


@cache
def _digits() -> Array:
    """A digit of each class, from MNIST's training images: UINT8 ``[10, 28, 28, 1]``."""
    strip = decode_picture((resources.files("services") / "digits.png").read_bytes(), channels=1)
    return np.stack(np.split(strip, strip.shape[1] // _DIGITS_SIDE_PX, axis=1))


def _recipe_of(request: Request) -> Recipe:
    name = request.path_params["name"]
    if name not in shipped_recipes():
        raise UnknownRecipe(f"expected one of the recipes {', '.join(shipped_recipes())}, got {brief(name)}")
    return load_recipe(name)


def _described(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "description": recipe.description,
        "family": _FAMILIES[theta_shape_of(recipe)],
        "exact": is_exact(recipe),
        "by_imgaug": list(steps_by_imgaug(recipe)),
        "canvas": None if recipe.canvas is None else recipe.canvas.model_dump(),
    }
