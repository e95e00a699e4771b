"""What is told of a data set: uneven labels, and equal inputs in two parts or with two labels."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import torch

from labelembed.lab.data import (
    DigitsReader,
    ImageReader,
    TableReader,
    TextReader,
    ValidationSplit,
    prepare,
)
from labelembed.lab.data.data_notes import (
    balance_notes,
    comparison_notes,
    label_column_note,
    reference_errors,
    repeat_notes,
)
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_csv


def test_balance_is_told_above_three_to_one():
    names = ("a", "b", "c")
    assert balance_notes(torch.tensor([0, 0, 0, 1]), names[:2]) == []
    (note,) = balance_notes(torch.tensor([0, 0, 0, 0, 2, 1, 1]), names)
    assert note.startswith("unbalanced labels: a has 4 training examples, c has 1 (4.0 times as many)")
    assert balance_notes(torch.tensor([0, 0, 2]), names) == ["1 of 3 labels have no training example: b"]
    # equally many of the labels that have any
    assert len(balance_notes(torch.tensor([1, 1, 2, 2]), names)) == 1
    many = tuple(str(number) for number in range(20))
    (note,) = balance_notes(torch.zeros(1, dtype=torch.int64), many)
    assert note == "19 of 20 labels have no training example: 1, 2, 3, 4, 5 and 14 more"


def test_repeats_are_told_by_part_and_with_their_labels():
    labels = {"training": torch.tensor([0, 0, 1]), "test": torch.tensor([0, 1, 1])}
    how = {"shown": lambda row, earlier: f"{row} = {earlier}"}
    found = repeat_notes([(1, 0), (3, 0), (5, 4)], labels=labels, **how)
    assert found == ["1 test picture stands in the training set too: 3 = 0"]
    assert repeat_notes([(1, 0), (5, 4)], labels=labels, **how) == []
    found = repeat_notes([(3, 0), (4, 1)], labels=labels, **how)
    assert found == ["2 test pictures stand in the training set too, 1 of them with another label: 3 = 0, 4 = 1"]
    three = {"training": torch.tensor([0, 1, 1, 0]), "validation": torch.tensor([1, 0]), "test": torch.tensor([0])}
    assert repeat_notes([(2, 0), (3, 0), (4, 0), (6, 5)], labels=three, what="example", **how) == [
        "1 training example has another label than an equal one: 2 = 0",
        "1 validation example stands in the training set too, 1 of them with another label: 4 = 0",
        "1 test example stands in the validation set too: 6 = 5",
    ]


def test_texts_in_two_parts_and_equal_texts_with_two_labels_are_told(tmp_path):
    rows = [(f"{text} {n}", label) for n, (text, label) in enumerate(reviews(20))]
    write_csv(tmp_path / "train.csv", [*rows[:12], (rows[0][0], "neg")], "text", "label")
    write_csv(tmp_path / "dev.csv", [*rows[12:16], rows[1]], "text", "label")
    write_csv(tmp_path / "test.csv", [*rows[16:], rows[1], (rows[2][0], "neg"), rows[12]], "text", "label")
    notes = prepare(TextReader(path=str(tmp_path)).read(), validation=None).notes
    assert [note for note in notes if "stand" in note or "equal" in note] == [
        f"1 training example has another label than an equal one: {cut(rows[0])}",
        f"1 validation example stands in the training set too: {cut(rows[1])}",
        f"2 test examples stand in the training set too, 1 of them with another label: {cut(rows[1])}, {cut(rows[2])}",
        f"1 test example stands in the validation set too: {cut(rows[12])}",
    ]


def cut(row):
    return repr(textwrap.shorten(row[0], 60, placeholder=" ..."))


def test_texts_that_are_held_out_are_looked_at_too(tmp_path):
    write_csv(tmp_path / "train.csv", reviews(16) * 2, "text", "label")
    write_csv(tmp_path / "test.csv", reviews(4, seed=1), "text", "label")
    raw = TextReader(path=str(tmp_path)).read()
    notes = prepare(raw, validation=ValidationSplit(first=10)).notes
    assert sum(note.startswith("10 validation examples stand in the training set too: ") for note in notes) == 1
    assert not any("stand" in note for note in prepare(raw, validation=None).notes)


def test_table_rows_are_equal_by_the_columns_that_are_used(tmp_path):
    heading = ("customer_id", "length", "colour", "class")
    rows = [(n, n % 11 + n / 40, ("red", "blue")[n % 2], ("low", "high")[n % 2]) for n in range(40)]
    write_csv(tmp_path / "train.csv", rows[:30], *heading)
    write_csv(tmp_path / "test.csv", [*rows[30:], (99, *rows[3][1:3], "low")], *heading)
    data = prepare(TableReader(path=str(tmp_path)).read(), validation=None)
    assert "customer_id" in data.encoder.left_out
    (note,) = (note for note in data.notes if "stand" in note)
    assert note == (
        "1 test example stands in the training set too, 1 of them with another label: 'length=3.075, colour=blue'"
    )


def test_a_label_column_that_was_found_among_others_is_told_with_its_counts(tmp_path):
    write_classes(tmp_path / "pictures", {"cat": 3, "dog": 2})
    files = sorted(tmp_path.rglob("*.png"))
    rows = [(file.relative_to(tmp_path), file.parent.name, n % 2) for n, file in enumerate(files)]
    file = str(write_csv(tmp_path / "list.csv", rows, "path", "label", "set aside"))
    told = "labels are taken from column 'label': 2 labels, cat 2, dog 2; to take another: --set data.label_column=NAME"
    assert ImageReader(path=file).read().notes[0] == told
    assert not any("taken from" in note for note in ImageReader(path=file, label_column="label").read().notes)
    names = tuple("abcdefg")
    assert label_column_note("kind", torch.tensor([3, 3, 3, 0, 0, 6, 5, 4]), names) == (
        "labels are taken from column 'kind': 7 labels, d 3, a 2, e 1, f 1, g 1, ...; to take another: "
        "--set data.label_column=NAME"
    )


def test_what_speaks_against_a_comparison_is_told(tmp_path):
    raw = TextReader(path=str(write_csv(tmp_path / "t.csv", reviews(300), "text", "label"))).read()
    few, enough = (prepare(raw, validation=ValidationSplit(examples=number)) for number in (49, 50))
    assert [note.split(":")[0].split(",")[0] for note in comparison_notes(few)] == [
        "two labels",
        "49 validation examples",
    ]
    assert len(comparison_notes(enough)) == 1
    digits = prepare(DigitsReader().read(), validation=ValidationSplit(examples=100))
    assert comparison_notes(digits) == []
    assert "random weights" in comparison_notes(digits, random_weights=True)[0]


def test_logistic_regression_stands_beside_the_networks(tmp_path):
    digits = prepare(DigitsReader().read(), validation=ValidationSplit(examples=200))
    reference = reference_errors(digits)
    assert reference.validation_error < 0.1
    assert reference.test_error < 0.1
    raw = TextReader(path=str(write_csv(tmp_path / "t.csv", reviews(300), "text", "label"))).read()
    assert reference_errors(prepare(raw, validation=ValidationSplit(examples=50))).test_error < 0.25
    # a test example moves nothing of it
    other = replace(digits, test=digits.test.select(torch.arange(5)))
    assert reference_errors(other).validation_error == reference.validation_error
