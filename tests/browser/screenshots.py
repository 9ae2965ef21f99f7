"""The pictures of README and docs: `make screenshots` writes docs/img/*.png from a fresh demo."""

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import OPTIONS, provide
from tests.browser.demo import Demo, running
from tests.environment import ROOT

IMAGES = ROOT / "docs" / "img"
WIDTH, HEIGHT = 1280, 1000
SETTLED_MS = 700  # charts are drawn, and what comes in by itself is in
# After these seconds of simulated devices the dashboard has counted them, and a minute is whole.
BUSY_SECONDS = 130
SEATTLE, WATER, OFFICE = 1, 2, 3
PAGES = {
    "device-seattle": f"/admin/devices/device/{SEATTLE}/overview/?range=30d",
    "device-water": f"/admin/devices/device/{WATER}/overview/?range=30d",
    "device-office": f"/admin/devices/device/{OFFICE}/overview/?range=7d",
    "group-latest": "/admin/devices/devicegroup/1/latest/",
    "events": "/admin/events/eventlog/",
    "dashboard": "/admin/",
}


def main() -> None:
    provide()
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        running(Path(place)) as demo,
        sync_playwright() as playwright,
    ):
        time.sleep(BUSY_SECONDS)
        browser = playwright.chromium.launch(**OPTIONS)
        for scheme in ("light", "dark"):
            page = opened(browser, demo, scheme)
            for name, address in PAGES.items():
                take(page, f"{demo.url}{address}", IMAGES / f"{name}-{scheme}.png")
        browser.close()


def opened(browser: Browser, demo: Demo, scheme: str) -> Page:
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme=scheme,  # type: ignore[arg-type]
        timezone_id="UTC",
        locale="en-GB",
    )
    demo.log_in(page)
    return page


def take(page: Page, address: str, path: Path) -> None:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=path)
    sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
