"""The page in a real browser: it searches, sorts, toggles, changes its colours, and asks the network for nothing."""

from __future__ import annotations

import csv
import io
import shutil
import time

import numpy as np
import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.report import write_report
from labelembed.lab.report.similarities import LabelSimilarities, Neighbours
from tests.made_evidence import leave_errors, leave_sentences
from tests.made_runs import embedding_geometry, make_comparison, run_path

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

EMBEDDING = "label_embedding preset=paper"
NAMES = ("<script>alert(1)</script>", "قطة", "犬", "🐈", "a" * 10_000, "x & y", "cat", "dog", "horse", "ship")
NAMES += (
    "hommes",
    "\u2581homme",
    *(f"label {nth}" for nth in range(13)),
)  # too many to look through
MANY = 50_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usual")
    curve = [0.4, 0.2, 0.1, 0.05]
    errors = {"one_hot": {0: 0.05, 1: 0.06}, "label_smoothing": {0: 0.04, 1: 0.05}, EMBEDDING: {0: 0.03, 1: 0.04}}
    curves = {name: {seed: [*curve, error] for seed, error in by_seed.items()} for name, by_seed in errors.items()}
    geometry = {name: {seed: embedding_geometry(NAMES, seed=seed) for seed in (0, 1)} for name in list(errors)[1:]}
    make_comparison(folder, errors, curves=curves, geometry=geometry)
    for name in ("one_hot", EMBEDDING):
        leave_errors(run_path(folder, name, 0), [(6, 7, 3), (0, 9, 1)], labels=len(NAMES))
        leave_sentences(run_path(folder, name, 0), [(f"{name} a", 0.2), (f"{name} b", 0.2 + 0.5 * (name != "one_hot"))])
    return write_report(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A page of 50,000 labels whose neighbours are drawn at random: none compress worse."""
    generator = np.random.default_rng(0)
    names = tuple(
        f"{word}{number}" for number, word in enumerate(generator.choice(["ka", "tomi", "Vor", "haus"], MANY))
    )

    def at_random(self, labels, k):
        scores = -np.sort(-generator.random((labels, k)), axis=1)
        return Neighbours(generator.integers(0, len(self.names), (labels, k)), scores)

    folder = tmp_path_factory.mktemp("large")
    vectors = torch.randn(MANY, 2, generator=torch.Generator().manual_seed(0))
    table = LabelGeometry(names, vectors=vectors, metric="cosine")
    make_comparison(folder, {"one_hot": {0: 0.2}, EMBEDDING: {0: 0.1}}, geometry={EMBEDDING: {0: table}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LabelSimilarities, "_neighbours_of_first_run", at_random)
        return write_report(folder)


class Opened:
    """A page that notes what goes wrong and what it asks for."""

    def __init__(self, browser, path, **settings):
        settings = {"viewport": {"width": 1200, "height": 900}} | settings
        self.context = browser.new_context(accept_downloads=True, **settings)
        self.page = self.context.new_page()
        self.wrong, self.requests = [], []
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self):
        self.wait_for("document.documentElement.dataset.ready === 'all'")
        return self

    def wait_for(self, condition):
        """Waits for what a script brings about; Playwright's own waiting evaluates text, which the page forbids."""
        until = time.monotonic() + 30
        while not self.page.evaluate(condition):
            assert time.monotonic() < until, f"never came: {condition}"
            time.sleep(0.02)

    def __exit__(self, kind, error, trace):
        self.context.close()
        if kind is None:
            assert self.wrong == []
            asked = [url for url in self.requests if not url.startswith(("data:", "blob:", "file:"))]
            assert asked == []
            assert sum(url.startswith("file:") for url in self.requests) == 1

    def texts(self, selector):
        return self.page.eval_on_selector_all(selector, "found => found.map(one => one.textContent.trim())")


def test_search_finds_any_label_with_its_nearest(browser, usual):
    with Opened(browser, usual) as opened:
        page = opened.page
        page.fill("#label-query", "CA")
        assert opened.texts("#label-found .label") == ["cat"]
        neighbours = opened.texts("#label-found .neighbour bdi")
        assert len(neighbours) == 20
        # made so that a label is nearest to the next ones
        assert set(neighbours[:2]) == {"x & y", "dog"}
        shares = [float(text.rstrip("\u00d7")) for text in opened.texts("#label-found .neighbour .unit")]
        assert shares == sorted(shares, reverse=True)
        page.fill("#label-query", "<script>")
        assert opened.texts("#label-found .label") == ["<script>alert(1)</script>"]
        page.fill("#label-query", "no such label")
        assert "No label" in page.inner_text("#label-count")
        page.fill("#label-query", "dog")
        page.click("#label-found .neighbour >> nth=0")
        assert page.input_value("#label-query") in ("cat", "horse")
        page.select_option("#label-variant", label="label_smoothing")
        opened.wait_for("document.querySelector('#label-found .label').textContent !== ''")
        page.fill("#label-query", "homme")  # with the mark that subwords begin with, the whole name comes first
        assert opened.texts("#label-found .label") == ["\u2581homme", "hommes"]


def test_tables_sort_by_the_number_behind_the_text(browser, usual):
    with Opened(browser, usual) as opened:
        column = "table[data-table=metrics] tbody th"
        assert [text.split()[0] for text in opened.texts(column)] == ["one_hot", "label_smoothing", "label_embedding"]
        heading = opened.page.locator("table[data-table=metrics] .sort", has_text="test error")
        heading.click()
        assert [text.split()[0] for text in opened.texts(column)] == ["label_embedding", "label_smoothing", "one_hot"]
        heading.press("Enter")
        assert [text.split()[0] for text in opened.texts(column)] == ["one_hot", "label_smoothing", "label_embedding"]
        assert opened.page.locator("th[aria-sort=descending]").count() == 1


def test_curves_toggle_change_scale_and_read_out(browser, usual):
    with Opened(browser, usual) as opened:
        page = opened.page
        drawn = "() => document.querySelector('#curves-plot canvas').toDataURL().length"
        pictures = [page.evaluate(drawn)]
        page.click("#curves-toggles button >> nth=2")
        assert page.get_attribute("#curves-toggles button >> nth=2", "aria-pressed") == "false"
        pictures.append(page.evaluate(drawn))
        page.check("#curves-log")
        pictures.append(page.evaluate(drawn))
        page.select_option("#curves-metric", label="training term total")
        pictures.append(page.evaluate(drawn))
        assert len(set(pictures)) == 4
        page.click("#curves-toggles button >> nth=2")
        page.select_option("#curves-metric", label="test error")
        page.focus("#curves-plot")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        opened.wait_for("document.querySelector('#curves-readout').textContent.startsWith('Epoch 2')")
        assert "one_hot: 20 · " in page.inner_text("#curves-readout")


def test_matrix_names_what_is_pointed_at_and_a_click_marks_the_label_everywhere(browser, usual):
    with Opened(browser, usual) as opened:
        page = opened.page
        square = page.locator("figure.matrix image").first
        square.scroll_into_view_if_needed()
        box = square.bounding_box()
        page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.6 * box["height"])
        opened.wait_for("document.getElementById('matrix-readout').textContent.includes('→')")
        assert "\u00d7" in page.inner_text("#matrix-readout")
        label = NAMES.index("dog")
        page.locator(f"table.neighbours th[data-label='{label}']").first.click()
        assert page.locator(f"[data-label='{label}'].chosen").count() > 2
        assert page.locator(f"svg [id$='-label-{label}'].chosen").count() >= 1
        assert page.locator("figure.matrix .outline").count() >= 2
        assert page.input_value("#label-query") == "dog"
        page.locator(f"table.neighbours th[data-label='{label}']").first.press("Enter")
        assert page.locator(".chosen").count() == 0


def test_what_is_downloaded_in_the_dark_is_dark_on_white(browser, usual):
    with Opened(browser, usual, color_scheme="dark") as opened:
        with opened.page.expect_download() as download:
            opened.page.locator("#figure-forest button:text('SVG')").click()
        text = download.value.path().read_text()
    assert 'fill="#ffffff"' in text
    assert "#1a1b1c" in text
    assert "rgb(228, 230, 232)" not in text


def test_dark_is_the_systems_choice_or_the_readers_and_letters_stand_out(browser, usual):
    colours = """() => { const style = getComputedStyle(document.body);
        return [style.backgroundColor, style.color, getComputedStyle(document.querySelector('.note')).color] }"""
    with Opened(browser, usual, color_scheme="dark") as opened:
        dark = opened.page.evaluate(colours)
        opened.page.click("[data-theme-choice=light]")
        light = opened.page.evaluate(colours)
    with Opened(browser, usual, color_scheme="light") as opened:
        assert opened.page.evaluate(colours) == light
        opened.page.click("[data-theme-choice=dark]")
        assert opened.page.evaluate(colours) == dark
    for paper, *inks in (dark, light):
        assert all(_contrast(paper, ink) >= 4.5 for ink in inks)
    assert dark[0] != light[0]


def _contrast(one, other):
    """Returns the contrast of two colours by WCAG 2.1."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_a_phone_never_scrolls_sideways(browser, usual):
    with Opened(browser, usual, viewport={"width": 320, "height": 800}) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") == 320
        plot = opened.page.locator(".on-phone svg").bounding_box()
        assert plot["x"] >= 0
        assert plot["x"] + plot["width"] <= 320


def test_figures_and_numbers_are_saved_as_files(browser, usual):
    with Opened(browser, usual) as opened:
        page = opened.page

        def saved(button):
            with page.expect_download() as download:
                page.locator(button).click()
            return download.value.path().read_bytes()

        svg = saved("#figure-reliability button:text('SVG')").decode()
        assert svg.startswith("<svg")
        assert "var(--" not in svg
        assert "currentColor" not in svg
        assert saved("#figure-reliability button:text('PNG')").startswith(b"\x89PNG")
        rows = list(csv.reader(io.StringIO(saved("#curves-csv").decode())))
        assert rows[0] == ["variant", "seed", "epoch", "test error"]
        assert rows[5] == ["one_hot", "0", "5", "0.05"]
        assert len(rows) == 1 + 3 * 2 * 5
        labels = list(csv.reader(io.StringIO(saved("figure.matrix button:text('CSV')").decode())))
        assert set(labels[0][2:]) == set(NAMES)
        assert float(labels[1][3]) > 0


def test_translations_are_sorted_anew(browser, usual):
    with Opened(browser, usual) as opened:
        order = "#sentences li dd:last-child"
        first = opened.texts("#sentences li div:last-child dd")
        assert first == [f"{EMBEDDING} b", f"{EMBEDDING} a"], order
        opened.page.select_option("#sentence-sort", "baseline")
        assert opened.texts("#sentences li div:last-child dd") == first[::-1]


def test_on_paper_and_with_scripts_off_all_that_matters_is_there(browser, usual):
    with Opened(browser, usual, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        assert opened.page.locator("#curves-drawn svg").is_visible()
        assert not opened.page.locator("#curves-chart").is_visible()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(usual.as_uri())
    assert page.locator("#curves-drawn svg").is_visible()
    assert page.locator("#verdict .on-wide svg").is_visible()
    assert page.locator("table.neighbours").first.is_visible()
    assert not page.locator("#label-search").is_visible()
    assert not page.locator("button:visible").count()
    context.close()


def test_fifty_thousand_labels_open_and_answer_at_once(browser, large):
    assert large.stat().st_size < 5_000_000
    with Opened(browser, large) as opened:
        page = opened.page
        took = page.evaluate("performance.now()")
        assert opened.texts("#label-found .label")[0].endswith("0")
        # Many times what a quiet machine takes: it is to catch a search that looks at every neighbour, not a busy day.
        milliseconds = page.evaluate(
            """async () => {
              const field = document.getElementById("label-query");
              const times = [];
              for (const typed of ["h", "ha", "hau", "haus", "haus4", "VOR49", "o"]) {
                const before = performance.now();
                field.value = typed;
                field.dispatchEvent(new Event("input"));
                while (document.getElementById("label-found").dataset.shown !== typed) await Promise.resolve();
                times.push(performance.now() - before);
              }
              return times.sort((one, other) => one - other);
            }"""
        )
        print(f"opened in {took:.0f} ms, {large.stat().st_size / 1e6:.2f} MB, keys {milliseconds} ms")
        assert milliseconds[3] < 500
        assert took < 20_000
        page.fill("#label-query", "haus49")
        began = time.perf_counter()
        assert all("haus49" in name for name in opened.texts("#label-found .label"))
        assert time.perf_counter() - began < 10


def test_of_many_variants_the_best_are_shown_at_first_and_any_can_be(browser, tmp_path_factory):
    errors = {"one_hot": {0: 0.2}} | {f"label_smoothing smoothing={nth}": {0: 0.1 + nth / 1000} for nth in range(39)}
    page = write_report(make_comparison(tmp_path_factory.mktemp("many"), errors))
    with Opened(browser, page) as opened:
        pressed = "#curves-toggles button[aria-pressed=true]"
        assert opened.page.locator(pressed).count() == 12
        assert opened.texts(pressed)[:2] == ["one_hot", "label_smoothing smoothing=0"]
        drawn = "() => document.querySelector('#curves-plot canvas').toDataURL().length"
        before = opened.page.evaluate(drawn)
        opened.page.click("#curves-choice button:text-is('all')")
        assert opened.page.locator(pressed).count() == 40
        assert opened.page.evaluate(drawn) != before
        opened.page.click("#curves-choice button:text-is('none')")
        assert opened.page.locator(pressed).count() == 0
        opened.page.click("#curves-choice button:text-is('the best and the baseline')")
        assert opened.page.evaluate(drawn) == before
        table = opened.page.locator(".tall:has(table[data-table=metrics])")
        table.scroll_into_view_if_needed()
        # What is out of sight is laid out once it comes into view, a frame later.
        opened.page.wait_for_function(
            "box => box.scrollHeight > box.clientHeight && box.clientHeight <= 640", arg=table.element_handle()
        )


def test_no_table_is_wider_than_a_laptop(browser, usual):
    with Opened(browser, usual, viewport={"width": 1280, "height": 900}) as opened:
        opened.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        too_wide = "found => found.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
        assert opened.page.eval_on_selector_all("div.wide:has(table)", too_wide) == []
