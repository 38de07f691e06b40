"""The Playground in a headless Chromium, for whoever measures or pictures it."""

import argparse
import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def address(about: str | None) -> str:
    """Where the command line says that the service is."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of a running service, as stn serve prints it")
    return str(parser.parse_args().url.rstrip("/").removesuffix("/v2"))


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("expected Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def playground(browser: Browser, url: str, tab: str = "try", **options: Any) -> Page:
    """A page with the Playground open, once it has its first answer."""
    page = browser.new_page(**options)
    page.goto(f"{url}/#{tab}")
    page.locator("body[data-ready]").wait_for()
    page.locator("#with .class").filter(has_text="2").wait_for(state="attached")
    return page
