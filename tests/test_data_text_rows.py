"""Labelled texts: every kind of file gives the same rows; columns are found by name, then by what they hold."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from labelembed.errors import DataError
from labelembed.lab.data import BagOfWordsEncoder, TextReader
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines, write_saved

ROWS = [*reviews(20), ('he said "no, never"\nand left; then\tmore', "neg"), ("größer, schöner", "pos")]


def read(path, **options):
    return TextReader(path=str(path), **options).read()


def pairs(rows, *parts):
    """Returns (text, label's name) of all parts together, sorted."""
    found = []
    for part in parts or ("train", "test"):
        split = getattr(rows, part)
        found += [(text, rows.names[label]) for text, label in zip(split.inputs, split.labels.tolist(), strict=True)]
    return sorted(found)


def every_file(folder):
    yield write_csv(folder / "commas.csv", ROWS, "text", "label")
    yield write_csv(folder / "semicolons.csv", ROWS, "text", "label", delimiter=";")
    yield write_csv(folder / "bars.txt", ROWS, "text", "label", delimiter="|")
    yield write_csv(folder / "tabs.tsv", ROWS, "text", "label", delimiter="\t")
    yield write_csv(folder / "marked.csv", ROWS, "text", "label", encoding="utf-8-sig")
    yield write_csv(folder / "wide.csv", ROWS, "text", "label", encoding="utf-16")
    zipped = folder / "zipped.csv.gz"
    zipped.write_bytes(gzip.compress((folder / "commas.csv").read_bytes()))
    yield zipped
    yield write_json_lines(folder / "lines.jsonl", ROWS, "text", "label")
    listed = folder / "listed.json"
    listed.write_text(json.dumps([{"text": text, "label": label} for text, label in ROWS]))
    yield listed


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
    for file in every_file(tmp_path):
        rows = read(file)
        assert pairs(rows) == sorted(ROWS), file.name
        assert rows.names == ("neg", "pos")
        assert (len(rows.train), len(rows.test)) == (18, 4)


def test_arrow_files_give_the_same_rows_and_keep_the_names_of_labels(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet and saved data sets need pyarrow")
    columns = {"text": [text for text, _ in ROWS], "label": [int(label == "pos") for _, label in ROWS]}
    names = {"label": ["bad", "good"]}
    wanted = sorted((text, {"pos": "good", "neg": "bad"}[label]) for text, label in ROWS)
    parquet = write_columns(tmp_path / "one.parquet", columns, label_names=names)
    saved = write_saved(tmp_path / "saved", columns, label_names=names, files=3)
    for path in (parquet, saved):
        assert pairs(read(path)) == wanted
        assert read(path).names == ("bad", "good")
    write_saved(tmp_path / "both" / "train", columns, label_names=names)
    write_saved(tmp_path / "both" / "test", {name: values[:4] for name, values in columns.items()}, label_names=names)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    both = read(tmp_path / "both")
    assert pairs(both, "train") == wanted
    assert len(both.test) == 4


def test_files_that_number_the_names_of_labels_otherwise_are_read_by_name(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    for part, names in (("train", ["neg", "pos"]), ("test", ["pos", "neg"])):
        columns = {"text": [text for text, _ in ROWS], "label": [names.index(label) for _, label in ROWS]}
        write_columns(tmp_path / f"{part}.parquet", columns, label_names={"label": names})
    assert pairs(read(tmp_path), "test") == sorted(ROWS)
    (tmp_path / "train.parquet").rename(tmp_path / "train-00000-of-00002.parquet")
    (tmp_path / "test.parquet").rename(tmp_path / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match="names its labels otherwise"):
        read(tmp_path)


def test_parquet_kinds_of_text_and_of_labels(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    texts = [text for text, _ in ROWS]
    labels = pa.array([label for _, label in ROWS]).dictionary_encode()
    columns = {"text": pa.array(texts, pa.large_string()), "label": labels, "spans": [[1, 2]] * len(texts)}
    assert pairs(read(write_columns(tmp_path / "a.parquet", columns))) == sorted(ROWS)


def test_parts_come_from_files_and_from_a_column(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    write_csv(folder / "train.csv", ROWS[:12], "text", "label")
    write_csv(folder / "my_dev.csv", ROWS[12:16], "text", "label")
    write_csv(folder / "test.csv", ROWS[16:], "text", "label")
    parted = [(text, label, "train" if n < 12 else "Val" if n < 16 else "test") for n, (text, label) in enumerate(ROWS)]
    file = write_csv(tmp_path / "parted.csv", parted, "text", "label", "split")
    named = write_csv(tmp_path / "named.csv", parted, "text", "label", "use")
    for rows in (read(folder), read(file), read(named, split_column="use")):
        assert pairs(rows, "train") == sorted(ROWS[:12])
        assert pairs(rows, "validation") == sorted(ROWS[12:16])
        assert pairs(rows, "test") == sorted(ROWS[16:])


@pytest.mark.parametrize("test", ["text\nsomething new here\n", "text,label\nsomething new here,-1\n"])
def test_test_rows_whose_labels_are_secret_are_left_aside(tmp_path, test):
    write_csv(tmp_path / "train.csv", ROWS[:12], "text", "label")
    write_csv(tmp_path / "dev.csv", ROWS[12:], "text", "label")
    (tmp_path / "test.csv").write_text(test)
    rows = read(tmp_path)
    assert pairs(rows, "test") == sorted(ROWS[12:])
    assert "test examples without labels left out: 1" in rows.notes
    assert "no test set: the validation set takes its place" in rows.notes


def test_minus_one_is_a_label_where_training_examples_have_it(tmp_path):
    polar = [(text, {"neg": -1, "pos": 1}[label]) for text, label in ROWS]
    write_csv(tmp_path / "train.csv", polar, "text", "label")
    write_csv(tmp_path / "test.csv", [(text, label) for text, label in polar if label == -1], "text", "label")
    assert len(read(tmp_path).test) == sum(label == -1 for _, label in polar)


@pytest.mark.parametrize(
    ("heading", "row"),
    [
        (("Review", "Sentiment"), lambda n, text, label: (text, label)),
        (
            ("id", "reviewText", "overall_rating", "reviewer"),
            lambda n, text, label: (n, text, 1 + n % 2 * 3, f"r{n} x"),
        ),
        # names of no language the program knows: found by what the columns hold
        (("nr", "Kommentar", "Urteil"), lambda n, text, label: (n, text, label)),
        (("a", "b"), lambda n, text, label: (label, text)),
        (("Title", "Text", "Class"), lambda n, text, label: (f"title {n}", text, label)),
        (("review_title", "review_body", "stars"), lambda n, text, label: (f"its title {n}", text, label)),
        (("title", "Review body", "stars"), lambda n, text, label: (f"its title {n}", text, label)),
        (("author", "Headline", "Class"), lambda n, text, label: (f"author {n % 7}", text, label)),
        (("текст", "оценка"), lambda n, text, label: (text, n % 2)),
    ],
)
def test_columns_are_found(tmp_path, heading, row):
    made = [row(n, text, label) for n, (text, label) in enumerate(reviews(40))]
    rows = read(write_csv(tmp_path / "some.csv", made, *heading))
    place = next(p for p, value in enumerate(made[0]) if value == reviews(40)[0][0])
    assert sorted([*rows.train.inputs, *rows.test.inputs]) == sorted(entry[place] for entry in made)
    assert len(rows.names) == 2
    assert f"texts are taken from column {heading[place]!r}" in rows.notes
    (note,) = [note for note in rows.notes if note.startswith("labels are taken from column")]
    assert re.search(r": 2 labels, \w+ 16, \w+ 16; to take another: --set data.label_column=NAME$", note)


def test_texts_without_spaces_are_found(tmp_path):
    made = [("这部电影非常好看演员的表演也很出色" + "好" * (n % 5), ("好", "坏")[n % 2]) for n in range(40)]
    assert set(read(write_csv(tmp_path / "c.csv", made, "x", "z")).names) == {"好", "坏"}


def test_a_file_without_a_heading_is_read_by_names_given(tmp_path):
    file = write_csv(tmp_path / "r.csv", [(label, text) for text, label in ROWS])
    assert pairs(read(file, columns=["label", "text"])) == sorted(ROWS)


def test_unpaired_quotation_marks_of_tab_files_are_letters(tmp_path):
    rows = [(f'"{text}' if n % 3 == 0 else text, label) for n, (text, label) in enumerate(reviews(20))]
    file = tmp_path / "r.tsv"
    file.write_text("\n".join("\t".join(row) for row in [("text", "label"), *rows]) + "\n")
    found = read(file)
    assert pairs(found) == sorted(rows)
    assert any("quotation marks" in note for note in found.notes)


def test_labels_of_numbers_and_truth_values_are_named_in_order(tmp_path):
    stars = write_csv(
        tmp_path / "s.csv", [(text, (10, 9, 2)[n % 3]) for n, (text, _) in enumerate(reviews(60))], "text", "y"
    )
    assert read(stars).names == ("2", "9", "10")
    file = write_json_lines(
        tmp_path / "s.jsonl", [(text, n % 2 == 0) for n, (text, _) in enumerate(reviews(40))], "text", "spam"
    )
    assert read(file).names == ("false", "true")
    halves = [(text, (1.5, 2.0, 4.5)[n % 3]) for n, (text, _) in enumerate(reviews(60))]
    assert read(write_json_lines(tmp_path / "h.jsonl", halves, "text", "rating")).names == ("1.5", "2", "4.5")


def test_spellings_are_merged_or_kept(tmp_path):
    spelt = ["Positive", "Positive", "positive ", "neg"]
    file = write_csv(tmp_path / "r.csv", [(t, spelt[n % 4]) for n, (t, _) in enumerate(reviews(40))], "text", "label")
    merged = read(file, merge_labels=True)
    assert merged.names == ("Positive", "neg")
    assert merged.train.labels.bincount().tolist() == [24, 8]
    assert "labels merged that differ by case or spaces: 'positive ' as 'Positive'" in merged.notes
    assert read(file, merge_labels=False).names == ("Positive", "neg", "positive ")


def test_spaces_around_every_label_are_no_part_of_it(tmp_path):
    file = tmp_path / "r.csv"
    file.write_text("text, label\n" + "".join(f"{text}, {label}\n" for text, label in reviews(20)))
    assert read(file).names == ("neg", "pos")


def test_rows_without_text_or_label_are_left_out_when_asked(tmp_path):
    rows = [*reviews(20), ("", "pos"), (" \t", "neg"), ("a text of nobody", "")]
    found = read(write_csv(tmp_path / "r.csv", rows, "text", "label"), skip_incomplete=True)
    assert pairs(found) == sorted(reviews(20))
    assert "examples left out: column 'text' has no text in 2 (row 22, row 23) of 23 examples" in found.notes
    assert "left out, without a label: 1 of 21 examples (row 22)" not in found.notes  # rows keep their numbers
    assert "left out, without a label: 1 of 21 examples (row 24)" in found.notes


def test_texts_alone_are_read_with_their_places(tmp_path):
    file = write_csv(tmp_path / "new.csv", [(text, n) for n, (text, _) in enumerate(reviews(3))], "text", "id")
    found = TextReader(path="x.csv").new_examples(file, BagOfWordsEncoder())
    assert list(found.inputs) == [text for text, _ in reviews(3)]
    assert found.names == ["new.csv row 2", "new.csv row 3", "new.csv row 4"]
    lines = write_json_lines(tmp_path / "new.jsonl", [(text,) for text, _ in reviews(3)], "anything")
    found = TextReader(path="x.csv", text_column="anything").new_examples(lines, BagOfWordsEncoder())
    assert found.names == ["new.jsonl line 1", "new.jsonl line 2", "new.jsonl line 3"]


def test_arguments_out_of_their_range_are_named_together(tmp_path):
    with pytest.raises(ValueError, match="delimiter") as caught:
        read(tmp_path, delimiter="::", encoding="utf-9", test_fraction=1.5, minimum_label_examples=0)
    assert str(caught.value).splitlines() == [
        "`delimiter` must be one character (a tab: \"\\t\"), got '::'",
        "`encoding` must be a text encoding, for instance cp1252 or utf-16, got 'utf-9'",
        "`minimum_label_examples` must be >= 1, got 0",
        "`test_fraction` must be a number between 0 and 1, both excluded, got 1.5",
    ]
