"""The site builds without a warning, and needs nothing from elsewhere to be shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)],
        cwd=REPOSITORY, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return place


def test_every_page_is_in_it(site: Path) -> None:
    pages = [*(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "docs/reference").glob("*.md")]
    for page in pages:
        place = page.relative_to(REPOSITORY / "docs").with_suffix(".html")
        assert (site / place).is_file(), place
    assert "stn calibrate" in (site / "reference/commands.html").read_text()
    assert "tutorial-mix" in (site / "reference/recipes.html").read_text()
    assert "max_batch_images" in (site / "reference/settings.html").read_text()


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"""<(?:script|img|iframe|link\s+rel="?stylesheet"?)[^>]*?(?:src|href)="(https?:[^"]+)""")
    for page in site.rglob("*.html"):
        if "reports" not in page.parts:
            assert fetched.findall(page.read_text()) == [], page


def test_every_picture_that_is_shown_is_there(site: Path) -> None:
    shown = 0
    for page in site.rglob("*.html"):
        for source in re.findall(r'<img[^>]*? src="([^":]+)"', page.read_text()):
            assert (page.parent / source).is_file(), f"{page}: {source}"
            shown += 1
    assert shown > 10
