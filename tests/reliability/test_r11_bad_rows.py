"""R11: tables and texts that a person meets and that cannot be used: one message with file and row, and the way out."""

from __future__ import annotations

import pytest

from labelembed.errors import DataError
from labelembed.lab.data import TableReader, TextReader, prepare
from labelembed.lab.data.table_files import MAXIMUM_CELL
from tests.made_texts import reviews, write_csv, write_json_lines

ROWS = reviews(40)
LINES = "".join(f"{text},{label}\n" for text, label in ROWS)


def csv(rows, *heading, **how):
    return lambda file: write_csv(file, rows, *(heading or ("text", "label")), **how)


def labelled(label_of):
    return csv([(text, label_of(number)) for number, (text, _) in enumerate(ROWS)])


def content(value):
    return lambda file: file.write_bytes(value if isinstance(value, bytes) else value.encode())


LATIN = csv([(f"{text} größer", label) for text, label in ROWS], encoding="latin-1")
# What is wrong: what writes the file, the reader's options, and words that the message has in this order.
CASES = {
    "no texts": (csv([("", label) for _, label in ROWS]), {}, ["texts is unclear"]),
    "one class": (labelled(lambda n: "pos"), {}, ["one label only, pos"]),
    "a cell too large": (csv([*ROWS, ("x" * (MAXIMUM_CELL + 1), "pos")]), {}, ["line 42", "field larger"]),
    "an open quotation mark": (content('text,label\n"never closed,pos\n' + LINES), {}, ["line 42", "quotation"]),
    "a quotation mark within": (content('text,label\na b,pos\n"closed" early,pos\n'), {}, ["line 3", "twice"]),
    "a wrong delimiter": (csv(ROWS, delimiter=";"), {"delimiter": "|"}, ["unclear", "text;label"]),
    "a row too long": (csv([*ROWS[:5], (*ROWS[5], "more")]), {}, ["row 7", "3 cells", "not 2"]),
    "another encoding": (LATIN, {}, ["utf-8", "line 2", "data.encoding=cp1252"]),
    "no such encoding": (LATIN, {"encoding": "utf-9"}, ["utf-9", "data.encoding"]),
    "UTF-16 without a mark": (content("text,label\nschön,pos\n".encode("utf-16-le")), {}, ["utf-8", "data.encoding"]),
    "a zero byte": (content(b"text,label\na\0b,x\n"), {}, ["zero", "data.encoding"]),
    "an empty file": (content(" \n\n"), {}, ["is empty"]),
    "a column twice": (
        csv([(t, t, label) for t, label in ROWS], "text", "text", "label"),
        {},
        ["two columns of one name (text, text, label)"],
    ),
    "a missing column": (csv(ROWS), {"text_column": "txet"}, ["no column 'txet'", "(did you mean 'text'?)"]),
    "one column for both": (csv(ROWS), {"text_column": "label", "label_column": "label"}, ["cannot hold both"]),
    "labels that number the rows": (labelled(lambda n: n), {}, ["40 values in 40", "label_column"]),
    "one column": (csv([(text,) for text, _ in ROWS], "text"), {}, ["labels is unclear", "data.label_column=NAME"]),
    "a split that is none": (
        csv([(*row, ("train", "tset")[n == 3]) for n, row in enumerate(ROWS)], "text", "label", "split"),
        {"split_column": "split"},
        ["row 5 has 'tset'", "expected train"],
    ),
    "a line that is no JSON": (content('{"text": "a b", "label": "x"}\n{"text": '), {}, ["line 2", "no JSON"]),
    "a line that is no object, JSON": (content('{"text": "a b", "label": "x"}\n[1]\n'), {}, ["row 2", "no object"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_refused_with_file_and_row_and_the_way_out(case, tmp_path, figure):
    write, options, words = CASES[case]
    file = tmp_path / ("f.jsonl" if "JSON" in case else "f.csv")
    write(file)
    with pytest.raises(DataError) as caught:
        TextReader(path=str(file), **options).read()
    said = str(caught.value)
    assert said.startswith(str(file))
    assert len(said.splitlines()) <= 12
    places = [said.find(word) for word in words]
    assert -1 not in places, said
    assert places == sorted(places)
    figure.count("wrong tables and texts refused with file and row", 1, 1)


@pytest.mark.parametrize(("options", "words"), [
    ({"categorical": ["aeg"]}, "no column 'aeg' of texts or numbers (did you mean 'age'?)"),
    ({"leave_out": ["age", "city"]}, "no column to learn from: age (as asked), city (as asked)"),
    ({"label_column": "clas"}, "did you mean 'class'?"),
])  # fmt: skip
def test_columns_of_a_table_named_wrongly_are_refused(options, words, tmp_path, figure):
    rows = [(n % 9 + 0.5, "Bonn" if n % 3 else "Ulm", ("no", "yes")[n % 2]) for n in range(40)]
    file = write_csv(tmp_path / "t.csv", rows, "age", "city", "class")
    with pytest.raises(DataError) as caught:
        prepare(TableReader(path=str(file), **options).read(), validation=None)
    assert words in str(caught.value)
    figure.count("wrong columns of a table refused", 1, 1)


def test_folders_without_training_examples_or_with_two_files_for_them_are_refused(tmp_path, figure):
    def refusal():
        with pytest.raises(DataError) as caught:
            TextReader(path=str(tmp_path)).read()
        return str(caught.value)

    (tmp_path / "readme.md").write_text("nothing")
    assert "has no training set" in refusal()
    write_csv(tmp_path / "train.csv", ROWS, "text", "label")
    write_json_lines(tmp_path / "train.jsonl", ROWS, "text", "label")
    assert "train.csv and train.jsonl are for the same split" in refusal()
    (tmp_path / "train.jsonl").unlink()
    write_csv(tmp_path / "test.csv", [*ROWS[:5], ("a b c", "odd")], "text", "label")
    assert "no training example has: odd" in refusal()
    figure.count("wrong folders refused", 3, 3)
