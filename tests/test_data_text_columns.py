"""Texts of several columns, title and body or two sentences: joined to one, from every kind of file."""

from __future__ import annotations

import json
import shlex

import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import BagOfWordsEncoder, TextReader
from labelembed.lab.data.columns import as_setting
from labelembed.lab.training.plain_yaml import plain_values
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines, write_saved

BOTH = ["title", "body"]
ROWS = [(f"number {n}", text, label) for n, (text, label) in enumerate(reviews(40))]
JOINED = [f"{title}\n{body}" for title, body, _ in ROWS]


def read(path, columns=BOTH, **options):
    return TextReader(path=str(path), text_column=columns, **options).read()


def every_text(rows):
    return [text for part in rows.parts.values() for text in part.inputs]


def texts_of(rows):
    return sorted(every_text(rows))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "saved"])
def test_every_kind_of_file_gives_the_joined_texts(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate((*BOTH, "label"))}
    if kind in ("csv", "tsv"):
        write_csv(path, ROWS, *BOTH, "label", delimiter="\t" if kind == "tsv" else ",")
    elif kind == "jsonl":
        write_json_lines(path, ROWS, *BOTH, "label")
    elif kind == "json":
        path.write_text(json.dumps([dict(zip((*BOTH, "label"), row, strict=True)) for row in ROWS]))
    else:
        pytest.importorskip("pyarrow", reason="parquet and saved data sets need pyarrow")
        write_columns(path, columns) if kind == "parquet" else write_saved(path, columns, files=3)
    rows = read(path)
    assert texts_of(rows) == sorted(JOINED)
    assert rows.train.inputs.column is None
    assert sorted(
        zip(every_text(rows), torch.cat([part.labels for part in rows.parts.values()]).tolist(), strict=True)
    ) == sorted((joined, int(label == "pos")) for joined, (_, _, label) in zip(JOINED, ROWS, strict=True))
    if kind != "saved":
        found = TextReader(path="x.csv", text_column=BOTH).new_examples(path, BagOfWordsEncoder())
        assert list(found.inputs) == JOINED
        assert len(found.names) == 40


def test_order_is_that_of_the_list(tmp_path):
    file = write_csv(tmp_path / "r.csv", ROWS, *BOTH, "label")
    assert texts_of(read(file, ["body", "title"])) == sorted(f"{body}\n{title}" for title, body, _ in ROWS)


def test_what_one_of_the_columns_lacks_is_empty(tmp_path):
    lacking = [("", *ROWS[0][1:]), (ROWS[1][0], " \t", ROWS[1][2]), *ROWS[2:]]
    wanted = sorted([f"\n{ROWS[0][1]}", f"{ROWS[1][0]}\n", *JOINED[2:]])
    assert texts_of(read(write_csv(tmp_path / "r.csv", lacking, *BOTH, "label"))) == wanted
    objects = [dict(zip((*BOTH, "label"), row, strict=True)) for row in lacking]
    del objects[0]["title"]
    objects[1]["body"] = None
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in objects))
    assert texts_of(read(tmp_path / "r.jsonl")) == wanted


def test_rows_with_nothing_in_any_column_are_refused_or_left_out(tmp_path):
    file = write_csv(tmp_path / "r.csv", [*ROWS, ("", " ", "pos"), ("", "", "neg"), ("a", "", "neg")], *BOTH, "label")
    said = "columns 'title' and 'body' have no text in 2 (row 42, row 43) of 43 examples"
    with pytest.raises(DataError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: {said}; leave those out with --set data.skip_incomplete=true"
    rows = read(file, skip_incomplete=True)
    assert texts_of(rows) == sorted([*JOINED, "a\n"])
    assert f"examples left out: {said}" in rows.notes


def test_parts_of_their_own_each_have_the_columns(tmp_path):
    for name, begin, end in (("train", 0, 24), ("dev", 24, 32), ("test", 32, 40)):
        write_csv(tmp_path / f"{name}.csv", ROWS[begin:end], *BOTH, "label")
    rows = read(tmp_path)
    assert [list(part.inputs) for part in rows.parts.values()] == [JOINED[:24], JOINED[24:32], JOINED[32:]]
    write_csv(tmp_path / "test.csv", [(title, label) for title, _, label in ROWS[32:]], "title", "label")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'test.csv'}: `text_column`: no column 'body'; there are: title, label"


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["title", "bdoy"], {}, "`text_column`: no column 'bdoy' (did you mean 'body'?){there}"),
        (["Title", "body"], {}, "`text_column`: no column 'Title' (did you mean 'title'?){there}"),
        (["body", "label"], {"label_column": "label"}, "column 'label' cannot hold both the texts and the labels"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_are_named(tmp_path, columns, options, message):
    message = message.format(there="; there are: title, body, label")
    file = write_csv(tmp_path / "r.csv", ROWS, *BOTH, "label")
    with pytest.raises(DataError) as caught:
        read(file, columns, **options)
    assert str(caught.value) == f"{file}: {message}"
    if not options:
        with pytest.raises(DataError) as caught:
            TextReader(path="x.csv", text_column=columns).new_examples(file, BagOfWordsEncoder())
        assert str(caught.value) == f"{file}: {message}"


def test_columns_that_hold_no_texts_are_named(tmp_path):
    file = write_csv(
        tmp_path / "r.csv", [(n * 7, body, label) for n, (_, body, label) in enumerate(ROWS)], "a", "b", "c"
    )
    with pytest.raises(DataError) as caught:
        read(file, ["b", "a"])
    assert str(caught.value) == (
        f"{file}: column 'a' holds numbers in 40 of 40 examples; name the column of the texts with "
        "--set data.text_column=...; there are: a, b, c"
    )
    nested = [{"body": body, "title": [title], "label": label} for title, body, label in ROWS]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in nested))
    with pytest.raises(DataError) as caught:
        read(tmp_path / "r.jsonl")
    assert str(caught.value) == (
        f"{tmp_path / 'r.jsonl'}: `text_column`: column 'title' holds lists; texts or numbers are read"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["body", "title", "body"], "`text_column` must name each column once, got ['body', 'title', 'body']"),
        ([], "`text_column` must name one column or more, got []"),
    ],
)
def test_lists_that_name_a_column_twice_or_none_are_refused(tmp_path, columns, message):
    file = write_csv(tmp_path / "r.csv", ROWS, *BOTH, "label")
    with pytest.raises(ValueError, match="text_column") as caught:
        read(file, columns)
    assert str(caught.value) == message


def test_where_it_is_unclear_the_message_types_the_list_out(tmp_path):
    pairs = [(f"one {text}", f"the other {text}", label) for text, label in reviews(40)]
    file = write_csv(tmp_path / "r.csv", pairs, "premise", "hypothesis", "label")
    with pytest.raises(DataError) as caught:
        read(file, None)
    first, *_, last = str(caught.value).splitlines()
    assert first == f"{file}: which column holds the texts is unclear; name it: --set data.text_column=NAME"
    assert last == 'Or join columns of texts: --set data.text_column=\'["premise", "hypothesis"]\''
    columns = plain_values(shlex.split(last.rpartition(": ")[2])[1].partition("=")[2])
    assert texts_of(read(file, columns)) == sorted("\n".join(pair[:2]) for pair in pairs)


@pytest.mark.parametrize(
    ("heading", "note"),
    [
        (BOTH, "'title' holds texts too; --set data.text_column='[\"title\", \"body\"]' joins them"),
        (
            ("sentence1", "sentence2"),
            "'sentence2' holds texts too; --set data.text_column='[\"sentence1\", \"sentence2\"]' joins them",
        ),
    ],
)
def test_columns_of_texts_that_were_not_taken_are_told(tmp_path, heading, note):
    file = write_csv(tmp_path / "r.csv", ROWS, *heading, "label")
    assert note in read(file, None).notes
    for chosen in (list(heading), heading[0]):
        assert not any("texts too" in said for said in read(file, chosen).notes)
    alone = write_csv(tmp_path / "alone.csv", [row[1:] for row in ROWS], "body", "label")
    assert not any("texts too" in said for said in read(alone, None).notes)


@pytest.mark.parametrize(
    "names",
    [["title", "body"], ["product title", "текст"], ["a, b", "c: d"], ["null", "Yes"], ["it's", 'a "b"'], ["1", "x]y"]],
)
def test_a_list_that_is_typed_as_told_names_the_columns(names):
    dash, setting = shlex.split(as_setting(names))
    key, _, value = setting.partition("=")
    assert (dash, key) == ("--set", "data.text_column")
    assert plain_values(value) == names
