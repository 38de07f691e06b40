"""How the tests run Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, ViewportSize

CHROMIUM = shutil.which("chromium")
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
PATIENCE_MS = 60_000  # the machine may be busy
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK: ViewportSize = {"width": 1180, "height": 900}
OF_THE_BROWSER = "Failed to load resource"
"""What Chromium says itself of any answer that is no success; a page cannot help it."""

OpenPage = Callable[..., Page]
