"""A real headless Chromium walks the pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browsing import CHROMIUM, chromium, served
from playwright.sync_api import Browser, ConsoleMessage, Page
from screenshots import PAGES
from seed_store import fill
from seed_story import LOOP, NOW

from noria.records import Turn, TurnState
from noria.store import Store, open_store
from noria.store.ports import Label

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}")

SHOWN = {title: path for title, path in PAGES.items() if title != "missing"}
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const found = rgb(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || one.closest("svg, .uplot, [aria-hidden=true], .unseen") || !one.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(back(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(one.className + ": " + one.textContent.trim().slice(0, 30));
  }
  return [...new Set(poor)];
}"""


@dataclass
class Site:
    """A running server, its store, a browser, and everything the browser complained about."""

    address: str
    store: Store
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def page(self, *, width: int = 1280, dark: bool = False) -> Page:
        """A fresh tab whose complaints are noted."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own, so that what is approved here is not seen elsewhere."""
    folder: Path = tmp_path_factory.mktemp("browsed")
    store = open_store(folder)
    fill(store)
    with served(store) as address, chromium() as browser:
        yield Site(address, store, browser)
    store.close()


@pytest.mark.parametrize("path", SHOWN.values(), ids=SHOWN.keys())
def test_page_opens_without_complaint_and_fits_a_phone(site: Site, path: str) -> None:
    site.complaints.clear()
    page = site.page(width=375)
    page.goto(site.address + path)
    for holder in page.locator("[data-island]").all():
        holder.locator("canvas").wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.context.close()
    assert site.complaints == []
    assert wide <= 375


@pytest.mark.parametrize("path", SHOWN.values(), ids=SHOWN.keys())
def test_text_stands_out_from_its_ground_by_day_and_night(site: Site, path: str) -> None:
    page = site.page()
    page.goto(site.address + path)
    poor = page.evaluate(CONTRAST)
    page.emulate_media(color_scheme="dark")
    poor += page.evaluate(CONTRAST)
    page.context.close()
    assert poor == []


def test_wheel_is_seen_and_its_stages_lead_on(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}")
    box = page.locator("svg.wheel").bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert page.locator(".stage a").count() == 7
    page.locator(".stage a", has_text="Monitor").click()
    page.wait_for_url("**/monitoring")
    page.context.close()


def test_charts_are_drawn_with_their_marks(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}/monitoring")
    page.wait_for_selector(".pin.alarm")
    inked = page.evaluate(
        "[...document.querySelectorAll('canvas')].map((c) => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some((v) => v > 0))"
    )
    assert inked == [True, True]
    page.locator(".pin.alarm").first.hover()
    assert "The error is up" in (page.locator(".pin.alarm").first.get_attribute("data-text") or "")
    page.context.close()


def test_theme_follows_the_system_and_the_button_and_is_remembered(site: Site) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = site.page(), site.page(dark=True)
    for page in (light, dark):
        page.goto(site.address)
    day, night = light.evaluate(ground), dark.evaluate(ground)
    assert day != night
    button = light.locator("button.theme")
    button.click()
    button.click()
    assert light.evaluate(ground) == night
    light.reload()
    assert light.evaluate(ground) == night
    light.context.close()
    dark.context.close()


def test_page_keeps_itself_up_to_date_without_reloading(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/churn/turns")
    page.evaluate("window.same = true")
    turn = Turn("fresh", "churn", 2, TurnState.ordered, NOW, NOW, "manual", "something new")
    site.store.ledger.write(lambda tx: tx.put(turn))
    page.wait_for_selector("text=something new", timeout=8000)
    assert page.evaluate("window.same")
    page.context.close()


def test_keyboard_goes_to_the_runs_and_skips_to_the_content(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_url("**/runs")
    page.context.close()


def test_a_prediction_is_found_and_its_chain_followed_by_keys(site: Site) -> None:
    site.complaints.clear()
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}")
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/predictions")
    page.keyboard.press("n")
    page.wait_for_url("**/predictions?before=*")
    page.keyboard.press("/")
    page.keyboard.type("T-000007\n")
    page.wait_for_url("**/predictions?q=T-000007")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/predictions/p000007")
    assert "p000007" in page.locator("h1").inner_text()
    page.locator(".behind a", has_text=f"{LOOP} v3").click()
    page.wait_for_url("**/models/3")
    assert site.complaints == []
    page.context.close()


def test_a_label_that_comes_is_seen_on_the_predictions_page(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}/predictions/p000010")
    page.evaluate("window.same = true")
    assert "not known yet" in page.locator("main").inner_text()
    site.store.predictions.label([Label(LOOP, NOW, 77.25, prediction="p000010")])
    page.wait_for_selector("text=77.25", timeout=20_000)
    assert page.evaluate("window.same")
    page.context.close()


def test_ticked_runs_are_compared(site: Site) -> None:
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}/runs")
    for box in page.locator("input[type=checkbox]").all()[:2]:
        box.check()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("table.compare thead a")
    assert page.locator("table.compare thead a").count() == 2
    page.context.close()


def test_version_is_approved_through_the_form(site: Site) -> None:
    site.complaints.clear()
    page = site.page()
    page.goto(f"{site.address}/loops/{LOOP}/models/4")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Comment").fill("The spring is over.")
    page.get_by_role("button", name="Approve").click()
    page.wait_for_selector("text=The spring is over.")
    assert "approved" in page.locator(".said").inner_text()
    assert page.locator("form").count() == 0
    assert site.complaints == []
    page.context.close()
