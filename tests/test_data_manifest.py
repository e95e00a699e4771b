"""Lists of pictures: CSV, TSV, JSON lines and parquet; columns found by name or given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import ImageReader
from tests.made_data import write_parquet
from tests.made_pictures import write_classes

ROWS = [
    ("pictures/cat/000.png", "cat", "train"),
    ("pictures/dog/000.png", "dog", "Training"),
    ("pictures/dog/001.png", "dog", "train"),
    ("pictures/cat/001.png", "cat", "test"),
    ("pictures/dog/002.png", "dog", "val"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    write_classes(tmp_path / "pictures", {"cat": 2, "dog": 3})
    return tmp_path


def table(rows, *heading, separator=","):
    return "\n".join(separator.join(row) for row in [heading, *rows]) + "\n"


def write_csv(folder, rows=ROWS, *heading):
    file = folder / "list.csv"
    file.write_text(table(rows, *(heading or ("path", "label", "split"))))
    return file


def read(file, **options):
    return ImageReader(path=str(file), **options).read()


def write_every(folder):
    yield write_csv(folder)
    for name, separator in (("list.tsv", "\t"), ("semicolons.csv", ";")):
        text = "\ufeff" + table(ROWS, "path", "label", "split", separator=separator).replace("\n", "\r\n")
        (folder / name).write_bytes(text.encode())
        yield folder / name
    lines = [json.dumps(dict(zip(("path", "label", "split"), row, strict=True)) | {"more": [1]}) for row in ROWS]
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n\n")
    yield folder / "list.jsonl"
    path, label, split = (list(column) for column in zip(*ROWS, strict=True))
    yield write_parquet(folder / "list.parquet", image=path, label=label, split=split, weight=[0.5] * 5)


def test_every_kind_of_list_is_the_same_data(folder):
    for file in write_every(folder):
        raw = read(file)
        assert raw.names == ("cat", "dog")
        assert raw.train.labels.tolist() == [0, 1, 1]
        assert raw.test.labels.tolist() == [0]
        assert raw.train.inputs.shape == (3, 3, 12, 12)
        assert raw.source == f"pictures listed in {file}"
        assert raw.validation.labels.tolist() == [1]
        assert raw.notes[-2:] == ("no validation picture of cat", "no test picture of dog")


def test_parts_that_are_not_there(folder):
    raw = read(write_csv(folder, [row[:2] for row in ROWS], "file_name", "Class"), test_fraction=0.4)
    assert (len(raw.train), len(raw.test)) == (3, 2)
    with pytest.raises(DataError, match=r"list\.csv: has no training example in column 'split'"):
        read(write_csv(folder, ROWS[3:]))
    with pytest.raises(DataError, match=r"list\.csv: row 3 has 'both' in column 'split'; expected train, training"):
        read(write_csv(folder, [ROWS[0], (*ROWS[1][:2], "both")]))


def test_columns_given_or_found_by_what_they_hold(folder):
    rows = [(row[1], row[0], "x", row[2]) for row in ROWS]
    file = write_csv(folder, rows, "what", "where", "else", "which")
    raw = read(file, labels="what", split="which")
    assert (raw.train.labels.tolist(), raw.test.labels.tolist()) == ([0, 1, 1], [0])
    with pytest.raises(
        DataError, match=r"`labels`: no column 'whot' \(did you mean 'what'\?\); there are: what, where"
    ):
        read(file, labels="whot")
    with pytest.raises(DataError, match="column 'where' cannot hold both paths and labels"):
        read(file, labels="where")
    with pytest.raises(DataError, match="which column holds the paths is unclear"):
        read(write_csv(folder, [("a", "b")], "one", "label"))


def test_labels_that_are_numbers_and_pictures_of_any_size(folder):
    path = [row[0] for row in ROWS]
    for labels in ([10, 9, 9, 10, 10], [10.0, 9.0, 9.0, 10.0, 10.0]):
        file = write_parquet(folder / "list.parquet", image=path, label=labels)
        raw = read(file, test_fraction=0.4, image_size=6, fit="pad")
        assert raw.names == ("9", "10")
        assert raw.train.inputs.shape == (3, 3, 6, 6)


def test_pictures_that_are_missing_or_of_another_folder(folder):
    other = folder / "lists"
    other.mkdir()
    rows = [(f"../{row[0]}", *row[1:]) for row in ROWS[:4]]
    assert len(read(write_csv(other, rows)).train) == 3
    rows.append(("../pictures/cat/777.png", "cat", "train"))
    with pytest.raises(DataError, match=r"1 of 5 pictures cannot be read.*\n  .*pictures/cat/777\.png: does not exist"):
        read(write_csv(other, rows))
    assert len(read(write_csv(other, rows), skip_unreadable=True).train) == 3
    with pytest.raises(DataError, match=r"has labels in the test set that no training example has: emu"):
        read(write_csv(other, [*rows[:4], (rows[0][0], "emu", "test")]))
    with pytest.raises(DataError, match=r"does not exist; expected a folder of pictures"):
        read(folder / "nothing.csv")


def test_lists_are_read_with_the_delimiter_and_encoding_given(folder):
    (folder / "pictures" / "cat").rename(folder / "pictures" / "kätzchen")
    rows = [(path.replace("cat", "kätzchen"), *rest) for path, *rest in ROWS]
    text = table(rows, "path", "label", "split", separator="^")
    (folder / "list.csv").write_text(text, encoding="cp1252")
    assert len(read(folder / "list.csv", delimiter="^", encoding="cp1252").train) == 3
    with pytest.raises(ValueError, match="`delimiter` must be one ASCII character"):
        read(folder / "list.csv", delimiter="^^")


def test_picture_on_several_rows_is_told(folder):
    raw = read(write_csv(folder, [*ROWS[:4], ("pictures/dog/000.png", "cat", "test")]))
    (note,) = (note for note in raw.notes if "in the training set too" in note)
    assert note.startswith("1 test picture stands in the training set too, 1 of them with another label: pictures/dog/")
    np.testing.assert_array_equal(raw.train.inputs[1], raw.test.inputs[1])
