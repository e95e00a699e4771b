"""Runs on labelled texts through the command line: train, resume, compare, evaluate, predict; what is refused."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.sparse_rows import SparseRows
from tests.made_cli import call, succeed
from tests.made_texts import BAD, GOOD, PLAIN, reviews, write_csv

QUICK = ["--set", "epochs=2", "--set", "batch_size=20", "--quiet"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run that has learned what the words say, beside its `reviews.csv`; not to be changed."""
    folder = tmp_path_factory.mktemp("learned")
    return trained(folder, "--set", "epochs=10")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def write_reviews(tmp_path, count=200, *, seed=0):
    rows = [(n, *row) for n, row in enumerate(reviews(count, seed=seed))]
    return write_csv(tmp_path / "reviews.csv", rows, "nr", "Kommentar", "Urteil")


def trained(tmp_path, *words, out="run"):
    succeed("train", "text-bag", "--data", write_reviews(tmp_path), "--out", tmp_path / out, *QUICK, *words)
    return tmp_path / out


def test_a_run_learns_what_the_words_say_and_predicts_new_rows(tmp_path):
    run = trained(tmp_path, "--set", "epochs=10")
    assert json.loads((run / "result.json").read_text())["test"]["error"] <= 0.05
    assert {"words.txt", "words.json"} <= {file.name for file in run.iterdir()}
    # the data are no longer needed, nor is a label in the new file
    (tmp_path / "reviews.csv").unlink()
    write_csv(tmp_path / "new.csv", [("lovely great warm",), ("dull awful",)], "Kommentar")
    new = tmp_path / "new.csv"
    rows = succeed("predict", run, new, "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [(f"{new} row 2", "pos"), (f"{new} row 3", "neg")]


def test_few_texts_have_more_epochs_so_that_there_are_as_many_steps(tmp_path):
    few, more = (write_csv(tmp_path / f"{n}.csv", reviews(n), "text", "label") for n in (100, 400))
    words = ["--set", "epochs.steps=48", "--set", "batch_size=20", "--set", "data.validation.fraction=0.25"]
    # 60 and 240 training texts: 3 and 12 steps an epoch
    assert [succeed("check", "text-bag", "--data", file, *words, "--json").json["epochs"] for file in (few, more)] == [
        16,
        4,
    ]
    succeed("train", "text-bag", "--data", few, "--out", "run", "--quiet", *words)
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 16
    # a number takes the place of the steps, and a run that stands behind it does not go on
    assert succeed("check", "text-bag", "--data", few, *words, "--set", "epochs=2", "--json").json["epochs"] == 2
    refused = call("resume", "run", "--set", "epochs.steps=30", "--quiet")
    assert refused.code == 2
    assert "epochs: must be 16 or more, the run is after epoch 16, got 10" in refused.err


def test_the_words_behind_many_plain_ones_are_read_too(learned, tmp_path):
    saved = SavedRun.load(learned)
    # plain words in front, of which the training texts are full: cut to the frequent ones, nothing is left but those
    plain = " ".join(PLAIN * 3)
    inputs, notes = saved.encode_texts([f"{plain} {' '.join(BAD)}", f"{plain} {' '.join(GOOD)}", "dull"])
    assert notes == []
    assert [row["label"] for row in saved.predict(inputs, ["a", "b", "c"])] == ["neg", "pos", "neg"]
    too_long = write_csv(tmp_path / "long.csv", [(" ".join(GOOD * 130),), ("dull",)], "Kommentar")
    called = succeed("predict", learned, too_long)
    assert "1 of 2 texts are longer" in called.err


def test_a_training_text_becomes_the_same_inputs_again(learned, tmp_path):
    saved = SavedRun.load(learned)
    data = saved.read_data()
    trained_on = [data.texts("train", row) for row in range(len(data.train))]
    (tmp_path / "train.txt").write_text("".join(f"{text}\n" for text in trained_on))
    inputs, names, notes = saved.read_inputs(tmp_path / "train.txt")
    assert torch.equal(inputs.padded(), data.train.inputs.padded())
    assert (names[0], names[-1], notes) == ("train.txt line 1", f"train.txt line {len(trained_on)}", [])
    one_by_one = SparseRows.cat([saved.encode_texts([text])[0] for text in trained_on[:20]])
    assert torch.equal(one_by_one.padded(), data.train.inputs[:20].padded())


def test_texts_without_a_heading_are_all_predicted(learned, tmp_path, monkeypatch):
    content = 'lovely great\r\n\ndull, awful "boring\n'
    (tmp_path / "new.txt").write_bytes(content.encode())
    rows = succeed("predict", learned, "new.txt", "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [("new.txt line 1", "pos"), ("new.txt line 3", "neg")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    piped = succeed("predict", learned, "-", "--json").lines
    assert [row["input"] for row in piped] == ["line 1", "line 3"]
    assert [row["probabilities"] for row in piped] == [row["probabilities"] for row in rows]
    for text, label in (("lovely great warm", "pos"), ("dull", "neg"), ("is it awful/dull? " * 40, "neg")):
        assert [(row["input"], row["label"]) for row in succeed("predict", learned, text, "--json").lines] == [
            (text, label)
        ]
    assert succeed("predict", learned, "dull").out.startswith("dull: neg (")


@pytest.mark.parametrize("word", ["nowhere.csv", "no/where.txt.gz", "./nowhere", "/no/where"])
def test_a_file_that_is_not_there_is_no_text(learned, tmp_path, word):
    refused = call("predict", learned, word)
    assert refused.code == 2
    assert "does not exist; expected a .csv" in refused.err


def test_a_heading_that_is_not_the_runs_is_no_heading(learned, tmp_path):
    refused = call("predict", learned, write_csv(tmp_path / "new.csv", [("lovely great",), ("dull",)]))
    assert refused.code == 2
    assert "new.csv: `text_column`: no column 'Kommentar'; there are: lovely great" in refused.err


def test_a_report_shows_the_worst_texts_and_nothing_of_them_is_markup(tmp_path):
    # texts that say nothing of their label are got wrong
    rows = [(f"the <b>plot</b> & {'very ' * 100}long", ("pos", "neg")[n % 2]) for n in range(40)]
    file = write_csv(tmp_path / "r.csv", rows, "text", "label")
    succeed("train", "text-bag", "--data", file, "--out", "run", *QUICK)
    worst = json.loads((tmp_path / "run" / "diagnostics" / "errors.json").read_text())["worst"]
    assert worst
    assert all(one["text"].startswith("the <b>plot</b> & very") and one["text"].endswith(" …") for one in worst)
    assert all(len(one["text"]) <= 302 for one in worst)
    succeed("report", "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('<q dir="auto">the &lt;b&gt;plot&lt;/b&gt; &amp; very very') == len(worst)
    assert "Highest-loss examples" in page
    assert "<b>plot" not in page


def test_evaluate_reads_other_rows_with_the_words_of_the_training(learned, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    write_csv(both / "train.csv", reviews(20, seed=3), "Kommentar", "Urteil")
    # words that were never seen in training get no place
    write_csv(
        both / "test.csv", [(f"unheard {text} of", label) for text, label in reviews(40, seed=4)], "Kommentar", "Urteil"
    )
    assert succeed("evaluate", learned, "--data", both, "--json").json["error"] <= 0.05
    other = write_csv(tmp_path / "other.csv", reviews(20, labels=("good", "bad")), "Kommentar", "Urteil")
    refused = call("evaluate", learned, "--data", other)
    assert refused.code == 2
    assert "has labels that the run does not know: bad (10 examples), good (10 examples)" in refused.err
    assert "its 2 labels are neg, pos" in refused.err


def test_a_file_is_measured_whole(learned, tmp_path):
    rows = [(text, label, "x") for text, label in reviews(50, seed=3)]
    # among other columns that could hold texts and labels, those of the run
    test = write_csv(
        tmp_path / "test.csv", [(x, label, text) for text, label, x in rows], "label", "Urteil", "Kommentar"
    )
    values = succeed("evaluate", learned, "--data", test, "--json").json
    assert (values["examples"], values["split"]) == (50, "all")
    predicted = succeed("predict", learned, test, "--json").lines
    wrong = sum(row["label"] != label for row, (_, label, _) in zip(predicted, rows, strict=True))
    assert values["error"] == wrong / 50
    assert succeed("evaluate", learned, "--data", test).out.startswith(f"texts in {test}, all 50 examples\n")
    # a file may lack a label, and be short
    one = write_csv(tmp_path / "one.csv", [("lovely great", "pos")], "Kommentar", "Urteil")
    assert succeed("evaluate", learned, "--data", one, "--json").json["examples"] == 1
    assert "names no train set; leave --split out" in call("evaluate", learned, "--data", one, "--split", "train").err
    # the run's own file is still measured by the part that was held out
    assert succeed("evaluate", learned, "--data", learned.parent / "reviews.csv", "--json").json["examples"] == 40


def test_a_run_of_an_older_version_finds_the_labels_itself(learned, tmp_path):
    run = shutil.copytree(learned, tmp_path / "run")
    about = json.loads((run / "environment.json").read_text())
    assert about["data"].pop("label_column") == "Urteil"
    (run / "environment.json").write_text(json.dumps(about))
    test = write_csv(tmp_path / "test.csv", reviews(30, seed=3), "Kommentar", "Urteil")
    assert succeed("evaluate", run, "--data", test, "--json").json["examples"] == 30


def test_a_run_that_lost_its_end_finds_the_same_words_again(tmp_path):
    file = write_reviews(tmp_path)
    recipe, _ = load_recipe("text-bag", data=str(file), settings=["epochs=2", "batch_size=20"])
    run_recipe(recipe, tmp_path / "whole")
    succeed("train", "text-bag", "--data", file, "--out", tmp_path / "begun", *QUICK)
    for name in ("result.json", "model.safetensors"):
        (tmp_path / "begun" / name).unlink()
    succeed("resume", tmp_path / "begun", "--quiet")
    one, other = (SavedRun.load(tmp_path / name).network.state_dict() for name in ("whole", "begun"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("recipe", "setting", "key", "word"),
    [
        ("text-bag", "model=mlp", "model.name", "these can: bag_of_words"),
        ("text-bag", "model=text_transformer", "model.name", "these can: bag_of_words"),
        ("text-bag", "data.scaling=standard", "data.scaling", "'unit'"),
        ("text-bag", "data.mixing=mixup", "data.mixing", "'none'"),
        ("text-bag", "data.cutout=3", "data.cutout", "left out"),
        ("text-finetune", "model=mlp", "model.name", "text_transformer"),
        ("text-finetune", "model.dropout=1", "model.dropout", "[0, 1)"),
        ("digits-mlp", "model=bag_of_words", "model.name", "these can: cnn"),
        ("digits-mlp", "model=text_transformer", "model.name", "these can: cnn"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, setting, key, word):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, data=None if recipe == "digits-mlp" else "reviews.csv", settings=[setting])
    (error,) = caught.value.errors
    assert error.startswith(f"{key}: ")
    assert word in error


def test_settings_of_other_inputs_are_refused_together(tmp_path):
    words = ["check", "text-bag", "--data", write_reviews(tmp_path), "--set", "data.encoder=bert"]
    refused = call(*words, "--set", "data.maximum_tokens=10")
    assert refused.code == 2
    assert "data.encoder: is for inputs: features or tokens, got " in refused.err
    assert "data.maximum_tokens: is for inputs: features or tokens, got 10" in refused.err


def test_a_teacher_of_other_words_is_refused(tmp_path):
    teacher = trained(tmp_path, "--objective", "one_hot")
    same = ["--objective", f"distillation:teacher={teacher}"]
    trained(tmp_path, *same, out="pupil")
    refused = call(
        "train", "text-bag", "--data", tmp_path / "reviews.csv", "--out", tmp_path / "other", *QUICK, *same,
        "--set", "data.ngrams=1",
    )  # fmt: skip
    assert refused.code == 2
    assert "objective.teacher" in refused.err
