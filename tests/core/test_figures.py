import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stn_core.datasets import load, to_float
from stn_core.errors import BadTensor
from stn_core.figures import MAX_BYTES, RIGHT, WRONG, Row, Verdict, rectification_grid, verdict_figure


@pytest.fixture(scope="module")
def digits():
    return load("sample").test.limit(10)


def colours_in(path) -> set[str]:
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.unique(pixels, axis=0)}


def test_a_grid_shows_right_in_green_and_wrong_in_red(tmp_path, digits):
    errors = np.linspace(0, 9, 10)
    wrong = (digits.labels + 1) % 10
    original = Row("original", digits.images)
    right_path = tmp_path / "new" / "right.png"
    path = rectification_grid(right_path, [original, Row("rectified", digits.images, digits.labels)], digits.labels)
    assert path == right_path
    assert RIGHT in colours_in(path)
    assert WRONG not in colours_in(path)
    rows = [original, Row("distorted", to_float(digits.images), wrong, errors)]
    path = rectification_grid(tmp_path / "wrong.png", rows, digits.labels)
    assert WRONG in colours_in(path)
    assert RIGHT not in colours_in(path)
    width, height = Image.open(path).size
    assert width > 1000
    assert 200 < height < width


def test_the_pixels_of_an_image_are_in_its_picture(tmp_path, digits):
    tile = np.zeros((1, 4, 4, 3), np.uint8)
    tile[0, 1, 2], tile[0, 3, 0] = (10, 200, 30), (90, 20, 250)
    path = rectification_grid(tmp_path / "one.png", [Row("one", tile)])
    assert {"#0ac81e", "#5a14fa"} <= colours_in(path)


def test_a_verdict_is_green_where_right_and_red_where_wrong(tmp_path, digits):
    sure, unsure = np.eye(10)[2], np.full(10, 0.1)
    image = digits.images[2]
    path = verdict_figure(tmp_path / "a.png", [Verdict("upright", image, sure)], label=2, caption="One of many.")
    assert RIGHT in colours_in(path)
    assert WRONG not in colours_in(path)
    both = [Verdict("upright", image, sure), Verdict("turned", image, unsure)]
    assert {RIGHT, WRONG} <= colours_in(verdict_figure(tmp_path / "b.png", both, label=2))


def test_a_large_picture_of_noise_is_still_a_small_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 120, 90, 3), dtype=np.uint8)
    rows = [Row("original", noise), Row("rectified", noise, np.arange(30) % 2)]
    path = rectification_grid(tmp_path / "noise.png", rows, np.zeros(30), ["a class with a long name", "b"])
    assert path.stat().st_size <= MAX_BYTES
    Image.open(path).verify()


def test_many_classes_leave_no_room_for_names_but_are_drawn(tmp_path, digits):
    verdict = Verdict("upright", digits.images[0], np.full(300, 1 / 300))
    path = verdict_figure(tmp_path / "many.png", [verdict], 0, [f"class {k}" for k in range(300)])
    assert path.stat().st_size <= MAX_BYTES


def test_what_cannot_be_drawn_is_refused(tmp_path, digits):
    with pytest.raises(BadTensor, match=r"got \[10, 3\]"):
        rectification_grid(tmp_path / "x.png", [Row("a", digits.images), Row("b", digits.images[:3])])
    with pytest.raises(BadTensor, match="got \\[\\]"):
        rectification_grid(tmp_path / "x.png", [])
    with pytest.raises(BadTensor, match=r"got \[28, 28, 2\]"):
        rectification_grid(tmp_path / "x.png", [Row("a", np.zeros((1, 28, 28, 2), np.uint8))])
    with pytest.raises(BadTensor, match="at least one"):
        verdict_figure(tmp_path / "x.png", [], 0)
    assert list(tmp_path.iterdir()) == []


def test_importing_it_loads_neither_matplotlib_nor_tensorflow():
    code = (
        "import sys, stn_core.figures, stn_core.datasets; print({'matplotlib', 'tensorflow', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
