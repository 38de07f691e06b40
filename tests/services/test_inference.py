"""What is the same for a request of any protocol: its time, its outputs, its counts."""

import asyncio
from typing import Any

import numpy as np
import pytest
from gateway_in_process import make_links, make_settings

from services.inference import Inference
from services.pipelines import Pipelines
from stn_core.bundle import read_manifest
from stn_core.errors import BadTensor, TimedOut
from stn_core.wire import InferRequest, RequestedOutput


@pytest.fixture
def pipelines(engine: Any) -> Pipelines:
    settings = make_settings()
    return Pipelines(settings, make_links(engine, settings), read_manifest("digits"))


def inference(pipelines: Pipelines, **limits: Any) -> Inference:
    return Inference(pipelines, pipelines.specs["predict"], make_settings(**limits).limits)


def counted(pipelines: Pipelines) -> tuple[int, int, int]:
    """Images answered, requests answered, requests that failed."""
    document = pipelines.statistics["predict"].document()
    stats = document["inference_stats"]
    return document["inference_count"], stats["success"]["count"], stats["fail"]["count"]


def told(*answer: Any) -> Any:
    return answer


async def test_what_is_encoded_is_the_models_own_and_in_its_order(pipelines: Pipelines, images: np.ndarray) -> None:
    request = InferRequest({"images": images})
    async with inference(pipelines) as block:
        outputs, name, version, same, parameters = await block.run(request, told)
        assert counted(pipelines) == (0, 0, 0)
    assert (name, version, parameters) == ("predict", "1", {})
    assert same is request
    assert list(outputs) == ["label", "probabilities", "theta", "rectified"]
    assert counted(pipelines) == (3, 1, 0)


async def test_the_best_classes_stand_in_for_their_scores(pipelines: Pipelines, images: np.ndarray) -> None:
    request = InferRequest({"images": images}, (RequestedOutput("probabilities", True, 2),))
    async with inference(pipelines) as block:
        outputs = (await block.run(request, told))[0]
    assert outputs["probabilities"].shape == (3, 2)
    assert outputs["probabilities"].dtype == object


async def test_whatever_ends_the_block_too_early_counts_as_a_failure(pipelines: Pipelines, images: np.ndarray) -> None:
    unknown = InferRequest({"images": images}, (RequestedOutput("logits", True),))
    with pytest.raises(BadTensor, match="got 'logits'"):
        async with inference(pipelines) as block:
            await block.run(unknown, told)
    with pytest.raises(ZeroDivisionError):
        async with inference(pipelines) as block:
            await block.run(InferRequest({"images": images}), lambda *_: 1 / 0)
    with pytest.raises(asyncio.CancelledError):
        async with inference(pipelines):
            raise asyncio.CancelledError
    assert counted(pipelines) == (0, 0, 3)


@pytest.mark.parametrize(("asked_us", "told_s"), [(1_000, "0.001"), (60_000_000, "0.05"), (0, "0.05"), (None, "0.05")])
async def test_the_shorter_time_counts(
    pipelines: Pipelines, images: np.ndarray, asked_us: int | None, told_s: str
) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.sleep(60)

    pipelines.infer = never  # type: ignore[method-assign]
    parameters = {} if asked_us is None else {"timeout": asked_us}
    with pytest.raises(TimedOut, match=f"within {told_s} s"):
        async with inference(pipelines, request_timeout_s=0.05) as block:
            await block.run(InferRequest({"images": images}, parameters=parameters), told)
    assert counted(pipelines) == (0, 0, 1)
