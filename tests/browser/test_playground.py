"""The Playground as people use it: a real browser, a real service."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import IN_CHROMIUM, OpenPage
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, Route, expect
from relay import Relay

from services.playground_files import _files
from stn_core.pictures import decode_picture

pytestmark = IN_CHROMIUM

TABS = ("try", "files", "recipe", "live")
SIDE = 28


def digit(label: int, row: int = 0) -> np.ndarray:
    """One of the Playground's own digits, uint8 ``[28, 28]``."""
    strip = decode_picture(_files()["digits.png"].content, channels=1)[..., 0]
    return strip[row * SIDE : (row + 1) * SIDE, label * SIDE : (label + 1) * SIDE]


def as_file(pixels: np.ndarray, name: str, kind: str = "PNG") -> FilePayload:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": buffer.getvalue()}


def pixels_of(canvases: Locator) -> np.ndarray:
    """The red pixels of each canvas, uint8 ``[N, H, W]``."""
    code = """(canvases) => canvases.map((one) => {
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      return [one.height, one.width, Array.from({ length: one.width * one.height }, (_, k) => data[4 * k])];
    })"""
    return np.stack(
        [np.array(red, np.uint8).reshape(height, width) for height, width, red in canvases.evaluate_all(code)]
    )


def drag(page: Page, node: Locator, by: tuple[float, float]) -> None:
    node.scroll_into_view_if_needed()
    box = node.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=8)
    page.mouse.up()


def slide(page: Page, name: str, value: float) -> None:
    page.get_by_label(name, exact=True).fill(str(value))


def test_a_two_turned_is_misread_until_it_is_straightened(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Show me").click()
    steps = page.locator("#steps strong")
    expect(steps).to_have_count(3)
    read = [text.removeprefix("read as ") for text in steps.all_text_contents()]
    assert (read[0], read[2]) == ("2", "2")
    assert read[1] != "2"
    # And above the same stands, to be turned on.
    expect(page.locator("#without .class")).to_have_text(read[1])
    expect(page.locator("#with .class")).to_have_text("2")
    expect(page.locator("#decision")).to_contain_text("straightened")
    straight, turned, again = pixels_of(page.locator("#steps canvas")).astype(float)
    assert np.abs(straight - again).mean() < np.abs(straight - turned).mean() / 2


def test_drags_on_the_image_move_it_and_are_answered(page: Page) -> None:
    page.get_by_role("button", name="a 7, number 1").click()
    expect(page.locator("#with .class")).to_have_text("7")
    drag(page, page.locator("[data-kind=rotate] .handle"), (90, 40))
    turn = float(page.get_by_label("Rotate").input_value())
    assert 15 < turn < 75
    expect(page.locator("#with .class")).to_have_text("7")
    expect(page.locator("#corner-error")).to_have_text(re.compile(r"^\d\.\d\d px left of [1-9]"))
    expect(page.locator("#answered")).to_contain_text("ms")
    drag(page, page.locator("[data-kind=scale] .handle"), (-30, -20))
    assert float(page.get_by_label("Scale").input_value()) < 0.95
    drag(page, page.locator("[data-kind=shear] .handle"), (20, 0))
    assert float(page.get_by_label("Shear").input_value()) != 0
    drag(page, page.locator("#distorted"), (30, -20))
    assert float(page.get_by_label("Shift right").input_value()) == pytest.approx(30 * SIDE / 320, abs=0.5)
    assert float(page.get_by_label("Shift down").input_value()) < -1
    before = pixels_of(page.locator("#distorted"))
    slide(page, "Clutter", 6)
    assert (pixels_of(page.locator("#distorted")) >= before).all()
    assert (pixels_of(page.locator("#distorted")) > before).any()
    page.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(pixels_of(page.locator("#distorted"))[0], digit(7))
    expect(page.locator("#decision")).to_contain_text("kept as it came")


def test_numbers_and_grid_are_of_the_theta_that_is_told(page: Page) -> None:
    slide(page, "Rotate", 40)
    expect(page.locator("#decision")).to_contain_text("straightened")
    expect(page.locator("#corner-error")).to_contain_text("px left of")
    true, predicted = (
        np.array(page.locator(f"#theta-{which}").text_content().split(), float).reshape(2, 3)  # type: ignore[union-attr]
        for which in ("true", "predicted")
    )
    cos, sin = np.cos(np.deg2rad(40)), np.sin(np.deg2rad(40))
    np.testing.assert_allclose(true, [[cos, -sin, 0], [sin, cos, 0]], atol=0.001)
    np.testing.assert_allclose(predicted, true, atol=0.35)
    edge = page.locator("#overlay .edge").get_attribute("d")
    corner = np.array(re.findall(r"[-\d.]+", edge or "")[:2], float)  # of the output's upper left
    np.testing.assert_allclose(corner, (predicted @ [-1, -1, 1] + 1) * SIDE / 2, atol=0.03)


def test_a_drawing_is_read_by_mouse_and_by_keyboard(page: Page) -> None:
    pad = page.locator("#pad")
    box = pad.bounding_box()
    assert box is not None
    at = [
        (box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in ((0.5, 0.15), (0.5, 0.5), (0.5, 0.85))
    ]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    expect(page.locator("#with .class")).to_have_text("1")
    expect(page.locator("#digits [aria-pressed=true]")).to_have_count(0)
    page.get_by_role("button", name="Clear the drawing").click()
    assert not pixels_of(page.locator("#distorted")).any()
    pad.focus()
    for key in ("Space", *["ArrowDown"] * 8, *["ArrowUp"] * 16):
        page.keyboard.press(key)
    expect(page.locator("#with .class")).to_have_text("1")
    assert (pixels_of(page.locator("#distorted")) > 200).any()


def test_files_of_any_size_are_read_and_a_broken_one_harms_no_other(page: Page) -> None:
    seven = np.array(Image.fromarray(digit(7)).rotate(-35, resample=Image.Resampling.BILINEAR))
    large = np.array(Image.fromarray(seven).resize((300, 300), Image.Resampling.BICUBIC))
    broken: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": as_file(seven, "")["buffer"][:60]}
    page.get_by_role("tab", name="Your images").click()
    page.locator("#chosen").set_input_files([as_file(seven, "seven.png"), broken, as_file(large, "large.webp", "WEBP")])
    expect(page.locator("#files-said")).to_have_text("2 of 3 read; 1 could not be read")
    small, bad, big = (
        page.locator(".card").filter(has_text=name) for name in ("seven.png", "broken.png", "large.webp")
    )
    expect(small.locator(".class")).to_have_count(2)
    expect(small.locator(".class").nth(1)).to_have_text("7")
    expect(bad.locator(".wrong")).to_contain_text("expected")
    expect(big.locator("figcaption").first).to_contain_text("300 \u00d7 300 px")
    assert big.locator(".shown path").first.get_attribute("d")
    assert pixels_of(small.locator("canvas")).shape == (2, 28, 28)


def test_files_can_be_dropped_and_swapped(page: Page) -> None:
    dark = as_file(255 - digit(3), "dark.png")
    code = """([bytes, name]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
      for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
      }
    }"""
    page.locator("#swap").evaluate("(box) => { box.checked = true; }")
    page.evaluate(code, [list(dark["buffer"]), "dark.png"])
    expect(page.get_by_role("tab", name="Your images")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#files-said")).to_have_text("1 of 1 read")
    expect(page.locator(".card .class").nth(1)).to_have_text("3")


def test_a_recipe_is_drawn_and_its_mistakes_are_shown_where_they_are(page: Page) -> None:
    page.get_by_role("tab", name="Recipe").click()
    expect(page.locator("#gallery canvas")).to_have_count(24)
    text = page.locator("#recipe-text")
    text.fill('{\n "name": "mine",\n "steps": [\n  {"op": "affine",\n   "rotate_deg": [900, 901]}]}')
    problem = page.locator("#recipe-errors li").first
    expect(problem).to_contain_text("rotate_deg")
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#lines .bad")).to_have_text("5\n")
    problem.get_by_role("button", name="line 5").click()
    selected = text.evaluate("(one) => one.value.slice(one.selectionStart, one.selectionEnd)")
    assert selected.startswith(("900", '"rotate_deg"'))
    text.fill('{\n "name": "mine",\n "steps": [,]}')
    expect(page.locator("#lines .bad")).to_have_text("3\n")
    page.get_by_label("Draws").fill("3")
    text.fill(
        '{"name": "mine", "canvas": {"height_px": 40, "width_px": 50}, "steps": [{"op": "affine", "rotate_deg": 0}]}'
    )
    expect(page.locator("#gallery canvas")).to_have_count(3)
    expect(page.locator("#recipe-errors li")).to_have_count(0)
    expect(text).not_to_have_attribute("aria-invalid", "true")
    made = pixels_of(page.locator("#gallery canvas"))
    np.testing.assert_array_equal(made[:, 6:34, 11:39], np.stack([digit(2)] * 3))
    page.get_by_label("Seed").fill("-4")
    expect(page.locator("#recipe-errors")).to_contain_text("seed")
    expect(page.get_by_label("Seed")).to_have_attribute("aria-invalid", "true")


def test_the_commands_make_the_draws_that_are_shown(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Recipe").click()
    page.get_by_label("Draws").fill("4")
    page.locator("#recipe-text").fill(
        '{"name": "mine", "description": "it\'s; \\"quoted\\" $HOME \\\\ é",'
        ' "steps": [{"op": "sometimes", "probability": 1, "steps": [{"op": "affine", "rotate_deg": [-60, 60]}]}]}'
    )
    expect(page.locator("#sdk-text")).to_contain_text("it's; ")
    expect(page.locator("#gallery canvas")).to_have_count(4)
    shown = pixels_of(page.locator("#gallery canvas"))
    curl, sdk = (page.locator(f"#{which}-text").text_content() or "" for which in ("curl", "sdk"))

    answer = subprocess.run(["bash", "-ec", curl], cwd=tmp_path, capture_output=True, check=True, timeout=120)
    copies = json.loads(answer.stdout)["results"][0]["copies"]
    by_curl = np.stack([decode_picture(base64.b64decode(copy["image"]), channels=1)[..., 0] for copy in copies])
    np.testing.assert_array_equal(by_curl, shown)

    (tmp_path / "made.py").write_text(sdk + "np.save('made.npy', made.images)\n")
    ran = subprocess.run(
        [sys.executable, "made.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), shown)


def test_what_is_copied_is_what_is_shown(open_page: OpenPage) -> None:
    page = open_page("/#recipe", permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("#gallery canvas")).to_have_count(24)
    for name, shown in (("recipe", "recipe-text"), ("curl", "curl-text"), ("Python", "sdk-text")):
        page.get_by_role("button", name=f"Copy the {name}").click()
        expect(page.locator("#copied")).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator(f"#{shown}").evaluate("(one) => one.value ?? one.textContent")
        page.locator("#copied").evaluate("(one) => one.replaceChildren()")


@pytest.fixture
def relay(service_url: str) -> Iterator[Relay]:
    relay = Relay(service_url.removeprefix("http://"))
    relay.open()
    yield relay
    relay.close()


def test_a_service_that_goes_is_told_and_one_that_comes_back_is_used(open_page: OpenPage, relay: Relay) -> None:
    page = open_page(url=relay.url)
    expect(page.locator("#with .class")).to_have_text("2")
    relay.close()
    page.get_by_role("button", name="a 5, number 2").click()
    expect(page.get_by_role("status").filter(has_text="does not answer")).to_be_visible()
    slide(page, "Rotate", 30)  # while it is away
    relay.open()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#with .class")).to_have_text("5")
    expect(page.locator("#corner-error")).to_contain_text("px left of 10.")  # that of 30 degrees


def test_a_key_is_asked_for_where_the_service_wants_one(page: Page) -> None:
    """The service's side of it is tested with the service; here it is in the way of the page's requests."""

    def door(route: Route) -> None:
        if route.request.headers.get("x-api-key") == "open sesame":
            route.continue_()
        else:
            document = {"type": "urn:stn:error:unauthorized", "status": 401, "detail": "expected an API key"}
            route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(document))

    page.route("**/v2/models/*/infer", door)
    page.get_by_role("button", name="a 8, number 1").click()
    field = page.get_by_label("The service asks for an API key").and_(page.locator("input"))
    expect(field).to_be_focused()
    for key in ("wrong", "open sesame"):
        expect(field).to_be_visible()
        field.fill(key)
        with page.expect_response("**/infer"):
            page.get_by_role("button", name="Use it").click()
    expect(page.locator("#with .class")).to_have_text("8")
    expect(field).to_be_hidden()
    page.get_by_role("tab", name="Recipe").click()
    expect(page.locator("#curl-text")).to_contain_text('-H "X-API-Key: $STN_API_KEY"')
    expect(page.locator("#sdk-text")).to_contain_text('api_key=os.environ["STN_API_KEY"]')
    assert "sesame" not in page.content()


def test_all_can_be_reached_and_used_by_keyboard(page: Page) -> None:
    page.locator("#tab-try").focus()
    for expected in ("files", "recipe", "live", "try"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#{expected}")).to_be_visible()
        expect(page.locator(f"#tab-{expected}")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="a 0, number 1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#with .class")).to_have_text("0")
    page.get_by_label("Rotate").focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    turned = float(page.get_by_label("Rotate").input_value())
    assert turned > 3
    expect(page.get_by_label("Rotate")).to_have_attribute("aria-valuetext", f"{turned:.0f}°")
    expect(page.locator("#spoken")).to_contain_text("straightened as 0")


@pytest.mark.parametrize("tab", TABS)
def test_a_phone_shows_all_without_scrolling_sideways(open_page: OpenPage, tab: str) -> None:
    page = open_page(f"/#{tab}", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    expect(page.locator(f"#{tab}")).to_be_visible()
    if tab == "try":
        page.locator("#digits button").nth(4).tap()
        expect(page.locator("#with .class")).to_have_text("4")
    if tab == "recipe":
        expect(page.locator("#gallery canvas")).to_have_count(24)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anyone(open_page: OpenPage, scheme: Any) -> None:
    page = open_page(color_scheme=scheme)
    expect(page.locator("#with .class")).to_have_text("2")
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        if tab == "recipe":
            page.locator("#recipe-text").fill("{")
            expect(page.locator("#recipe-errors li")).to_have_count(1)
        if tab == "files":
            page.locator("#chosen").set_input_files([as_file(digit(4), "four.png")])
            expect(page.locator("#files-said")).to_have_text("1 of 1 read")
        results = Axe().run(page)
        assert results.violations_count == 0, (tab, results.generate_report())


def test_the_live_tab_shows_what_the_service_does(page: Page) -> None:
    with page.expect_response("**/metrics"):
        page.get_by_role("tab", name="Live").click()
    with page.expect_response("**/metrics"):  # a second reading: the first is what others are compared with
        requests = page.locator(".chart").filter(has_text="Requests, a second")
    sent = """async () => {
      const m = await import('/playground/models.js'), bundle = await m.loadBundle();
      const image = { height: 28, width: 28, channels: 1, data: new Uint8Array(784) };
      for (let k = 0; k < 5; k++) await m.readBothWays(Array(8).fill(image), bundle);
    }"""
    page.evaluate(sent)
    expect(requests.locator("path")).not_to_have_count(0)
    expect(requests.locator(".key")).to_contain_text("200")
    for title, said in (
        ("Images, a second", "predict"),
        ("Time of a request, ms", "median"),
        ("Images of a batch", "rectifier"),
        ("Decisions, a second", "kept"),
    ):
        expect(page.locator(".chart").filter(has_text=title).locator(".key")).to_contain_text(said)
    read: list[str] = []
    page.on("request", lambda request: read.append(request.url))
    page.get_by_role("tab", name="Straighten").click()
    page.wait_for_timeout(1500)  # a reading is due each second, and none is made while nobody looks
    assert [url for url in read if url.endswith("/metrics")] == []
