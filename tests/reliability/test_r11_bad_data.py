"""R11: bad data of every kind that is read: right, or one message with file and row and the way out, exit code 2."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader, TableReader, TextReader, table_files
from tests.made_bad_data import write_all
from tests.made_cli import call
from tests.made_data import write_parquet
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines
from tests.made_watching import memory_taken
from tests.reliability.tables import assert_answer, read_table

DATA_SETS = read_table("bad_data.txt")


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("data"))
        write_all()
        return Path.cwd()


@pytest.mark.parametrize(("words", "answer"), DATA_SETS, ids=[words for words, _ in DATA_SETS])
def test_bad_data_are_told_by_file_and_row_or_read_right(words, answer, data_sets, monkeypatch, figure):
    monkeypatch.chdir(data_sets)
    assert_answer(call(*shlex.split(words)), answer)
    assert not Path("hacked").exists()
    figure.count("bad data told or read right", 1, 1)


# ---- tables and texts

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
    "a cell too large": (csv([*ROWS, ("x" * (table_files.MAXIMUM_CELL + 1), "pos")]), {}, ["line 42", "field larger"]),
    "an open quotation mark": (content('text,label\n"never closed,pos\n' + LINES), {}, ["line 42", "quotation"]),
    "a quotation mark within": (content('text,label\na b,pos\n"closed" early,pos\n'), {}, ["line 3", "twice"]),
    "a wrong delimiter": (csv(ROWS, delimiter=";"), {"delimiter": "|"}, ["unclear", "text;label"]),
    "a row too long": (csv([*ROWS[:5], (*ROWS[5], "more")]), {}, ["row 7", "3 cells", "not 2"]),
    "another encoding": (LATIN, {}, ["utf-8", "line 2", "data.encoding=cp1252"]),
    "a column twice": (
        csv([(t, t, label) for t, label in ROWS], "text", "text", "label"),
        {},
        ["two columns of one name (text, text, label)"],
    ),
    "a missing column": (csv(ROWS), {"text_column": "txet"}, ["no column 'txet'", "(did you mean 'text'?)"]),
    "labels that number the rows": (labelled(lambda n: n), {}, ["40 values in 40", "label_column"]),
    "one column": (csv([(text,) for text, _ in ROWS], "text"), {}, ["labels is unclear", "data.label_column=NAME"]),
    "a split that is none": (
        csv([(*row, ("train", "tset")[n == 3]) for n, row in enumerate(ROWS)], "text", "label", "split"),
        {"split_column": "split"},
        ["row 5 has 'tset'", "expected train"],
    ),
    "a line that is no JSON": (content('{"text": "a b", "label": "x"}\n{"text": '), {}, ["line 2", "no JSON"]),
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


# ---- parquet files whose columns would not fit into memory are refused by their footers


@pytest.mark.parametrize(("reader", "name"), [(TextReader, "text"), (TableReader, "text"), (ImageReader, "img")])
def test_columns_that_would_fill_the_memory_are_refused_unread(reader, name, tmp_path, monkeypatch, figure):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    monkeypatch.setattr(table_files, "MOST_BYTES", 2**24)
    file, long = tmp_path / "f.parquet", [f"{number}{'x' * 2**20}" for number in range(24)]  # packed into kilobytes
    if name == "img":
        write_parquet(file, img=[text.encode() for text in long], label=[0, 1] * 12)
    else:
        write_columns(file, {"text": long, "label": [0, 1] * 12})
    with memory_taken() as taken, pytest.raises(DataError, match=r"unpacks to 25,.* bytes"):
        reader(path=str(file)).read()
    figure.at_most("bytes for a file that unpacks to too much, of 16 MB", round(taken[0] / 2**24, 2), 1.0)


def test_data_ten_times_as_large_as_their_file_are_read_however_large(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    monkeypatch.setattr(table_files, "MOST_BYTES", 2**10)
    file = write_columns(tmp_path / "f.parquet", {"x": [n * n % 251 for n in range(20_000)], "label": [0, 1] * 10_000})
    assert TableReader(path=str(file)).read().parts.keys() == {"train", "test"}
