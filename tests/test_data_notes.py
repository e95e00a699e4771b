"""What is said of a data set: uneven labels, equal inputs in two splits or with two labels, what a comparison lacks."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import torch

from labelembed.lab.data import DigitsReader, ImageReader, TableReader, TextReader, prepare
from labelembed.lab.data.data_notes import comparison_notes, label_column_note, label_notes, reference_errors
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_csv


def test_rare_labels_and_names_that_are_alike_are_noted():
    assert label_notes(torch.tensor([0, 0, 1, 1]), ("a", "b")) == []
    notes = label_notes(torch.tensor([0, 0, 1, 3, 3]), ("Pos", "neg", "none", "pos"))
    assert [note.partition(": ")[2] for note in notes] == ["'neg', 'none'", "'Pos', 'pos'"]


def test_texts_of_another_split_that_are_in_the_training_set_are_noted(tmp_path):
    rows = [(f"{text} {n}", label) for n, (text, label) in enumerate(reviews(20))]
    write_csv(tmp_path / "train.csv", rows[:12], "text", "label")
    write_csv(tmp_path / "dev.csv", [*rows[12:16], rows[1]], "text", "label")
    write_csv(tmp_path / "test.csv", [*rows[16:], rows[1], (rows[2][0], "neg")], "text", "label")
    shown = [repr(textwrap.shorten(text, 60)) for text, _ in rows]
    notes = prepare(TextReader(path=str(tmp_path)).read(), validation=None).notes
    assert [note for note in notes if "also" in note] == [
        f"1 validation example also in the training set: {shown[1]}",
        f"2 test examples also in the training set: {shown[1]}, {shown[2]}",
    ]


def test_table_rows_are_equal_by_the_columns_that_are_used(tmp_path):
    heading = ("customer_id", "length", "colour", "class")
    rows = [(n, n % 11 + n / 40, ("red", "blue", "pink", "navy")[n % 4], ("low", "high")[n % 2]) for n in range(40)]
    write_csv(tmp_path / "train.csv", rows[:30], *heading)
    write_csv(tmp_path / "test.csv", [*rows[30:], (99, *rows[3][1:3], "low")], *heading)
    data = prepare(TableReader(path=str(tmp_path)).read(), validation=None)
    assert "customer_id" in data.encoder.left_out
    (note,) = (note for note in data.notes if "also" in note)
    assert note.endswith(": 'length=3.075, colour=navy'")
    (note,) = (note for note in data.notes if "determines the label in every training example" in note)
    assert (note[:15], note.rpartition(": ")[2]) == ("column 'colour'", "--set 'data.leave_out=[colour]'")


def test_a_label_column_that_was_found_among_others_is_told_with_its_counts(tmp_path):
    write_classes(tmp_path / "pictures", {"cat": 3, "dog": 2})
    files = sorted(tmp_path.rglob("*.png"))
    rows = [(file.relative_to(tmp_path), file.parent.name, n % 2) for n, file in enumerate(files)]
    file = str(write_csv(tmp_path / "list.csv", rows, "path", "label", "set aside"))
    assert "column 'label': 2 labels, 'cat' (3), 'dog' (2);" in ImageReader(path=file).read().notes[0]
    assert not any("taken from" in note for note in ImageReader(path=file, label_column="label").read().notes)
    note = label_column_note("d", torch.tensor([3, 3, 3, 0, 0, 6, 5, 4]), tuple("abcdefg"))
    assert "7 labels, 'd' (3), 'a' (2), 'g' (1), 'f' (1), 'e' (1), ...; one of them is the column's name: if" in note


def test_what_speaks_against_a_comparison_is_told(tmp_path):
    raw = TextReader(path=str(write_csv(tmp_path / "t.csv", reviews(300), "text", "label"))).read()
    notes = comparison_notes(prepare(raw, validation={"examples": 49}))
    assert [note.partition(",")[0].partition(":")[0] for note in notes] == ["two labels", "49 validation examples"]
    assert len(comparison_notes(prepare(raw, validation={"examples": 50}))) == 1
    digits = prepare(DigitsReader().read(), validation={"examples": 100})
    assert comparison_notes(digits) == []
    assert any("random weights" in note for note in comparison_notes(digits, random_weights=True))


def test_reference_is_logistic_regression_on_the_training_examples_alone(tmp_path):
    digits = prepare(DigitsReader().read(), validation={"examples": 100})
    reference = reference_errors(digits)
    assert max(reference.values()) < 0.1
    shuffled = replace(digits.test, labels=(digits.test.labels + 1) % 10)
    other = reference_errors(replace(digits, test=shuffled))
    assert (other["validation"], other["test"] > 0.9) == (reference["validation"], True)
    texts = prepare(
        TextReader(path=str(write_csv(tmp_path / "t.csv", reviews(300), "text", "label"))).read(), validation=None
    )
    assert list(reference_errors(texts)) == ["test"]
    assert reference_errors(texts)["test"] < 0.3
