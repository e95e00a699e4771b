"""The verb `report` over what is damaged, unfinished, foreign or strange: one clear message, or the rest shown."""

from __future__ import annotations

import json
import os

import pytest

from labelembed.report import write_report
from labelembed.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_evidence import leave_errors, leave_sentences
from tests.made_runs import (
    ENVIRONMENT,
    embedding_geometry,
    fail_run,
    journal_lines,
    make_comparison,
    make_run,
    measures,
    run_path,
)

STRANGE = ("<script>alert(1)</script>", "قطة", "犬", "👩‍🚀", "a" * 10_000, "\u202eright to left", "</script>", "&amp;")


def refused(*words):
    called = call("report", *words)
    assert called.code == 2, called.out + called.err
    assert called.err.startswith("error: ")
    assert len(called.err.splitlines()) <= 10
    assert "Traceback" not in called.err
    return called.err


def _run(path, name, *, seed=0, error=0.1):
    return make_run(
        path, objective={"name": name}, seed=seed, test=measures(error), journal=journal_lines([0.3, error])
    )


def test_runs_of_different_data_are_refused_with_both_names(tmp_path):
    one, two = _run(tmp_path / "one", "one_hot"), _run(tmp_path / "two", "label_embedding")
    two.write_environment(ENVIRONMENT | {"data": ENVIRONMENT["data"] | {"source": "letters", "fingerprint": "other"}})
    said = refused(one.path, two.path, "-o", tmp_path / "page.html")
    for name in (str(one.path), str(two.path), "'digits'", "'letters'"):
        assert name in said
    assert not (tmp_path / "page.html").exists()


def test_damaged_and_half_finished_runs_among_good_ones_are_told_and_the_rest_shown(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": dict.fromkeys(range(4), 0.2), "label_embedding": {0: 0.1, 1: 0.1}})
    runs = {seed: run_path(tmp_path / "c", "one_hot", seed) for seed in range(4)}
    (runs[1] / "result.json").write_bytes(b'{"status": "fini')
    (runs[2] / "result.json").unlink()
    lines = (runs[3] / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (runs[3] / "journal.jsonl").write_bytes(b"".join([lines[0], b"\x00\xff\n", *lines[1:]]))
    succeed("report", tmp_path / "c")
    text = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "Failed: one_hot, seed 1: result.json: damaged" in text
    assert "Not finished: one_hot, seed 2" in text
    assert "Failed: one_hot, seed 3: journal.jsonl: line 2 is damaged" in text
    assert "1 of 4" in text  # the run that is left of one-hot
    assert "label_embedding" in text


def test_journal_cut_short_by_a_kill_is_read_to_its_last_whole_line(tmp_path):
    folder = _run(tmp_path / "run", "one_hot")
    with (folder.path / "journal.jsonl").open("ab") as file:
        file.write(b'{"epoch": 3, "train": {"to')
    succeed("report", folder.path)
    assert "Curves" in (folder.path / "report.html").read_text(encoding="utf-8")


def test_what_is_no_number_in_a_journal_is_a_gap_in_any_curve(tmp_path):
    lines = journal_lines([0.4, 0.3, 0.2])
    lines[1]["train"] = {"total": float("nan"), "output": float("inf")}
    lines[2]["validation"] = {"error": None, "nll": float("-inf")}
    folder = make_run(tmp_path / "run", test=measures(0.2), journal=lines)
    text = write_report(folder.path).read_text(encoding="utf-8")
    assert "NaN" not in text.split("<script>")[0]
    for value in text.split('type="application/json"')[1:]:
        inside = value[value.index(">") + 1 : value.index("</script>")]
        json.loads(inside, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))


def test_comparison_with_one_seed_has_no_interval_and_says_so(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}})
    succeed("report", tmp_path / "c")
    text = " ".join((tmp_path / "c" / "report.html").read_text(encoding="utf-8").split())
    assert "one seed gives no interval, so this may be chance." in text
    assert "With one seed there is neither an interval nor a p" in text
    assert "one seed, or seeds that all differ by the same, have no interval" in text  # below the dots


def test_strange_names_of_labels_variants_and_sentences_are_shown_as_they_are(tmp_path):
    geometry = {"label_embedding": {0: embedding_geometry(STRANGE)}}
    names = {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}}
    make_comparison(tmp_path / "c", names, geometry=geometry)
    about = json.loads((tmp_path / "c" / "comparison.json").read_text())
    about["variants"][1]["name"] = "<img src=x onerror=alert(1)> قطة 犬 👩‍🚀"
    about["recipe"] = "<title>" + "w" * 10_000
    (tmp_path / "c" / "comparison.json").write_text(json.dumps(about))
    for name in names:
        leave_errors(run_path(tmp_path / "c", name, 0), [(0, 1, 3), (4, 0, 1)], labels=len(STRANGE))
        leave_sentences(run_path(tmp_path / "c", name, 0), [(word, 0.1 * place) for place, word in enumerate(STRANGE)])
    succeed("report", tmp_path / "c")
    text = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert text.count("<script>") == 1  # the page's own
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert "<title>w" not in text
    for word in ("قطة", "犬", "👩‍🚀", "&lt;script&gt;alert(1)&lt;/script&gt;", "&amp;amp;"):
        assert word in text
    for name in ("heatmap", "dendrogram", "map", "confusion"):
        succeed("figure", name, tmp_path / "c", "-o", tmp_path / f"{name}.svg")
        assert "<script" not in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")


def test_page_that_cannot_be_written_is_one_message(tmp_path):
    folder = _run(tmp_path / "run", "one_hot")
    (tmp_path / "file").write_text("")
    assert "page.html: cannot be written" in refused(folder.path, "-o", tmp_path / "file" / "page.html")
    if os.geteuid() != 0:  # root may write anywhere
        folder.path.chmod(0o555)
        try:
            assert "report.html: cannot be written" in refused(folder.path)
        finally:
            folder.path.chmod(0o755)


def test_folder_in_which_nothing_can_be_shown_is_refused(tmp_path):
    fail_run(tmp_path / "failed", "the loss is nan")
    assert "the loss is nan" in refused(tmp_path / "failed")
    assert "no such folder" in refused(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "neither a comparison folder" in refused(tmp_path / "empty")
    half = RunFolder(_run(tmp_path / "half", "one_hot").path)
    half.forget_result()
    assert "has not finished" in refused(half.path)
