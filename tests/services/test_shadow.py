"""Shadow compare: a share of requests, after the answer, and never at its cost."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import client_of, infer, make_links, make_settings
from http_calls import outputs

from services.batching import Array, Columns
from services.shadow import Shadow
from stn_core.augment import augment
from stn_core.errors import Overloaded
from stn_core.recipes import load_recipe

IMAGES = np.zeros((2, 4, 4, 1), np.uint8)


def reading(labels: list[int], best: list[float]) -> Columns:
    probabilities = np.zeros((len(labels), 3), np.float32)
    probabilities[np.arange(len(labels)), labels] = best
    return {"label": np.array(labels), "probabilities": probabilities}


async def settled(shadow: Shadow) -> dict[str, Any]:
    while shadow._tasks:
        await asyncio.gather(*shadow._tasks)
    return shadow.document()


async def test_what_is_counted() -> None:
    async def classify(images: Array) -> Columns:
        return reading([0, 1, 2, 2], [0.5, 0.5, 0.25, 0.75])

    shadow = Shadow(1.0, classify)
    shadow.offer(IMAGES.repeat(2, 0), reading([0, 1, 1, 0], [0.75, 0.25, 0.5, 0.5]))
    assert await settled(shadow) == {
        "share_of_requests": 1.0,
        "images": 4,
        "passed_over": 0,
        "agreement": 0.5,
        "confidence_gain": 0.0,
        "changed_and_surer": 0.25,
        "changed_and_less_sure": 0.25,
    }


@pytest.mark.parametrize(("share", "compared"), [(0.0, 0), (0.25, 10), (0.3, 12), (1.0, 40)])
async def test_the_share_is_spread_evenly(share: float, compared: int) -> None:
    offered: list[int] = []
    turns: list[int] = []

    async def classify(images: Array) -> Columns:
        turns.append(len(offered))
        return reading([0, 1], [0.5, 0.5])

    shadow = Shadow(share, classify)
    for number in range(40):
        offered.append(number)
        shadow.offer(IMAGES, reading([0, 1], [0.5, 0.5]))
        await settled(shadow)
    assert abs(len(turns) - compared) <= 1
    assert len(turns) < 2 or max(np.diff(turns)) <= np.ceil(1 / share)


async def test_full_queues_and_faults_pass_images_over() -> None:
    gate = asyncio.Event()

    async def classify(images: Array) -> Columns:
        await gate.wait()
        raise Overloaded("full")

    shadow = Shadow(1.0, classify)
    for _ in range(20):
        shadow.offer(IMAGES, reading([0, 1], [0.5, 0.5]))
    assert shadow.document()["passed_over"] == 2 * 4  # 16 requests wait for their turn
    gate.set()
    told = await settled(shadow)
    assert (told["images"], told["passed_over"], told["agreement"]) == (0, 40, None)


async def test_over_http(engine: Any, digits: tuple[np.ndarray, np.ndarray]) -> None:
    settings = make_settings().model_copy(update={"shadow_share": 1.0})
    turned = augment(digits[0][:40], load_recipe("rotation"), 3).images
    async with client_of(make_links(engine, settings), settings) as http:
        predicted = outputs(await infer(http, "predict", {"images": turned})).outputs
        told: dict[str, Any] = {"images": 0}
        for _ in range(200):
            told = (await http.get("/v1/shadow")).json()
            if told["images"]:
                break
            await asyncio.sleep(0.02)
        as_it_came = outputs(await infer(http, "classify", {"images": turned})).outputs
    assert told["images"] == 40
    assert told["agreement"] == pytest.approx((predicted["label"] == as_it_came["label"]).mean())
    assert 0 < told["agreement"] < 1
    assert told["confidence_gain"] > 0


async def test_off_unless_asked_for(http: httpx.AsyncClient, images: np.ndarray) -> None:
    outputs(await infer(http, "predict", {"images": images}))
    told = (await http.get("/v1/shadow")).json()
    assert (told["share_of_requests"], told["images"], told["agreement"]) == (0.0, 0, None)
