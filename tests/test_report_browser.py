"""The page in a real browser: no request, readable without scripts, in the dark, on a phone and printed."""

from __future__ import annotations

import shutil

import pytest

from labelembed.lab.report import write_report
from tests.made_evidence import leave_errors
from tests.made_runs import embedding_geometry, make_comparison, run_path

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
NAMES = [f"label {number}" for number in range(30)]
EMBEDDING = "label_embedding preset=paper"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    errors = {"one_hot": 0.21, "label_smoothing smoothing=0.4": 0.19, EMBEDDING: 0.2}
    errors = {name: {seed: error + 0.01 * (seed % 3) for seed in range(3)} for name, error in errors.items()}
    geometry = {EMBEDDING: {seed: embedding_geometry(NAMES, seed=seed) for seed in range(3)}}
    make_comparison(folder, errors, geometry=geometry)
    leave_errors(run_path(folder, EMBEDDING, 0), [(0, 1, 3)], labels=30)
    return write_report(folder).as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, address, **settings):
    """Returns the page, and what it asked for and complained of."""
    page, noted = browser.new_context(**settings).new_page(), []
    page.on("request", lambda request: noted.append(request.url))
    page.on("console", lambda message: noted.append(message.text))
    page.on("pageerror", lambda error: noted.append(str(error)))
    page.goto(address)
    return page, noted


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_asks_for_nothing_and_fits_with_and_without_scripts(width, height, scripts, browser, address):
    size = {"width": width, "height": height}
    page, noted = opened(browser, address, viewport=size, java_script_enabled=scripts)
    assert noted == [address]
    assert page.locator("body").bounding_box()["width"] == width
    assert page.locator("#figure-forest" if width > 1000 else "#figure-forest-narrow").is_visible()
    if width > 1000:  # nothing important lies below the first screen
        assert page.locator(".next").bounding_box()["y"] + page.locator(".next").bounding_box()["height"] <= height
    assert page.locator("#theme").is_visible() == page.locator("#label-query").is_visible() == scripts


def test_search_sorting_and_colours_work(browser, address):
    page, noted = opened(browser, address, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) == "rgb(255, 255, 255)" != dark
    page.fill("#label-query", "label 29")
    assert page.locator("[data-table=nearest] tbody tr:visible").all_inner_texts()[0].startswith("label 29")
    assert page.locator("[data-table=nearest] tbody tr:visible").count() == 1
    first = page.locator("[data-table=metrics] tbody tr:first-child td:first-child")
    for expected in ("label smoothing 0.4", "cross entropy"):
        page.click("[data-table=metrics] thead th:nth-child(2) button")
        assert first.inner_text() == expected
    assert len(noted) == 1


def test_what_is_folded_is_printed(browser, address):
    page, _ = opened(browser, address)
    folded = page.locator("[data-table=differences]")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert not page.locator("nav").is_visible()
