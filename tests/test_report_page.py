"""The page: whole, offline, escaped, the same each time, and with the numbers of the table."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

from labelembed.geometry import LabelGeometry
from labelembed.lab.report import load_comparison, verdict, write_report
from labelembed.lab.training.run_folder import RunFolder
from tests.made_evidence import leave_errors, leave_sentences
from tests.made_runs import (
    embedding_geometry,
    fail_run,
    history_lines,
    make_comparison,
    make_run,
    metrics,
    run_path,
)

EMBEDDING = "label_embedding preset=paper"
ERRORS = {
    "one_hot": {seed: 0.0200 + 0.0003 * seed for seed in range(6)},
    "label_smoothing smoothing=0.4": {seed: 0.0160 - 0.0002 * seed for seed in range(6)},
    EMBEDDING: {seed: 0.0150 + 0.0001 * seed**2 for seed in range(6)},
}
NAMES = ("<script>alert(1)</script>", "قطة", "犬", "🐈", "a" * 10_000, "x & y", "$x^2$", "line\nbreak", "\x07", "__")


class _Page(HTMLParser):
    """Collects tags, what they link to, ids and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.ids, self.values, self.text, self.titles = [], [], [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.links.append(value)
            if name == "title":
                self.titles.append(value)
            if name == "id":
                self.ids.append(value)
            if tag == "data" and name == "value":
                self.values.append(float(value))

    def handle_data(self, data):
        if self.cdata_elem is None:  # neither a script nor a style
            self.text.append(data)


def _page(path):
    return _Page(write_report(path).read_text(encoding="utf-8"))


def _with_geometry(path, names=NAMES):
    geometry = {EMBEDDING: {seed: embedding_geometry(names, seed=seed) for seed in range(6)}}
    return make_comparison(path, ERRORS, geometry=geometry)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """A folder with its page written, and the page; tests only read them."""
    folder = _with_geometry(tmp_path_factory.mktemp("usual"))
    return folder, _page(folder)


def test_page_needs_nothing_from_anywhere_and_runs_one_script(usual):
    folder, page = usual
    assert page.links
    assert all(link.startswith(("#", "data:image/png")) for link in page.links)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    # The browser runs the script that the policy names by its digest, and no other.
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html).group(1)
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "default-src 'none'" in policy
    assert re.findall(r"<script(?! type=\"application/json\")", html) == ["<script"]


def test_ids_are_unique_and_what_refers_to_them_finds_them(usual):
    folder, page = usual
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(page.ids)
    labelled = re.findall(r'<svg[^>]* role="img"[^>]* aria-labelledby="(\S+) (\S+)"', html)
    assert len(labelled) == page.tags.count("svg") >= 4
    assert {name for pair in labelled for name in pair} <= set(page.ids)


def test_labels_are_shown_as_they_are_written_and_never_as_markup(usual):
    _, page = usual
    text = "".join(page.text)
    assert "<script>alert(1)</script>" in text
    assert "قطة" in text
    assert "$x^2$" in text
    assert "a" * 41 not in text
    assert "a" * 10_000 in page.titles
    assert "\x07" not in text


def test_strange_names_of_variants_labels_and_sentences_are_shown_as_they_are(tmp_path):
    folder = make_comparison(tmp_path, {"one_hot": {0: 0.2, 1: 0.2}, EMBEDDING: {0: 0.1}})
    about = json.loads((folder / "comparison.json").read_text())
    about["variants"][1]["name"] = "<img src=x onerror=alert(1)> قطة 犬"
    (folder / "comparison.json").write_text(json.dumps(about | {"recipe": "<title>" + "w" * 10_000}))
    fail_run(run_path(folder, "one_hot", 1), "<b>nan</b>", seed=1)
    for name in ("one_hot", EMBEDDING):
        leave_errors(run_path(folder, name, 0), [(0, 1, 3)], labels=2)
        leave_sentences(run_path(folder, name, 0), [(word, 0.1 * place) for place, word in enumerate(NAMES)])
    page = _page(folder)
    assert not {"b", "i"} & set(page.tags)
    assert page.tags.count("title") == 1 + page.tags.count("svg")
    text = "".join(page.text)
    for shown in (about["variants"][1]["name"], "Failed: one_hot, seed 1: <b>nan</b>", "<title>www", *NAMES[:4]):
        assert shown in text
    assert all(link.startswith(("#", "data:image/png")) for link in page.links)


def test_what_is_no_number_in_a_history_is_a_gap_and_leaves_json_whole(tmp_path):
    lines = history_lines([0.4, 0.3, 0.2])
    lines[1]["train"] = {"total": float("nan"), "output": float("inf")}
    lines[2]["validation"] = {"error": None, "nll": float("-inf")}
    text = write_report(make_run(tmp_path / "run", test=metrics(0.2), history=lines).path).read_text(encoding="utf-8")
    for value in text.split('type="application/json"')[1:]:
        inside = value[value.index(">") + 1 : value.index("</script>")]
        json.loads(inside, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_verdict_stands_first(usual):
    folder, page = usual
    text = "".join(page.text).replace("\u00a0", " ").replace("\u2212", "-")
    first = verdict(load_comparison(folder))[0]
    assert text.index(first) < text.index("Measured on the")


def test_making_it_again_gives_the_same_bytes(usual, tmp_path):
    folder, _ = usual
    first = (folder / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == first
    # nor does the folder's place get into it
    shutil.copytree(folder, tmp_path / "there")
    assert write_report(tmp_path / "there").read_bytes() == first


def test_page_of_a_usual_comparison_is_below_a_megabyte(tmp_path):
    generator = torch.Generator().manual_seed(0)
    curves = {
        name: {
            seed: (0.02 + 0.3 / torch.arange(1, 31) + 0.01 * torch.rand(30, generator=generator)).tolist()
            for seed in range(8)
        }
        for name in ERRORS
    }
    errors = {name: {seed: curve[-1] for seed, curve in by_seed.items()} for name, by_seed in curves.items()}
    names = [f"label number {number}" for number in range(300)]
    geometry = {
        name: {seed: embedding_geometry(names, seed=seed, noise=1.0) for seed in range(8)} for name in list(ERRORS)[1:]
    }
    path = write_report(make_comparison(tmp_path, errors, curves=curves, geometry=geometry))
    assert path.stat().st_size < 1_000_000
    assert "The first 200 of 300 labels are shown" in path.read_text(encoding="utf-8")


def test_nearest_labels_are_the_mean_over_seeds(tmp_path):
    one, two = torch.tensor([[9.0, 2, 0], [2, 9, 0], [0, 2, 9]]), torch.tensor([[9.0, 0, 4], [2, 9, 0], [0, 2, 9]])
    tables = {0: LabelGeometry(("a", "b", "c"), similarities=one), 1: LabelGeometry(("a", "b", "c"), similarities=two)}
    make_comparison(tmp_path, {"one_hot": {0: 0.1, 1: 0.1}, EMBEDDING: {0: 0.1, 1: 0.2}}, geometry={EMBEDDING: tables})
    page = _page(tmp_path)
    mean = (one.double().softmax(1) + two.double().softmax(1))[0] / 2
    # Of what the label gives away, the lift over a uniform distribution.
    for lift in (mean[1:] * 2 / (1 - mean[0])).tolist():
        assert any(value == pytest.approx(lift, abs=1e-12) for value in page.values)


def test_geometry_of_vectors_is_shown_by_distance_and_a_damaged_one_is_said(tmp_path):
    _with_geometry(tmp_path)
    vectors = LabelGeometry(("a", "b"), vectors=torch.eye(2))
    vectors.save(RunFolder(run_path(tmp_path, "one_hot", 0)).geometry_file)
    RunFolder(run_path(tmp_path, EMBEDDING, 4)).geometry_file.write_bytes(b"nothing")
    text = "".join(_page(tmp_path).text)
    assert f"Left out, {EMBEDDING}, seed 4: label_geometry.safetensors: damaged" in text
    assert "Mean over 5 seeds" in text
    assert f"Nearest labels, learned by {EMBEDDING}" in text
    assert "one_hot has other labels and is not shown." in text


def test_a_comparison_without_any_finished_run_is_still_a_page(tmp_path):
    make_comparison(tmp_path, {"one_hot": {0: 0.1}, EMBEDDING: {0: 0.1}})
    for name in ("one_hot", EMBEDDING):
        fail_run(run_path(tmp_path, name, 0), "nan")
    text = "".join(_page(tmp_path).text)
    assert "No run has finished" in text
    assert f"Failed: {EMBEDDING}, seed 0: nan" in text


def test_unequal_historys_and_gaps_are_drawn_and_said(tmp_path):
    curves = {EMBEDDING: {0: [0.5, float("nan"), 0.3, 0.2, 0.1], 1: [0.5, 0.4]}}
    text = "".join(_page(make_comparison(tmp_path, ERRORS, curves=curves)).text)
    assert "a gap in the curve" in text
    assert "unequal length" in text
    assert "from 2 to 5 epochs" in text


def test_a_history_without_a_finite_error_draws_nothing(tmp_path):
    make_run(tmp_path, test=metrics(0.1), history=history_lines([float("nan"), None]))
    text = "".join(_page(tmp_path).text)
    assert "error over epochs" not in text
    assert "Training term total over epochs" in text


def test_report_of_a_single_run(tmp_path):
    make_run(
        tmp_path / "first",
        test=metrics(0.02),
        validation=metrics(0.03),
        objective={"name": "label_embedding", "temperature": 3.0},
        history=history_lines([0.2, 0.1, 0.02]),
        geometry=embedding_geometry(["cat", "dog", "car"]),
    )
    text = "".join(_page(tmp_path / "first").text)
    assert "test error of 2.00" in text.replace("\u00a0", " ")
    assert "One run, seed 0, folder first" in text
    assert "temperature=3.0" in text
    assert "Nearest labels" in text
    assert "Differences" not in text
    assert "labelembed compare digits-mlp --seeds 8" in text


def test_settings_show_what_differs_and_where_the_runs_differ(tmp_path):
    make_comparison(tmp_path, ERRORS)
    for seed in range(6):
        folder = RunFolder(run_path(tmp_path, EMBEDDING, seed))
        folder.write_recipe(folder.recipe() | {"batch_size": 50})
        folder.write_environment(folder.environment() | {"commit": "89abcde"})
    text = " ".join("".join(_page(tmp_path).text).split())
    assert "What else differs" in text
    assert "batch_size 100 100 50" in text
    assert "Not the same in all runs: commit." in text
