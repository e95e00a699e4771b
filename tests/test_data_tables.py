"""Tables and texts: every kind of file gives the same examples; columns, splits and labels are found in them."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelembed.errors import DataError
from labelembed.lab.data import BagOfWordsEncoder, TableReader, TextReader, prepare
from labelembed.lab.data.table_files import Reading, read_file
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines

ROWS = [*reviews(20), ('he said "no, never"\nand left; then\tmore', "neg"), ("größer, schöner", "pos")]
BOTH = ["title", "body"]
PAIRS = [(f"number {n}", text, label) for n, (text, label) in enumerate(reviews(40))]
JOINED = [f"{title}\n{body}" for title, body, _ in PAIRS]
CELLS = st.text(st.sampled_from("ab\"',;\t|\n\r é好NA#\\1.0\u2028"), max_size=6)
COLUMNS = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}


def read(path, **options):
    return TextReader(path=str(path), **options).read()


def pairs(raw, *parts):
    """Returns (text, label's name) of all splits together, sorted."""
    splits = [raw.parts[part] for part in parts or raw.parts]
    return sorted((text, raw.names[n]) for s in splits for text, n in zip(s.inputs, s.labels.tolist(), strict=True))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=5)),
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "^"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_that_is_written_is_read_back_cell_by_cell(rows, delimiter, end, tmp_path):
    heading = [f"column {place}" for place in range(len(rows[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([heading, *rows])
    (tmp_path / "f.csv").write_bytes(text.getvalue().encode())
    table = read_file(tmp_path / "f.csv", reading=Reading(delimiter=delimiter))
    assert table.names == heading
    assert [list(row) for row in zip(*map(table.values, table.names), strict=True)] == [list(row) for row in rows]
    assert [table.place(row) for row in range(len(table))] == [f"row {number}" for number in range(2, len(rows) + 2)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_empty_lines_are_no_rows_and_are_counted(tmp_path, end):
    (tmp_path / "f.csv").write_bytes(end.join(["", "a,b", "", "1,x", "", "", '"2\n3",y', ""]).encode())
    table = read_file(tmp_path / "f.csv", reading=Reading())
    assert (table.values("a"), table.values("b")) == (["1", "2\n3"], ["x", "y"])
    assert table.place(0, 1) == "row 4, row 7"
    (tmp_path / "f.csv").write_bytes(end.join(["a;b;;", "1;x;;", "2;; ;"]).encode())  # columns without name and value
    assert read_file(tmp_path / "f.csv", reading=Reading()).names == ["a", "b"]
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + end.encode())  # a byte order mark and no more
    with pytest.raises(DataError, match="is empty"):
        read_file(tmp_path / "f.csv", reading=Reading())


def test_unpaired_quotation_marks_of_tab_files_are_letters(tmp_path):
    rows = [(f'"{text}' if n % 3 else f'5" {text}', label) for n, (text, label) in enumerate(reviews(30))]
    file = tmp_path / "r.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    assert pairs(read(file)) == sorted(rows)


def text_files(folder):
    for name, how in {
        "commas.csv": {}, "semicolons.csv": {"delimiter": ";"}, "bars.txt": {"delimiter": "|"},
        "tabs.tsv": {"delimiter": "\t"}, "marked.csv": {"encoding": "utf-8-sig"}, "wide.csv": {"encoding": "utf-16"},
    }.items():  # fmt: skip
        yield write_csv(folder / name, ROWS, "text", "label", **how)
    zipped = folder / "zipped.csv.gz"
    zipped.write_bytes(gzip.compress((folder / "commas.csv").read_bytes()))
    yield zipped
    yield write_json_lines(folder / "lines.jsonl", ROWS, "text", "label")
    listed = folder / "listed.json"
    listed.write_text(json.dumps([{"text": text, "label": label} for text, label in ROWS]))
    yield listed


def test_every_kind_of_text_file_gives_the_same_examples(tmp_path):
    for file in text_files(tmp_path):
        raw = read(file)
        assert pairs(raw) == sorted(ROWS), file.name
        assert (raw.names, len(raw.train), len(raw.test)) == (("neg", "pos"), 18, 4)


def test_parquet_gives_the_same_examples_by_the_names_of_its_labels(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    numbers = {"text": COLUMNS["text"], "label": [int(label == "pos") for _, label in ROWS]}
    raw = read(write_columns(tmp_path / "one.parquet", numbers, label_names={"label": ["bad", "good"]}))
    assert pairs(raw) == sorted((text, {"pos": "good", "neg": "bad"}[label]) for text, label in ROWS)
    # dictionaries, lists, and the index that pandas writes for rows that were filtered
    labels = pyarrow.array(COLUMNS["label"]).dictionary_encode()
    columns = {"text": COLUMNS["text"], "label": labels, "spans": [[1]] * len(ROWS)}
    assert pairs(read(write_columns(tmp_path / "a.parquet", columns))) == sorted(ROWS)
    frame = pyarrow.table(COLUMNS).to_pandas().set_index(pyarrow.array(range(3, 25)).to_pandas())
    frame.to_parquet(tmp_path / "filtered.parquet")
    assert pairs(read(tmp_path / "filtered.parquet")) == sorted(ROWS)


def test_splits_come_from_files_and_from_a_column(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, rows in (("train", ROWS[:12]), ("my_dev", ROWS[12:16]), ("test", ROWS[16:])):
        write_csv(folder / f"{name}.csv", rows, "text", "label")
    parted = [(text, label, "train" if n < 12 else "Val" if n < 16 else "test") for n, (text, label) in enumerate(ROWS)]
    file = write_csv(tmp_path / "parted.csv", parted, "text", "label", "split")
    named = write_csv(tmp_path / "named.csv", parted, "text", "label", "use")
    (tmp_path / "two").mkdir()
    for name in ("X_train.csv", "y_train.csv"):
        write_csv(tmp_path / "two" / name, ROWS, "text", "label")
    with pytest.raises(DataError, match=r"X_train.csv and y_train.csv are for the same split; join them"):
        read(tmp_path / "two")
    with pytest.raises(DataError, match="split_column"):
        read(folder, split_column="use")
    for raw in (read(folder), read(file), read(named, split_column="use")):
        found = [pairs(raw, part) for part in ("train", "validation", "test")]
        assert found == [sorted(ROWS[:12]), sorted(ROWS[12:16]), sorted(ROWS[16:])]
    rows = [(n % 9, n % 2, ("train", "test")[n % 5 // 4]) for n in range(60)]
    data = prepare(TableReader(path=str(write_csv(tmp_path / "t.csv", rows, "a", "y", "set"))).read(), validation=None)
    assert [column.name for column in data.encoder.numeric] == ["a"]


def test_a_saved_data_set_gives_the_same_examples_with_its_splits_and_label_names(tmp_path):
    datasets = pytest.importorskip("datasets", reason="saved data sets need datasets")
    names = datasets.ClassLabel(names=["neg", "pos"])
    whole = datasets.Dataset.from_dict(COLUMNS | {"tags": [[1]] * len(ROWS)}).cast_column("label", names)
    whole.save_to_disk(tmp_path / "whole")
    assert pairs(read(tmp_path / "whole")) == sorted(ROWS)
    parts = {"train": whole.select(range(12)), "test": whole.select(range(12, 22)), "unsupervised": whole}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "two")
    raw = read(tmp_path / "two")
    assert {part: pairs(raw, part) for part in raw.parts} == {"train": sorted(ROWS[:12]), "test": sorted(ROWS[12:])}
    (tmp_path / "two" / "train" / "data-00000-of-00001.arrow").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "two")
    whole.add_column("image", [b"x"] * len(ROWS)).save_to_disk(tmp_path / "pictures")
    with pytest.raises(DataError, match="to_parquet"):
        read(tmp_path / "pictures")


def test_parquet_files_of_a_split_must_all_be_there_and_alike(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    first, second = (tmp_path / f"train-0000{number}-of-00002-0123456789abcdef.parquet" for number in (0, 1))
    write_columns(first, COLUMNS)
    with pytest.raises(DataError, match="1 of the 2 files"):
        read(tmp_path)
    write_columns(second, COLUMNS)
    write_columns(tmp_path / "test-00000-of-00001.parquet", COLUMNS)
    assert {part: len(split) for part, split in read(tmp_path).parts.items()} == {"train": 44, "test": 22}
    write_columns(second, {"text": COLUMNS["text"], "other": COLUMNS["label"]})
    with pytest.raises(DataError, match=r"00001-of-.*has other columns"):
        read(tmp_path)
    second.write_bytes(first.read_bytes()[:100])
    with pytest.raises(DataError, match=r"00001-of-.*damaged"):
        read(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"labelembed\[hub\]"):
        read(tmp_path)


@pytest.mark.parametrize("test", ["text\nsomething new here\n", "text,label\nsomething new here,-1\n"])
def test_test_examples_whose_labels_are_secret_are_left_out(tmp_path, test):
    write_csv(tmp_path / "train.csv", ROWS[:12], "text", "label")
    write_csv(tmp_path / "dev.csv", ROWS[12:], "text", "label")
    (tmp_path / "test.csv").write_text(test)
    raw = read(tmp_path)
    assert pairs(raw, "test") == sorted(ROWS[12:])
    assert "test examples without labels left out: 1" in raw.notes


@pytest.mark.parametrize(
    ("heading", "row", "text", "label"),
    [
        (("Review", "Sentiment"), lambda n, text, label: (text, label), 0, 1),
        (("id", "reviewText", "overall_rating"), lambda n, text, label: (n, text, 1 + n % 2), 1, 2),
        # names of no language the program knows: found by what the columns hold
        (("nr", "Kommentar", "Urteil"), lambda n, text, label: (n, text, label), 1, 2),
        (("a", "b"), lambda n, text, label: (label, text), 1, 0),
        (("Title", "Text", "Class"), lambda n, text, label: (f"title {n}", text, label), 1, 2),
        (("review_title", "review_body", "stars"), lambda n, text, label: (f"its title {n}", text, label), 1, 2),
        (("author", "Headline", "Class"), lambda n, text, label: (f"author {n % 7}", text, label), 1, 2),
        (("评论", "y"), lambda n, text, label: (f"这部电影很好看演员也不错音乐更是动人{n}", label), 0, 1),
    ],
)
def test_columns_are_found_by_name_or_by_what_they_hold(tmp_path, heading, row, text, label):
    rows = sorted((row(n, *each) for n, each in enumerate(reviews(4_100))), key=lambda cells: str(cells[label]))
    raw = read(write_csv(tmp_path / "r.csv", rows, *heading))
    assert f"texts are taken from column {heading[text]!r}" in raw.notes
    assert (raw.label_column, len(raw.names)) == (heading[label], 2)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_texts_of_several_columns_are_joined_in_the_order_of_the_list(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
        write_columns(path, {name: [row[n] for row in PAIRS] for n, name in enumerate((*BOTH, "label"))})
    else:
        (write_csv if kind == "csv" else write_json_lines)(path, PAIRS, *BOTH, "label")
    raw = read(path, text_column=BOTH)
    assert pairs(raw) == sorted(zip(JOINED, (label for *_, label in PAIRS), strict=True))
    turned = {text for text, _ in pairs(read(path, text_column=BOTH[::-1]))}
    assert turned == {f"{body}\n{title}" for title, body, _ in PAIRS}
    new = TextReader(path="x.csv", text_column=BOTH).new_examples(path, BagOfWordsEncoder())
    assert list(new.inputs) == JOINED


def test_examples_without_text_or_label_are_left_out_with_a_note_of_their_rows(tmp_path):
    lacking = [("", *PAIRS[0][1:]), (PAIRS[1][0], " \t", PAIRS[1][2]), *PAIRS[2:], ("", " ", "pos"), ("a", "b", "")]
    raw = read(write_csv(tmp_path / "r.csv", lacking, *BOTH, "label"), text_column=BOTH)
    assert {text for text, _ in pairs(raw)} == {f"\n{PAIRS[0][1]}", f"{PAIRS[1][0]}\n", *JOINED[2:]}
    assert "left out, without a text in 'title' and 'body': 1 of 42 examples (row 42)" in raw.notes
    assert "left out, without a label in column 'label': 1 of 41 examples (row 43)" in raw.notes


def test_new_texts_are_read_from_the_column_of_the_training_with_their_places(tmp_path):
    encoder = BagOfWordsEncoder()
    encoder.column = "text"
    reader, texts = TextReader(path="x.csv"), ["a dull film", "", "lovely"]
    new = reader.new_examples(write_csv(tmp_path / "new.csv", [(text, 1) for text in texts], "text", "id"), encoder)
    assert (list(new.inputs), new.names) == (texts, [f"new.csv row {number}" for number in (2, 3, 4)])
    other = write_json_lines(tmp_path / "new.jsonl", [(text,) for text in texts], "anything")
    assert list(reader.new_examples(other, encoder).inputs) == texts
    (tmp_path / "new.txt").write_text("\n".join(texts))
    assert reader.new_examples(tmp_path / "new.txt", encoder).names == ["new.txt line 1", "new.txt line 3"]
    with pytest.raises(DataError, match="no column 'text'"):
        reader.new_examples(write_csv(tmp_path / "bare.csv", [(text,) for text in texts]), encoder)


def test_labels_of_numbers_and_truth_values_are_named_in_order(tmp_path):
    texts = [text for text, _ in reviews(60)]
    for values, names in (
        ((10, 9, 2), ("2", "9", "10")),
        ((True, False), ("False", "True")),
        ((1.5, 2.0, 4.5), ("1.5", "2", "4.5")),
        (("a\ud83d", "b"), ("a?", "b")),  # half an emoji, which no file of a run could hold
    ):
        rows = [(text, values[n % len(values)]) for n, text in enumerate(texts)]
        assert read(write_json_lines(tmp_path / "s.jsonl", rows, "text", "rating")).names == names


def test_spaces_are_no_part_of_a_label_and_spellings_are_kept_apart_with_a_note(tmp_path):
    spelt = ["Positive", "positive ", " neg"]
    file = write_csv(tmp_path / "r.csv", [(t, spelt[n % 3]) for n, (t, _) in enumerate(reviews(40))], "text", "label")
    raw = read(file)
    assert raw.names == ("Positive", "neg", "positive")
    assert any(
        "case only are kept apart: 'Positive', 'positive'" in note for note in prepare(raw, validation=None).notes
    )


def test_arguments_out_of_their_range_are_named_together(tmp_path):
    with pytest.raises(ValueError, match="text_column") as caught:
        read(tmp_path, test_fraction=1.5, ngrams=6, text_column=["a", "a"], encoder="bert")
    named = [line.split("`")[1] for line in str(caught.value).splitlines()]
    assert named == ["test_fraction", "text_column", "ngrams", "encoder"]


@pytest.mark.parametrize("values", [("test",) * 4, ("test", "dev", "test", "dev")])
def test_a_column_of_parts_without_training_rows_names_no_parts(tmp_path, values):
    rows = [(text, label, part) for (text, label), part in zip(reviews(4), values, strict=True)]
    file = write_csv(tmp_path / "t.csv", rows, "text", "label", "split")
    reader = TextReader(path=str(file), text_column="text", label_column="label", split_column="split")
    raw = reader.read(to_evaluate=True)
    assert (len(raw.train), raw.validation, raw.test) == (4, None, None)
