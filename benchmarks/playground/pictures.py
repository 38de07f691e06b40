"""Draws the pictures of the Playground for the documentation: docs/pictures/playground-*.png.

    stn serve & python benchmarks/playground/pictures.py

Writes them as PNG of 256 colours, which is enough for a page and a quarter of the size.
"""

import io
import threading
from pathlib import Path

import numpy as np
from browser import address, chromium, playground
from PIL import Image
from playwright.sync_api import Page
from stn_client import Client

from services.recipe_routes import _digits

OUT = Path(__file__).parents[2] / "docs" / "pictures"
DESK, PHONE = {"width": 1180, "height": 860}, {"width": 390, "height": 844}
WATCHED_MS = 20_000


def main() -> None:
    url = address(__doc__)
    with chromium() as browser:
        options = {"viewport": DESK, "reduced_motion": "reduce"}
        page = playground(browser, url, **options)
        page.get_by_role("button", name="Show me").click()
        page.locator("#steps li").nth(2).wait_for()
        save(page, "straighten")
        page.get_by_role("tab", name="Recipe").click()
        page.locator("#shipped").select_option("elastic")
        page.locator("#recipe-said").filter(has_text="spline").wait_for()
        save(page, "recipe")
        page.get_by_role("tab", name="Your images").click()
        page.locator("#chosen").set_input_files([photo(url, *one) for one in ((3, -50), (5, 45), (7, -55))])
        page.locator("#files-said").filter(has_text="3 of 3").wait_for()
        save(page, "files")
        page.get_by_role("tab", name="Live").click()
        with_load(url, lambda: page.wait_for_timeout(WATCHED_MS))
        save(page, "live")
        phone = playground(browser, url, viewport=PHONE, is_mobile=True, color_scheme="dark", reduced_motion="reduce")
        phone.get_by_label("Rotate").fill("-50")
        phone.get_by_label("Clutter").fill("2")
        phone.locator("#decision").filter(has_text="straightened").wait_for()
        phone.wait_for_timeout(500)
        save(phone, "phone")


def save(page: Page, name: str) -> None:
    page.evaluate("document.activeElement.blur()")
    shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    path = OUT / f"playground-{name}.png"
    shown.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


def photo(url: str, label: int, turn_deg: float) -> dict[str, object]:
    """A digit as a file, turned as the shipped bundle was taught: by the one warp that ``augment`` makes."""
    turn = {"name": "turn", "steps": [{"op": "affine", "rotate_deg": turn_deg}]}
    with Client(url) as client:
        (digit,) = client.augment(_digits()[label : label + 1], turn, seed=0).images
    buffer = io.BytesIO()
    Image.fromarray(digit[..., 0]).save(buffer, "PNG")
    return {"name": f"{label}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def with_load(url: str, watch) -> None:  # type: ignore[no-untyped-def]
    """Runs ``watch`` while somebody else sends batches of distorted digits, more and fewer by turns."""
    done = threading.Event()

    def send() -> None:
        rng = np.random.default_rng(0)
        with Client(url) as client:
            while not done.is_set():
                count = int(rng.integers(1, 120))
                made = client.augment(_digits()[rng.integers(0, 10, count)], "tutorial-mix", seed=int(rng.integers(99)))
                client.predict(made.images, min_confidence=0.5)
                done.wait(float(rng.uniform(0.05, 0.4)))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        watch()
    finally:
        done.set()
        sender.join()


if __name__ == "__main__":
    main()
