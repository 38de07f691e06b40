"""Figures: how they are counted, put together over processes, and written for Prometheus."""

import asyncio
import math
from typing import Any

import httpx
import numpy as np
import pytest
from files_in_process import as_files
from gateway_in_process import client_of, infer, make_links, make_settings
from http_calls import encoded
from prometheus_client.parser import text_string_to_metric_families

from services import metrics_board
from services.drift import Drift, measures
from services.histogram import Histogram
from services.metrics import FAMILIES, Kind, Samples, exposition
from services.metrics_board import DEAD_AFTER_S, Board
from stn_core.transforms import as_shape


def figures(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each series."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}


def figure(text: str, name: str, /, **labels: str) -> float:
    return figures(text)[name, frozenset(labels.items())]


class Shelf:
    """A store in this process, in place of Ray's."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def put(self, key: bytes, value: bytes) -> bool:
        was_there = key in self.entries
        self.entries[key] = value
        return was_there

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(key, None) is not None

    def keys(self, prefix: bytes) -> list[bytes]:
        return [key for key in self.entries if key.startswith(prefix)]


class Counting:
    """A process that counted so many refusals, and has so many images in its queue."""

    def __init__(self, refused: int = 0, queued: int = 0) -> None:
        self.refused, self.queued = refused, queued

    def __call__(self) -> Samples:
        samples = Samples()
        samples.put("refused_total", ("overloaded",), self.refused)
        samples.put("queued_images", ("rectifier",), self.queued)
        return samples


async def told(board: Board) -> tuple[float, float, float]:
    """Refusals, queued images and processes, as ``board`` sees them."""
    found = (await board.all()).figures
    processes = sum(value for (value,) in found["processes"].values())
    return found["refused_total"]["overloaded",][0], found["queued_images"]["rectifier",][0], processes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [1000.0]
    monkeypatch.setattr(metrics_board.time, "time", lambda: now_s[0])
    return now_s


async def test_every_process_tells_the_figures_of_all() -> None:
    shelf, counts = Shelf(), [Counting(3, 10), Counting(4, 1)]
    boards = [Board(name, count, shelf) for name, count in zip("ab", counts, strict=True)]
    for board in boards:
        await board.tell()
    counts[0].refused += 5
    await boards[0].tell()
    assert [await told(board) for board in boards] == [(12, 11, 2)] * 2


async def test_an_application_does_not_see_the_figures_of_another() -> None:
    shelf = Shelf()
    mine, other = (Board("a", Counting(1, 1), shelf, group) for group in ("stn", "other"))
    await other.tell()
    assert await told(mine) == (1, 1, 1)


async def test_what_the_dead_had_counted_stays_and_the_board_does_not_grow(clock: list[float]) -> None:
    shelf, living = Shelf(), Counting(1, 1)
    survivor = Board("a", living, shelf)
    for _ in range(30):
        await Board("a", Counting(10, 7), shelf).tell()  # one that dies at once
    assert await told(survivor) == (301, 211, 31)
    clock[0] += DEAD_AFTER_S + 1
    assert await told(survivor) == (301, 1, 1)
    await survivor.tell()
    await survivor.take_over()
    assert len(shelf.entries) == 1
    assert await told(survivor) == (301, 1, 1)
    assert await told(Board("a", Counting(0, 0), shelf)) == (301, 1, 2)


async def test_one_that_was_taken_for_dead_counts_nothing_twice(clock: list[float]) -> None:
    shelf, asleep = Shelf(), Counting(10)
    sleeper, other = Board("a", asleep, shelf), Board("b", Counting(1), shelf)
    for round_ in range(1, 4):
        await sleeper.tell()
        clock[0] += DEAD_AFTER_S + 1
        await other.tell()
        await other.take_over()
        asleep.refused += 5
        await sleeper.tell()
        assert [(await told(board))[0] for board in (sleeper, other)] == [11 + 5 * round_] * 2


async def test_an_entry_that_cannot_be_read_harms_nobody() -> None:
    shelf = Shelf()
    for number, entry in enumerate((b"", b"1\nnonsense", b'1e12\n[["unheard_of_total", [], [1.0]]]')):
        shelf.put(b"/" + str(number).encode(), entry)
    board = Board("a", Counting(1, 2), shelf)
    assert await told(board) == (1, 2, 1)
    await board.take_over()


def test_a_histogram_counts_values_by_the_first_bound_that_is_not_below() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    samples = Samples()
    labels = ("rectifier", "rectify")
    samples.put_histogram("batch_images", labels, _padded(histogram))
    text = exposition(samples, "")[0].decode()
    counted = {
        bound: figure(text, "stn_batch_images_bucket", stage="rectifier", operation="rectify", le=bound)
        for bound in ("1.0", "2.0", "4.0", "+Inf")
    }
    assert counted == {"1.0": 2, "2.0": 4, "4.0": 4, "+Inf": 5}
    assert figure(text, "stn_batch_images_sum", stage="rectifier", operation="rectify") == 8


def _padded(histogram: Histogram) -> Histogram:
    """The same counts under the bounds of batches."""
    family = next(family for family in FAMILIES if family.name == "batch_images")
    padded = Histogram(family.bounds)
    padded.values = [*histogram.values[:3], *[0.0] * (len(family.bounds) - 2), histogram.values[3]]
    return padded


def test_the_drift_is_told_in_the_terms_of_what_came() -> None:
    angle, scale = math.radians(30), 1.25
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    theta = np.array([[[cosine, -sine, 0.3], [sine, cosine, 0.4]]], np.float32)
    for given in (theta, as_shape(theta, (3, 3)) * 2, as_shape(theta, (16, 2))):
        np.testing.assert_allclose(measures(np.asarray(given))[:, 0], [30, math.log(scale), 0.5], atol=1e-5)
    broken = np.concatenate([theta, np.full((1, 2, 3), np.nan), np.zeros((1, 2, 3))])
    assert measures(broken).shape == (3, 1)


def test_drift_adds_up_in_any_portions() -> None:
    thetas = np.random.default_rng(0).normal(0, 1, (10_000, 2, 3)).astype(np.float32)
    whole, parts = Drift(), Drift()
    whole.add(thetas)
    for start in range(0, len(thetas), 37):
        parts.add(thetas[start : start + 37])
    for name, (total, count) in whole.sums().items():
        np.testing.assert_allclose(parts.sums()[name], [total, count])
    assert count == 10_000


async def test_files_that_fail_are_counted_one_by_one(engine: Any, digits: Any) -> None:
    settings = make_settings()
    files = as_files([encoded(digits[0][0]), b"no image", encoded(digits[0][1]), b"nor this"])
    async with client_of(make_links(engine, settings), settings) as http:
        assert (await http.post("/v1/predict", **files)).status_code == 200
        text = (await http.get("/metrics")).text
    found = {
        dict(labels)["reason"]: n for (name, labels), n in figures(text).items() if name == "stn_files_refused_total"
    }
    assert list(found.values()) == [2]
    assert "stn_refused_total{" not in text, "the request itself was answered"


async def test_requests_images_batches_and_decisions_are_counted_once(engine: Any, digits: Any) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as http:
        for _ in range(3):
            assert (await infer(http, "predict", {"images": digits[0][:5]})).status_code == 200
        await infer(http, "rectify", {"images": digits[0][:7]}, parameters={"decide": True})
        assert (await infer(http, "predict", {"images": digits[0][:51]})).status_code == 413
        assert (await infer(http, "no-such", {"images": digits[0][:1]})).status_code == 404
        assert (await http.get("/readyz")).status_code == 200
        text = (await http.get("/metrics")).text
    assert figure(text, "stn_requests_total", model="predict", protocol="http", status="200") == 3
    assert figure(text, "stn_requests_total", model="predict", protocol="http", status="413") == 1
    assert figure(text, "stn_requests_total", model="unknown", protocol="http", status="404") == 1
    assert figure(text, "stn_images_total", model="predict") == 15
    assert figure(text, "stn_request_seconds_count", model="predict") == 4
    assert figure(text, "stn_queue_seconds_count", model="predict") == 3
    for stage, operation in (("rectifier", "rectify"), ("classifier", "classify")):
        assert figure(text, "stn_batch_images_sum", stage=stage, operation=operation) == 15
        assert figure(text, "stn_stage_seconds_count", stage=stage, operation=operation) == 3
    assert figure(text, "stn_refused_total", reason="too-large") == 1
    assert figure(text, "stn_theta_rotation_deg_count") == 22
    decided = [value for (name, _), value in figures(text).items() if name == "stn_decisions_total"]
    assert sum(decided) == 7
    assert figure(text, "stn_bundle_info", name="digits", version=engine.manifest.version) == 1


async def test_files_are_counted_as_one_request_with_their_images(engine: Any, digits: Any) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as http:
        picture = encoded(digits[0][0])
        answer = await http.post("/v1/straighten", files=[("image", picture), ("image", picture), ("image", b"none")])
        text = (await http.get("/metrics")).text
    assert answer.status_code == 200, answer.text
    assert figure(text, "stn_requests_total", model="straighten", protocol="files", status="200") == 1
    assert figure(text, "stn_images_total", model="straighten") == 2


async def test_shadow_comparisons_are_told(engine: Any, digits: Any) -> None:
    settings = make_settings().model_copy(update={"shadow_share": 1.0})
    async with client_of(make_links(engine, settings), settings) as http:
        assert (await infer(http, "predict", {"images": digits[0][:40]})).status_code == 200
        found: dict[str, Any] = {"images": 0}
        while found["images"] < 40:
            await asyncio.sleep(0.01)
            found = (await http.get("/v1/shadow")).json()
        text = (await http.get("/metrics")).text
    assert figure(text, "stn_shadow_images_total") == figure(text, "stn_shadow_confidence_gain_count") == 40
    assert figure(text, "stn_shadow_changed_total") == round(40 * (1 - found["agreement"]))
    assert figure(text, "stn_shadow_changed_less_sure_total") == round(40 * found["changed_and_less_sure"])
    assert figure(text, "stn_shadow_confidence_gain_sum") == pytest.approx(40 * found["confidence_gain"])


async def test_scrapers_get_the_text_they_ask_for(engine: Any) -> None:
    settings = make_settings()
    async with client_of(make_links(engine, settings), settings) as http:
        plain: httpx.Response = await http.get("/metrics")
        asked = {"accept": "application/openmetrics-text; version=1.0.0"}
        modern = await http.get("/metrics", headers=asked)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    names = {f"stn_{family.name}" for family in FAMILIES}
    assert {line.split()[2] for line in plain.text.splitlines() if line.startswith("# TYPE")} == names


def test_names_end_as_prometheus_has_them() -> None:
    for family in FAMILIES:
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER), family.name
        assert family.name.endswith("_info") == (family.kind is Kind.INFO), family.name
