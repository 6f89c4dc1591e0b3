"""Pictures of every page, light, dark and on a phone: python tests/ui/screenshots.py FOLDER [NAME...]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browsing import chromium, served
from playwright.sync_api import Browser
from seed_store import fill
from seed_story import LOOP, name

from noria.store import open_store

PAGES = {
    "home": "/",
    "loop": f"/loops/{LOOP}",
    "loop-new": "/loops/churn",
    "runs": f"/loops/{LOOP}/runs",
    "run": f"/loops/{LOOP}/runs/{name('run', 3)}",
    "compare": f"/loops/{LOOP}/compare?runs={name('run', 1)},{name('run', 2)},{name('run', 3)}",
    "models": f"/loops/{LOOP}/models",
    "model": f"/loops/{LOOP}/models/4",
    "model-rejected": f"/loops/{LOOP}/models/2",
    "monitoring": f"/loops/{LOOP}/monitoring",
    "monitoring-new": "/loops/churn/monitoring",
    "data": f"/loops/{LOOP}/data",
    "dataset": f"/loops/{LOOP}/data/blake3:{name('data', 3) * 2}",
    "turns": f"/loops/{LOOP}/turns",
    "turn": f"/loops/{LOOP}/turns/{name('turn', 3)}",
    "audit": "/audit",
    "missing": "/loops/nothing",
}
LOOKS = {"light": ("light", 1360), "dark": ("dark", 1360), "phone": ("light", 375)}


def shoot(browser: Browser, address: str, folder: Path, wanted: list[str]) -> None:
    """Write one picture for each page and look."""
    for look, (scheme, width) in LOOKS.items():
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 900}
        )
        page = context.new_page()
        page.on("console", lambda message: print("console:", message.text))
        for title, path in PAGES.items():
            if wanted and title not in wanted:
                continue
            page.goto(address + path)
            page.wait_for_timeout(350)
            page.screenshot(path=folder / f"{title}-{look}.png", full_page=True)
        context.close()


def main() -> None:
    """Fill a store, serve it, take the pictures."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        store = open_store(place)
        fill(store)
        with served(store) as address, chromium() as browser:
            shoot(browser, address, folder, sys.argv[2:])
        store.close()


if __name__ == "__main__":
    main()
