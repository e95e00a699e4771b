"""One's own texts through the command line: train, evaluate, predict."""

from __future__ import annotations

import io

import pytest

from tests.made_cli import call, succeed
from tests.made_texts import BAD, GOOD, PLAIN, reviews, write_csv, write_json_lines

pytestmark = pytest.mark.usefixtures("own_folder")
QUICK = ["--set", "epochs=10", "--set", "batch_size=20", "--quiet"]


def test_an_input_is_not_replaced_and_an_empty_name_is_none(learned):
    file = learned.parent / "reviews.csv"
    before = file.read_bytes()
    called = call("predict", learned, file, "--out", file)
    assert (called.code, "is read, too" in called.err, file.read_bytes()) == (2, True, before)
    assert call("train", "digits-mlp", "--out", "").code == 2


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run that has learned what the words say, beside its `reviews.csv`; not to be changed."""
    folder = tmp_path_factory.mktemp("learned")
    rows = [(n, *row) for n, row in enumerate(reviews(200))]
    file = write_csv(folder / "reviews.csv", rows, "nr", "Kommentar", "Urteil")
    succeed("train", "text-bag", "--data", file, "--out", folder / "run", *QUICK)
    return folder / "run"


def test_texts_without_a_heading_are_all_predicted(learned, tmp_path, monkeypatch):
    content = 'lovely great\r\n\ndull,\fawful "boring\n'
    (tmp_path / "new.txt").write_bytes(content.encode())
    rows = succeed("predict", learned, "new.txt", "--json").lines
    assert [(row["input"], row["label"]) for row in rows] == [("new.txt line 1", "pos"), ("new.txt line 3", "neg")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    piped = succeed("predict", learned, "-", "--json").lines
    assert [row["input"] for row in piped] == ["lovely great", 'dull,\fawful "boring']
    assert [row["probabilities"] for row in piped] == [row["probabilities"] for row in rows]
    written = succeed("predict", learned, "new.txt", "--format", "csv").out.splitlines()
    assert [line.split(",")[:2] for line in written[1:]] == [["new.txt line 1", "pos"], ["new.txt line 3", "neg"]]
    for text, label in (("lovely great warm", "pos"), ("dull", "neg"), ("is it awful/dull? " * 40, "neg")):
        (row,) = succeed("predict", learned, text, "--json").lines
        assert (row["input"], row["label"]) == (text, label)


@pytest.mark.parametrize("word", ["nowhere.csv", "no/where.txt.gz", "./nowhere", "/no/where"])
def test_a_file_that_is_not_there_is_no_text(learned, word):
    refused = call("predict", learned, word)
    assert refused.code == 2
    assert "does not exist; expected a .csv" in refused.err


def test_what_cannot_be_predicted_or_written_is_said(learned, tmp_path):
    file = write_csv(tmp_path / "new.csv", [("lovely", "pos"), ("", "neg"), (" ", "neg")], "Kommentar", "Urteil")
    assert "new.csv: 2 examples without a text: row 3, row 4" in succeed("predict", learned, file).err
    for words in ((file, "-o", "no/where.csv"), (" ",)):
        refused = call("predict", learned, *words)
        assert refused.code == 2
        assert refused.err.count("\n") == 1
        assert "no/where.csv" in refused.err or "INPUT: is empty" in refused.err


def test_a_folder_is_evaluated_by_its_test_set_with_the_words_and_labels_of_the_training(learned, tmp_path):
    write_csv(tmp_path / "train.csv", reviews(20, seed=3), "Kommentar", "Urteil")
    # words that were never seen in training get no place
    rows = [(f"unheard {text} of", label) for text, label in reviews(40, seed=4)]
    write_csv(tmp_path / "test.csv", rows, "Kommentar", "Urteil")
    assert succeed("evaluate", learned, "--data", tmp_path, "--json").json["error"] <= 0.05


def test_a_file_is_evaluated_whole(learned, tmp_path):
    # among other columns that could hold texts and labels, those of the run
    rows = [("x", label, text) for text, label in reviews(50, seed=3)]
    test = write_csv(tmp_path / "test.csv", rows, "label", "Urteil", "Kommentar")
    values = succeed("evaluate", learned, "--data", test, "--json").json
    assert (values["examples"], values["split"]) == (50, "all")
    predicted = succeed("predict", learned, test, "--json").lines
    assert (
        values["error"] == sum(row["label"] != label for row, (_, label, _) in zip(predicted, rows, strict=True)) / 50
    )
    # a file may lack a label, and be short
    one = write_csv(tmp_path / "one.csv", [("lovely great", "pos")], "Kommentar", "Urteil")
    assert succeed("evaluate", learned, "--data", one, "--json").json["examples"] == 1
    # the run's own file is still evaluated by the part that was held out
    assert succeed("evaluate", learned, "--data", learned.parent / "reviews.csv", "--json").json["examples"] == 40


def test_new_files_are_predicted_by_several_columns(tmp_path):
    rows = [(text, " ".join(PLAIN[n % 7 :]) * (n % 4 > 0), label) for n, (text, label) in enumerate(reviews(160))]
    file = write_csv(tmp_path / "posts.csv", rows, "title", "body", "label")
    words = ["--set", "data.text_column=[title, body]", "--set", "batch_size=20", "--quiet"]
    succeed("train", "text-bag-small", "--data", file, "--out", tmp_path / "run", *words)
    rows = [("the film", " ".join(GOOD)), ("", " ".join(BAD)), (" ".join(GOOD), "")]
    new = write_json_lines(tmp_path / "new.jsonl", rows, "body", "title")
    assert [row["label"] for row in succeed("predict", tmp_path / "run", new, "--json").lines] == ["pos", "neg", "pos"]
    refused = call("predict", tmp_path / "run", write_csv(tmp_path / "new.csv", [(" ".join(GOOD),)], "titel"))
    assert refused.code == 2
    assert "did you mean 'titel'?" in refused.err
