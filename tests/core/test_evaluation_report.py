"""The report: one page that needs nothing else, says what is true, and stays small."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.errors import BadTensor
from stn_core.evaluation import Trial, run_trial
from stn_core.evaluation.report import MAX_REPORT_BYTES, write_report
from stn_core.figures import MAX_BYTES, ErrorCurves, error_curves, strip
from stn_core.recipes import load_recipe, parse_recipe

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and collects texts by element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.sources: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data


@pytest.fixture(scope="module")
def trial(engine: Engine, digits: Dataset) -> Trial:
    return run_trial(engine, digits.limit(300), load_recipe("tutorial-mix"), seed=1)


def _page(path: Path) -> Page:
    content = path.read_bytes()
    assert len(content) <= MAX_REPORT_BYTES
    page = Page(content.decode())
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "script" not in page.texts
    assert "url(" not in content.decode()
    return page


def _errors_px(page: Page) -> list[float]:
    return [float(found[1]) for text in page.texts["figcaption"] if (found := re.search(r"→ ([\d.]+) px", text))]


def test_the_page_holds_the_measures_and_the_worst_50_images(tmp_path: Path, trial: Trial) -> None:
    page = _page(write_report(tmp_path / "new" / "report.html", [trial]))
    assert page.texts["h1"] == [f"digits, version 1, on {trial.data.name}"]
    after_px = trial.straight["rectified"].corner_error_px
    shown = _errors_px(page)
    np.testing.assert_allclose(shown[:50], np.sort(after_px)[::-1][:50], atol=0.051)
    hurt = (trial.shown["unrectified"].labels == trial.data.labels) & (
        trial.shown["rectified"].labels != trial.data.labels
    )
    assert len(page.texts["figure"]) == 50 + hurt.sum() + 12
    assert f"{hurt.sum()} of {hurt.sum()}." in page.texts["p"]
    table = " ".join(page.texts["table"])
    for name in (
        "tutorial-mix",
        "scale+rotate+shear+translate",
        "corner error, median, px",
        f"{np.median(after_px):.2f}",
    ):
        assert name in table
    assert "warning" not in (tmp_path / "new" / "report.html").read_text().split("</style>")[1]


def test_its_pictures_are_the_images_pixel_for_pixel(tmp_path: Path, trial: Trial) -> None:
    page = _page(write_report(tmp_path / "r.html", [trial]))
    worst = int(np.argmax(trial.straight["rectified"].corner_error_px))
    picture = Image.open(io.BytesIO(base64.b64decode(page.sources[1].partition(",")[2])))
    pixels = np.asarray(picture)
    parts = (trial.data.images, trial.distorted, trial.shown["rectified"].images)
    for number, images in enumerate(parts):
        np.testing.assert_array_equal(pixels[:, 30 * number : 30 * number + 28], images[worst, ..., 0])


def test_names_from_outside_are_text(tmp_path: Path, trial: Trial) -> None:
    nasty = '<script>alert("&")</script>'
    data = dataclasses.replace(trial.data, name=nasty, classes=(nasty, *trial.data.classes[1:]))
    page = _page(write_report(tmp_path / "r.html", [dataclasses.replace(trial, data=data)]))
    assert nasty in page.texts["h1"][0]
    assert any(nasty in text for text in page.texts["figcaption"])


def test_a_collapse_is_said_first(tmp_path: Path, trial: Trial) -> None:
    seen = trial.shown["rectified"]
    far = dataclasses.replace(seen.coverage, area_scale=seen.coverage.area_scale * 100)
    gone = {**trial.shown, "rectified": dataclasses.replace(seen, coverage=far)}
    path = write_report(tmp_path / "r.html", [dataclasses.replace(trial, shown=gone)])
    assert "Collapse. tutorial-mix: 100.0% of the rectified images" in _page(path).texts["p"][1]
    assert "· collapsed" in _page(path).texts["figcaption"][0]


def test_several_recipes_share_a_page(tmp_path: Path, engine: Engine, digits: Dataset, trial: Trial) -> None:
    recipes = [load_recipe("perspective"), load_recipe("elastic")]
    more = [run_trial(engine, digits.limit(100), recipe, seed=1) for recipe in recipes]
    page = _page(write_report(tmp_path / "r.html", [trial, *more]))
    for name in ("tutorial-mix", "perspective", "elastic"):
        assert f"{name}: the worst 50" in page.texts["h2"]
        assert name in page.texts["table"][0]


def test_without_any_known_theta_the_least_like_their_originals_come_first(
    tmp_path: Path, engine: Engine, digits: Dataset
) -> None:
    wave = parse_recipe({"name": "wave", "steps": [{"op": "elastic", "displacement_px": 8, "smoothness_px": 4}]})
    trial = run_trial(engine, digits.limit(60), wave, seed=1)
    page = _page(write_report(tmp_path / "r.html", [trial]))
    assert any(text.startswith("By PSNR to the original.") for text in page.texts["p"])
    assert "No theta tells of these distortions." in page.texts["p"]
    assert f"no. {np.argmin(trial.shown['rectified'].psnr_to_original_db)}" in page.texts["figcaption"][0]


def test_large_colour_images_of_noise_make_a_small_page_still(tmp_path: Path, trial: Trial) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 300, 3), dtype=np.uint8)
    shown = {name: dataclasses.replace(one, images=noise) for name, one in trial.shown.items()}
    large = dataclasses.replace(
        trial, distorted=noise, shown=shown, originals=dataclasses.replace(trial.originals, images=noise)
    )
    page = _page(write_report(tmp_path / "r.html", [large]))
    assert len(page.texts["figure"]) >= 60


def test_curves_are_a_picture_and_nothing_makes_none() -> None:
    errors = np.geomspace(0.01, 1000, 50)
    one = ErrorCurves("a panel", errors * 10, errors, np.full(50, np.nan))
    for count in (1, 4, 7):
        png = error_curves([one] * count)
        assert len(png) < MAX_BYTES
        Image.open(io.BytesIO(png)).verify()
    with pytest.raises(BadTensor, match="at least one"):
        error_curves([])


def test_a_strip_shows_images_of_any_size_and_drops_the_opacity() -> None:
    gray = np.full((4, 6, 1), 0.5, np.float32)
    small = Image.open(io.BytesIO(strip([gray, gray[:2]], 96)))
    assert small.size == (14, 4)
    assert np.asarray(small)[0].tolist() == [128] * 6 + [255] * 8
    see_through = np.zeros((300, 200, 4), np.uint8)
    assert Image.open(io.BytesIO(strip([see_through], 96))).size == (64, 96)
    with pytest.raises(BadTensor, match=r"got \[4, 6, 2\]"):
        strip([np.zeros((4, 6, 2))], 96)
