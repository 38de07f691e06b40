"""Where a stage of this process is run: short work on the event loop, everything else in threads."""

import threading
import time
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_in_process import infer, make_links, make_settings

from services import links
from services.batching import Columns
from services.gateway import Gateway
from services.links import INLINE_S, LocalLink, predict_link
from services.pipelines import Pipelines
from services.settings import StageSettings
from services.stages import CLASSIFY, ClassifyStage, Operation, PredictStage, RectifyStage
from stn_core.engine import Engine

RECTIFY = Operation("rectify", result_bytes=784)


class Recorder:
    """A stage that takes its time, and tells which threads ran it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.threads: list[int] = []

    def warm_up(self) -> None:
        pass

    def run(self, operation: Operation, columns: Columns) -> Columns:
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        return columns


def batch(images: int, side: int = 2) -> Columns:
    return {"images": np.zeros((images, side, side, 1), np.uint8)}


async def test_what_was_quick_is_run_on_the_loop_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "INLINE_S", 60.0)  # quick on any machine, however busy
    stage = Recorder(0.0)
    link = LocalLink(stage, StageSettings())
    here = threading.get_ident()
    await link.call(CLASSIFY, batch(1))  # unknown yet
    await link.call(CLASSIFY, batch(1))
    await link.call(CLASSIFY, batch(1, side=3))  # unknown again
    await link.call(Operation("warp"), batch(1, side=3))
    assert [ident == here for ident in stage.threads] == [False, True, False, False]


async def test_what_was_slow_stays_in_threads() -> None:
    stage = Recorder(4 * INLINE_S)
    link = LocalLink(stage, StageSettings())
    for _ in range(3):
        await link.call(CLASSIFY, batch(1))
    assert threading.get_ident() not in stage.threads


async def test_a_batch_too_large_to_be_quick_goes_into_a_thread() -> None:
    stage = Recorder(INLINE_S / 4)
    link = LocalLink(stage, StageSettings(max_batch_images=1000))
    await link.call(CLASSIFY, batch(1))
    await link.call(CLASSIFY, batch(1000))
    assert threading.get_ident() not in stage.threads


async def test_predict_in_one_call_gives_what_two_calls_give(engine: Engine, digits: Any) -> None:
    rectifier, classifier = RectifyStage(engine), ClassifyStage(engine)
    columns = {"images": digits[0][:9]}
    rectified = rectifier.run(RECTIFY, columns)
    expected = {**rectified, **classifier.run(CLASSIFY, {"images": rectified["rectified"]})}
    found = PredictStage(rectifier, classifier).run(RECTIFY, columns)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


async def test_predict_in_one_call_keeps_to_the_smaller_batch(engine: Engine, digits: Any) -> None:
    settings = make_settings()
    smaller = settings.classifier.model_copy(update={"max_batch_images": 4})
    settings = settings.model_copy(update={"classifier": smaller})
    sizes: list[int] = []

    class Counting(ClassifyStage):
        def run(self, operation: Operation, columns: Columns) -> Columns:
            sizes.append(len(columns["images"]))
            return super().run(operation, columns)

    link = predict_link({"rectifier": RectifyStage(engine), "classifier": Counting(engine)}, settings)
    found = await link.call(RECTIFY, {"images": digits[0][:9]})
    assert sizes == [4, 4, 1]
    assert [len(array) for array in found.values()] == [9] * 4


async def test_infer_is_found_by_every_way_of_writing_its_path(engine: Engine, digits: Any) -> None:
    settings = make_settings()
    app = Gateway(Pipelines(settings, make_links(engine, settings), engine.manifest), settings).asgi_app()
    inputs, version = {"images": digits[0][:2]}, engine.manifest.version
    answers = []
    for root, model in (("", "predict"), ("", "%70redict"), ("", f"predict/versions/{version}"), ("/stn", "predict")):
        transport = httpx.ASGITransport(app, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://test{root}") as http:
            answers.append(await infer(http, model, inputs))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.content for answer in answers}) == 1
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await infer(http, "predict/", inputs)).status_code == 404
        assert (await http.get("/v2/models/predict/infer")).status_code == 405
