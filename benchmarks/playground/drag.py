"""How long the Playground takes from a move of the hand to the pixels that answer it, measured in the browser.

    stn serve & python benchmarks/playground/drag.py

A digit is turned to and fro by its handle, at the pace of a screen. Each move's time runs from the browser's time stamp
of the event until the frame with the service's answer to it, or to a later one, has been drawn.
"""

import json
import math
from pathlib import Path

import numpy as np
from browser import address, chromium, playground
from playwright.sync_api import Page

from stn_core.provenance import provenance

OUT = Path(__file__).parent / "drag.json"
MEASURES = "performance.getEntriesByName('playground-answered').map((one) => one.duration)"
WARM_UP, MOVES, EACH_MS = 40, 400, 16


def main() -> None:
    url = address(__doc__)
    with chromium() as browser:
        page = playground(browser, url, viewport={"width": 1180, "height": 900})
        version = browser.version
        turn(page, WARM_UP)
        page.evaluate("performance.clearMeasures()")
        moves = turn(page, MOVES)
        times_ms = np.array(page.evaluate(MEASURES))
    found = {
        "moves": moves,
        "answered": len(times_ms),
        "median_ms": round(float(np.median(times_ms)), 1),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 1),
        "max_ms": round(float(times_ms.max()), 1),
        "chromium": version,
    }
    print(json.dumps(found, indent=2))
    OUT.write_text(json.dumps({**provenance(), **found}, indent=2) + "\n")


def turn(page: Page, moves: int) -> int:
    """Drags the handle that turns, to and fro by up to 60 degrees; gives the number of moves."""
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    reach = stage["height"] * 11 / 28
    page.mouse.move(middle[0], middle[1] - reach)
    page.mouse.down()
    for number in range(1, moves + 1):
        angle = math.radians(60) * math.sin(2 * math.pi * number / 120)
        page.mouse.move(middle[0] + reach * math.sin(angle), middle[1] - reach * math.cos(angle))
        page.wait_for_timeout(EACH_MS)
    page.mouse.up()
    page.wait_for_timeout(500)
    return moves


if __name__ == "__main__":
    main()
