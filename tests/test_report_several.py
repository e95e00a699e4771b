"""Several runs and comparisons in one page: laid together, or refused with both names."""

from __future__ import annotations

import json
import re

import pytest

from labelembed.errors import RunFolderError
from labelembed.report import comparison_rows, load_comparison, load_several, write_report
from labelembed.report.published import published_table
from labelembed.training.run_folder import RunFolder
from tests.made_runs import ENVIRONMENT, fail_run, journal_lines, make_comparison, make_run, measures, run_path


def _run(path, objective, seed=0, error=0.1, **more):
    make_run(path, objective=objective, seed=seed, test=measures(error), journal=journal_lines([0.3, error]), **more)
    return path


def test_runs_that_differ_by_their_seed_are_one_variant(tmp_path):
    paths = [_run(tmp_path / f"a{seed}", {"name": "one_hot"}, seed, 0.10 + 0.01 * seed) for seed in range(3)]
    paths += [_run(tmp_path / f"b{seed}", {"name": "label_embedding"}, seed, 0.08) for seed in range(3)]
    whole = load_several(paths)
    assert [(variant.name, sorted(variant.runs)) for variant in whole.variants] == [
        ("one_hot", [0, 1, 2]),
        ("label_embedding", [0, 1, 2]),
    ]
    assert whole.baseline == "one_hot"
    difference = comparison_rows(whole)[1].differences["error"]
    assert difference.n == 3
    assert difference.difference == pytest.approx(0.08 - 0.11)


def test_another_setting_is_another_variant_and_is_named(tmp_path):
    paths = [
        _run(tmp_path / "mild", {"name": "label_smoothing", "smoothing": 0.1}),
        _run(tmp_path / "strong", {"name": "label_smoothing", "smoothing": 0.4}),
        _run(tmp_path / "long", {"name": "label_smoothing", "smoothing": 0.4}, recipe={"epochs": 99}),
        _run(tmp_path / "again", {"name": "label_smoothing", "smoothing": 0.1}),
    ]
    names = [variant.name for variant in load_several(paths).variants]
    # Same objective, but trained longer, or the same seed once more: told apart by the folder.
    assert [name.split(" (")[0] for name in names] == [
        f"label_smoothing smoothing={smoothing}" for smoothing in (0.1, 0.4, 0.4, 0.1)
    ]
    assert len(set(names)) == 4
    assert "long" in names[2]


def test_a_comparison_and_a_run_stand_together(tmp_path):
    folder = make_comparison(tmp_path / "c", {"one_hot": {0: 0.2, 1: 0.2}, "label_embedding": {0: 0.1, 1: 0.1}})
    extra = _run(tmp_path / "extra", {"name": "adaptive_labels"}, 1)
    whole = load_several([folder, extra])
    assert [variant.name for variant in whole.variants] == ["one_hot", "label_embedding", "adaptive_labels"]
    assert whole.baseline == "one_hot"
    chosen = load_several([folder, extra], baseline="adaptive_labels")
    assert chosen.baseline == "adaptive_labels"
    with pytest.raises(
        RunFolderError, match=r"--baseline: 'one_hott' is none of the variants \(did you mean 'one_hot'"
    ):
        load_several([folder, extra], baseline="one_hott")


def test_runs_of_different_data_are_refused_with_both_names(tmp_path):
    one, two = _run(tmp_path / "one", {"name": "one_hot"}), _run(tmp_path / "two", {"name": "label_embedding"})
    other = ENVIRONMENT["data"] | {"source": "letters", "fingerprint": "other"}
    RunFolder(two).write_environment(ENVIRONMENT | {"data": other})
    with pytest.raises(RunFolderError, match=r"one and .*two are of different data.*'digits' and 'letters'"):
        write_report(one, two, out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_different_data_within_a_comparison_are_refused(tmp_path):
    make_comparison(tmp_path, {"one_hot": {0: 0.2}, "label_embedding": {0: 0.1}})
    folder = RunFolder(run_path(tmp_path, "label_embedding", 0))
    folder.write_environment(ENVIRONMENT | {"data": {"fingerprint": "other"}})
    with pytest.raises(RunFolderError, match="different data"):
        load_comparison(tmp_path)


def test_damaged_and_unfinished_folders_are_said_and_the_rest_shown(tmp_path):
    good = _run(tmp_path / "good", {"name": "one_hot"})
    fail_run(tmp_path / "failed", "the loss is nan")
    broken = _run(tmp_path / "broken", {"name": "label_embedding"})
    (broken / "journal.jsonl").write_text('{"epoch": 1}\nnothing\n{"epoch": 2}\n')
    unfinished = _run(tmp_path / "unfinished", {"name": "label_embedding"})
    (unfinished / "result.json").unlink()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "comparison.json").write_text('{"recipe": ')
    folders = [tmp_path / name for name in ("good", "failed", "broken", "unfinished", "torn")]
    whole = load_several(folders)
    assert [variant.name for variant in whole.variants] == ["one_hot"]
    assert {path.rsplit("/", 1)[1] for path in whole.left_out} == {"failed", "broken", "unfinished", "torn"}
    text = write_report(*folders, out=tmp_path / "page.html").read_text(encoding="utf-8")
    for said in ("the loss is nan", "line 2 is damaged", "the run has not finished", "damaged, cannot be read"):
        assert said in text
    assert good.name in text


def test_a_folder_that_is_not_there_is_a_mistake_of_the_command(tmp_path):
    good = _run(tmp_path / "good", {"name": "one_hot"})
    with pytest.raises(RunFolderError, match="no such folder"):
        load_several([good, tmp_path / "absent"])
    (good / "result.json").unlink()
    with pytest.raises(RunFolderError, match="has not finished"):
        load_several([good])


def test_published_figures_stand_beside_ours(tmp_path):
    folder = make_comparison(tmp_path, {"one_hot": {0: 0.02, 1: 0.03}, "label_embedding": {0: 0.015, 1: 0.014}})
    about = json.loads((folder / "comparison.json").read_text())
    paper = {"measure": "test_error", "value": 0.0143, "deviation": 0.0006, "runs": 20, "source": "Sun et al. 2017"}
    damaged = [{"objective": "one_hot", "value": "a lot"}, 7, {"value": 0.1}]
    about["published"] = [{"objective": "label_embedding"} | paper, {"objective": {"name": "other"}} | paper, *damaged]
    (folder / "comparison.json").write_text(json.dumps(about))
    text = " ".join(re.sub("<[^>]+>", " ", write_report(folder).read_text(encoding="utf-8")).split())
    assert "1.43 ± 0.06 (n = 20) 1.45 ± 0.07 (n = 2)" in text
    assert "not in this comparison" in text
    assert text.count("Sun et al. 2017") == 2


def test_published_figure_stands_beside_the_variant_it_names_most_closely(tmp_path):
    errors = {name: {0: 0.2, 1: 0.3} for name in ("one_hot", "adaptive_labels", "adaptive_labels label_dimension=20")}
    objectives = {"one_hot": {"name": "one_hot"}, "adaptive_labels": {"name": "adaptive_labels"}}
    objectives["adaptive_labels label_dimension=20"] = {"name": "adaptive_labels", "label_dimension": 20}
    folder = make_comparison(tmp_path, errors, objectives=objectives)
    about = json.loads((folder / "comparison.json").read_text())
    table = {"measure": "test_error", "source": "table 3"}
    about["published"] = [
        {"objective": "adaptive_labels", "value": 0.157} | table,
        {"objective": {"name": "adaptive_labels", "label_dimension": 20}, "value": 0.162} | table,
        {"objective": "adaptive_labels", "value": 0.11, "measure": "test_error", "source": "another paper"},
    ]
    (folder / "comparison.json").write_text(json.dumps(about))
    comparison = load_comparison(folder)
    lines = published_table(comparison, comparison_rows(comparison)).lines
    assert [(line.cells[3].text, line.cells[1].text, line.cells[4].text) for line in lines] == [
        ("adaptive_labels", "15.70", "table 3"),
        ("adaptive_labels label_dimension=20", "16.20", "table 3"),
        ("adaptive_labels", "11.00", "another paper"),
        ("adaptive_labels label_dimension=20", "11.00", "another paper"),
    ]
