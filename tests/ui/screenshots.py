"""Pictures of every page, light, dark and on a phone: python tests/ui/screenshots.py FOLDER [NAME...]."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from browsing import chromium, served
from playwright.sync_api import Browser
from seed_store import SHADOW, fill
from seed_story import LOOP, name
from seed_tracking import GOING, MODEL, ODD, TRIALS

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
    "predictions": f"/loops/{LOOP}/predictions",
    "predictions-of-a-key": f"/loops/{LOOP}/predictions?q=T-000003",
    "predictions-new": "/loops/churn/predictions",
    "prediction": f"/loops/{LOOP}/predictions/p000003",
    "prediction-of-classes": f"/loops/{LOOP}/predictions/{SHADOW}",
    "prediction-failed": f"/loops/{LOOP}/predictions/p000097",
    "data": f"/loops/{LOOP}/data",
    "dataset": f"/loops/{LOOP}/data/blake3:{name('data', 3) * 2}",
    "turns": f"/loops/{LOOP}/turns",
    "turn": f"/loops/{LOOP}/turns/{name('turn', 3)}",
    "audit": "/audit",
    "experiments": "/experiments",
    "experiment": "/experiments/1",
    "experiment-filtered": "/experiments/1?filter=metrics.loss%20%3C%200.4&sort=metric%3Aloss&order=ascending",
    "experiment-mistaken": "/experiments/1?filter=metrics.loss%20is%20low",
    "experiment-odd": "/experiments/3",
    "tracked": f"/runs/{TRIALS[0]}",
    "tracked-going": f"/runs/{GOING}?x_axis=time&log=1",
    "tracked-odd": f"/runs/{ODD}",
    "tracked-compare": "/runs/compare?" + "&".join(f"run={run}" for run in (*TRIALS[:6], GOING)),
    "tracked-compare-none": "/runs/compare",
    "file-picture": f"/runs/{TRIALS[0]}/artifact?path=plots%2Fresiduals.png",
    "file-table": f"/runs/{TRIALS[0]}/artifact?path=tables%2Ferrors.csv",
    "file-text": f"/runs/{TRIALS[0]}/artifact?path=model%2FMLmodel.json",
    "file-none": f"/runs/{TRIALS[0]}/artifact?path=plots%2Freport.pdf",
    "file-folder": f"/runs/{TRIALS[0]}/artifact?path=plots",
    "registered": "/models",
    "registered-model": f"/models/{quote(MODEL)}",
    "registered-version": f"/models/{quote(MODEL)}/2",
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
