"""A real Chromium, one for each file of tests, and pages in it that complain to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import CHROMIUM, DESK, FLAGS, OF_THE_BROWSER, PATIENCE_MS, OpenPage
from playwright.sync_api import Browser, Page, expect, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of a file alone: while Playwright runs no asyncio test can."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, service_url: str) -> Iterator[OpenPage]:
    """``open_page(path)`` opens the Playground, ready to be used; what it complains of in the console fails."""
    said: list[str] = []
    opened: list[Any] = []

    def opens(path: str = "/", url: str = service_url, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(PATIENCE_MS)
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
        page.goto(f"{url}{path}")
        page.locator("body[data-ready]").wait_for()
        return page

    yield opens
    for context in opened:
        context.close()
    assert [line for line in said if OF_THE_BROWSER not in line] == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    page = open_page()
    expect(page.locator("#with .class")).to_have_text("2")
    return page
