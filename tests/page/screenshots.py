"""The pictures of the page in docs/, taken of a running demo: `python tests/page/screenshots.py URL READER docs`."""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTH, TALLEST = 1360, 1540
SHOTS = (
    ("page-flow-light", "light", "#flow", "#now"),
    ("page-reader-light", "light", "#reader", "#reader"),
    ("page-labels-dark", "dark", "#labels", ".pair"),
)


def shoot(page: Page, first: str, last: str, file: Path) -> None:
    """What lies between two parts of the page."""
    page.locator(last).scroll_into_view_if_needed()
    page.wait_for_timeout(3000)  # pictures are fetched when they come into view
    top, bottom = page.locator(first).bounding_box(), page.locator(last).bounding_box()
    assert top is not None and bottom is not None
    scrolled = page.evaluate("scrollY")
    above = top["y"] + scrolled
    height = bottom["y"] + bottom["height"] + scrolled - above
    clip = {"x": 0, "y": max(0, above - 16), "width": WIDTH, "height": min(height + 32, TALLEST)}
    page.screenshot(path=file, full_page=True, clip=clip)  # type: ignore[arg-type]


def main() -> None:
    url, reader, folder = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, scheme, first, last in SHOTS:
            page = browser.new_page(
                viewport={"width": WIDTH, "height": 1600},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            page.goto(f"{url}/?reader={reader}")
            page.locator(".list > li").first.wait_for()
            page.evaluate("document.querySelector('header').style.position = 'static'")
            shoot(page, first, last, Path(folder) / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
