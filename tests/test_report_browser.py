"""The page in a real browser: no request, readable without scripts, on a phone, in the dark and printed."""

from __future__ import annotations

import shutil

import pytest

from labelembed.lab.report import write_report
from tests.made_evidence import leave_errors
from tests.made_runs import embedding_geometry, make_comparison, run_path

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_asks_for_nothing_and_fits_with_and_without_scripts(width, height, scripts, browser, address):
    size = {"width": width, "height": height}
    page, noted = browser.new_context(viewport=size, java_script_enabled=scripts).new_page(), []
    page.on("request", lambda request: noted.append(request.url))
    page.on("console", lambda message: noted.append(message.text))
    page.on("pageerror", lambda error: noted.append(str(error)))
    page.goto(address)
    assert noted == [address]
    assert page.locator("body").bounding_box()["width"] == width
    assert page.locator("#figure-forest" if width > 1000 else "#figure-forest-narrow").is_visible()
    if width > 1000:  # nothing important lies below the first screen
        assert page.locator(".next").bounding_box()["y"] + page.locator(".next").bounding_box()["height"] <= height
    assert page.locator("#label-query").is_visible() == scripts


def test_names_are_searched_dark_is_dark_and_what_is_folded_is_printed(browser, address):
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto(address)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 26)"
    page.fill("#label-query", "label 29")
    assert page.locator("[data-table=nearest] tbody tr:visible").all_inner_texts()[0].startswith("label 29")
    assert page.locator("[data-table=nearest] tbody tr:visible").count() == 1
    folded = page.locator("[data-table=differences]")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert not page.locator("nav").is_visible()
