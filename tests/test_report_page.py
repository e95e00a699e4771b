"""The page and its figures: whole, offline, escaped, the same each time, and small."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from labelembed.lab.report import full_verdict, load_comparison, write_report
from labelembed.lab.report.decision import MOST_DRAWN, best_method, by_weight, drawn_variants
from labelembed.lab.report.page import make_page
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import succeed
from tests.made_evidence import leave_errors
from tests.made_runs import embedding_geometry, history_lines, make_comparison, make_run, metrics, run_path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EMBEDDING = "label_embedding preset=paper"
ERRORS = {
    "one_hot": {seed: 0.0200 + 0.0003 * seed for seed in range(6)},
    "label_smoothing smoothing=0.4": {seed: 0.0160 - 0.0002 * seed for seed in range(6)},
    EMBEDDING: {seed: 0.0150 + 0.0001 * seed**2 for seed in range(6)},
}
NAMES = ("<script>alert(1)</script>", "قطة", "犬", "🐈", "a" * 10_000, "x & y", "$x^2$", "line\nbreak", "\x07", "__")


class Page(HTMLParser):
    """Collects tags, what they link to, ids and text."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.links, self.ids, self.texts = html, [], [], [], []
        self.feed(html)
        self.text = " ".join("".join(self.texts).replace("\u00a0", " ").replace("\u2212", "-").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        if self.cdata_elem is None:  # neither a script nor a style
            self.texts.append(data)


def page_of(path, **settings):
    return Page(write_report(path, **settings).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A folder with its page written, and the page; tests only read them."""
    folder = tmp_path_factory.mktemp("usual")
    geometry = {EMBEDDING: {seed: embedding_geometry(NAMES, seed=seed) for seed in range(6)}}
    make_comparison(folder, ERRORS, geometry=geometry)
    for name in ERRORS:
        leave_errors(run_path(folder, name, 0), [(0, 1, 3)], labels=len(NAMES))
    return folder, page_of(folder)


def test_the_page_needs_nothing_from_anywhere_and_runs_one_script(usual):
    _, page = usual
    assert all(link.startswith(("#", "data:image/png")) for link in page.links)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", page.html)
    # The browser runs the script that the policy names by its digest, and no other.
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page.html).group(1)
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert re.findall(r"<script", page.html) == ["<script"]


def test_ids_are_unique_and_what_refers_to_them_finds_them(usual):
    _, page = usual
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page.html)) <= set(page.ids)
    assert (
        len(re.findall(r'<svg[^>]* role="img"[^>]* aria-label="[^"]{20,}"', page.html)) == page.tags.count("svg") == 5
    )


def test_the_answer_stands_first_under_the_name_of_the_data_and_labels_are_no_markup(usual):
    folder, page = usual
    found = full_verdict(load_comparison(folder))
    assert "<title>digits: report</title>" in page.html
    assert page.text.index(found.headline) < page.text.index(found.command) < page.text.index("Mean ± standard")
    assert all(shown in page.text for shown in ("<script>alert(1)</script>", "قطة", "$x^2$", "x & y"))
    assert "a" * 41 not in page.text
    assert "\x07" not in page.text


def test_making_it_again_gives_the_same_bytes_wherever_the_folder_is(usual, tmp_path):
    folder, page = usual
    shutil.copytree(folder, tmp_path / "there")
    assert write_report(tmp_path / "there").read_text(encoding="utf-8") == page.html


def test_a_page_of_three_objectives_and_eight_seeds_is_below_400_kilobytes(tmp_path):
    random = np.random.default_rng(0)
    curves = {
        name: {seed: (0.02 + 0.3 / np.arange(1, 31) + 0.01 * random.random(30)).tolist() for seed in range(8)}
        for name in ERRORS
    }
    errors = {name: {seed: curve[-1] for seed, curve in by_seed.items()} for name, by_seed in curves.items()}
    names = [f"label {n}" for n in range(100)]
    geometry = {EMBEDDING: {seed: embedding_geometry(names, seed=seed) for seed in range(8)}}
    path = write_report(make_comparison(tmp_path, errors, curves=curves, geometry=geometry))
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("values", [[0.5, float("nan"), 0.3], [0.5], [float("nan")] * 2, [0.5] + [float("nan")] * 9])
def test_unequal_histories_gaps_and_empty_ones_are_drawn(values, tmp_path):
    folder = make_comparison(
        tmp_path, {"one_hot": {0: 0.1}, EMBEDDING: {0: 0.1, 1: 0.1}}, curves={EMBEDDING: {0: values}}
    )
    assert 'id="figure-curves"' in page_of(folder).html


def test_a_single_run_has_a_page(tmp_path):
    how = {"test": metrics(0.02), "validation": metrics(0.03), "history": history_lines([0.2, 0.1, 0.02])}
    objective = {"name": "label_embedding", "temperature": 3.0}
    make_run(tmp_path / "first", objective=objective, geometry=embedding_geometry(["cat", "dog", "car"]), **how)
    text = page_of(tmp_path / "first").text
    for shown in ("test error of 2.00 %", "One run of label embedding, seed 0", "temperature=3.0", "Nearest labels"):
        assert shown in text
    assert not any(heading in text for heading in ("Differences", "How this was decided"))


def test_settings_show_what_differs_and_what_made_the_runs(tmp_path):
    make_comparison(tmp_path, {name.replace("one_hot", "distillation teacher={a}"): {0: 0.1} for name in ERRORS})
    run = RunFolder(run_path(tmp_path, EMBEDDING, 0))
    run.write_recipe(run.recipe() | {"batch_size": 50})
    text = page_of(tmp_path).text
    settings = text[text.index("What differs between the variants") :]
    assert "batch_size" in settings
    assert [word for word in settings.split() if word in ("100", "50")][:3] == ["100", "100", "50"]
    assert "labelembed compare digits-mlp --seeds 8" in text
    assert "times the time per epoch of distillation (teacher={a})" in text


def test_figures_are_the_same_files_each_time_without_anything_that_only_a_page_can_say(usual, tmp_path):
    folder, _ = usual
    for place in "ab":
        succeed("report", folder, "--figures", tmp_path / place, "--out", tmp_path / "page.html")
    figures = ("forest", "calibration", "labels", "curves")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{name}.{kind}" for name in figures for kind in ("svg", "pdf")}
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert b"var(--" not in content
        assert ET.fromstring(content).tag.endswith("svg") if name.endswith("svg") else content.startswith(b"%PDF")


def test_every_seed_is_a_dot_in_each_panel_of_the_forest_plot(usual):
    _, page = usual
    forest = page.html[page.html.index('id="figure-forest"') : page.html.index('id="figure-forest-narrow"')]
    points = "".join(re.findall(r"PathCollection.*?</g>\s*</g>", forest, re.DOTALL))
    # Two variants against the control, in error and in NLL.
    assert len(re.findall(r'xlink:href="#forest-[^"]*"', points)) == 2 * (2 * 6 + 1)


def test_differences_are_shown_to_the_baseline_and_to_the_control_where_that_is_another(tmp_path):
    errors = {"one_hot": {0: 0.3, 1: 0.3}, "label_smoothing smoothing=0.1": {0: 0.2, 1: 0.2}}
    folder = make_comparison(tmp_path, errors | {"label_embedding": {0: 0.1, 1: 0.12}})
    tables = make_page(load_comparison(folder)).tables
    found = {tables[key].title for key in tables if key.endswith("differences")}
    assert found == {"Differences to cross entropy", "Differences to label smoothing 0.1"}
    first = tables["control-differences"].frame["difference"]
    assert first.tolist()[:2] == ["10.00", "-9.00"]


def test_of_many_variants_the_method_the_baseline_and_the_best_are_drawn(tmp_path):
    names, draws = ["one_hot", *(f"label_smoothing smoothing={nth}" for nth in range(18))], np.random.default_rng(0)
    made = {name: {0: 0.2 + 0.1 * draws.random()} for name in names} | {"label_embedding": {0: 0.1}}
    comparison = load_comparison(make_comparison(tmp_path, made))  # its method, and best variant, was asked for last
    order = [variant.name for variant in by_weight(comparison)]
    errors = {variant.name: next(iter(variant.metrics("test", "error").values())) for variant in comparison.variants}
    assert order[:2] == [best_method(comparison).name, "one_hot"] == ["label_embedding", "one_hot"]
    assert order[2:] == sorted(set(errors) - set(order[:2]), key=errors.get)
    drawn = drawn_variants(comparison)
    assert set(drawn) == set(order[:MOST_DRAWN])
    assert sorted(drawn.values()) == list(range(MOST_DRAWN))


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        if CHROMIUM is None:
            pytest.skip("no Chromium here: apt-get install chromium")
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_asks_for_nothing_and_fits_with_and_without_scripts(width, height, scripts, browser, usual):
    size = {"width": width, "height": height}
    page, noted = browser.new_context(viewport=size, java_script_enabled=scripts).new_page(), []
    page.on("request", lambda request: noted.append(request.url))
    page.on("console", lambda message: noted.append(message.text))
    page.on("pageerror", lambda error: noted.append(str(error)))
    page.goto((usual[0] / "report.html").as_uri())
    assert noted == [(usual[0] / "report.html").as_uri()]
    assert page.locator("body").bounding_box()["width"] == width
    assert page.locator("#figure-forest" if width > 1000 else "#figure-forest-narrow").is_visible()
    if width > 1000:  # nothing important lies below the first screen
        assert page.locator(".next").bounding_box()["y"] + page.locator(".next").bounding_box()["height"] <= height
    assert page.locator("#label-query").is_visible() == scripts


def test_names_are_searched_dark_is_dark_and_what_is_folded_is_printed(browser, usual):
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto((usual[0] / "report.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 26)"
    page.fill("#label-query", "X &")
    (row,) = page.locator("[data-table=nearest] tbody tr:visible").all_inner_texts()
    assert row.startswith("x & y")
    folded = page.locator("[data-table=differences]")
    assert not folded.is_visible()
    page.emulate_media(media="print")
    assert folded.is_visible()
    assert not page.locator("nav").is_visible()
