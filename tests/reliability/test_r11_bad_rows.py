"""Files of labelled rows that cannot be used: for each the one message that names file, row and the setting to type."""

from __future__ import annotations

import pytest

from labelembed.errors import DataError
from labelembed.lab.data import TextReader
from labelembed.lab.data.files.csv import MAXIMUM_CELL
from tests.made_cli import call
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines, write_saved

ROWS = reviews(40)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def labelled(label_of):
    return [(text, label_of(number)) for number, (text, _) in enumerate(ROWS)]


def gaps(place, *, every=9):
    """Returns the rows with nothing in one column of every ninth."""
    return [
        tuple("" if column == place and number % every == 0 else value for column, value in enumerate(row))
        for number, row in enumerate(ROWS)
    ]


def refusal(tmp_path, name, **options):
    with pytest.raises(DataError) as caught:
        TextReader(path=str(tmp_path / name), **options).read()
    said = str(caught.value)
    assert len(said.splitlines()) <= 10
    assert said.startswith(f"{tmp_path}/{name}")
    return said.replace(f"{tmp_path}/", "")


def csv(rows, *heading, **how):
    return lambda file: write_csv(file, rows, *(heading or ("text", "label")), **how)


def content(value):
    return lambda file: file.write_bytes(value if isinstance(value, bytes) else value.encode())


LINES = "".join(f"{text},{label}\n" for text, label in ROWS)


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        pytest.param(
            csv(labelled(lambda n: ["Pos", "pos", "pos", "neg", "neg "][n % 5])),
            {},
            "f.csv: column 'label' has labels that differ by case or spaces only: "
            "'pos' (16 examples) and 'Pos' (8 examples); 'neg' (8 examples) and 'neg ' (8 examples)\n"
            "  --set data.merge_labels=true makes them one label, --set data.merge_labels=false keeps them apart",
            id="labels that differ by case or spaces",
        ),
        pytest.param(
            csv([(n * 1.5, label) for n, (_, label) in enumerate(ROWS)]),
            {},
            "f.csv: column 'text' holds numbers in 40 of 40 examples; name the column of the texts with --set "
            "data.text_column=...; there are: text, label",
            id="a text column of numbers",
        ),
        pytest.param(
            csv(gaps(0)),
            {},
            "f.csv: column 'text' has no text in 5 (row 2, row 11, row 20, row 29, row 38) of 40 examples; leave those "
            "out with --set data.skip_incomplete=true",
            id="missing texts",
        ),
        pytest.param(
            csv(gaps(1, every=4)),
            {},
            "f.csv: column 'label' has no label in 10 of 40 examples (row 2, row 6, row 10, row 14, row 18 and 5 "
            "more); leave them out with --set data.skip_incomplete=true",
            id="missing labels",
        ),
        pytest.param(
            csv(labelled(lambda n: "pos")),
            {},
            "f.csv: column 'label' has one label only, pos; there is nothing to tell apart",
            id="one class",
        ),
        pytest.param(
            csv([*ROWS, ("x" * (MAXIMUM_CELL + 1), "pos")]),
            {},
            "f.csv: row 42, which begins in line 42, has a cell of more than 2,000,000 characters; cut it, or "
            "close the "
            "quotation mark that stands open in that row",
            id="a cell too large",
        ),
        pytest.param(
            content('text,label\n"never closed,pos\n' + LINES),
            {},
            "f.csv: row 2, which begins in line 2, has a quotation mark that is never closed",
            id="an open quotation mark",
        ),
        pytest.param(
            content('text,label\na b,pos\n"closed" too early,pos\n'),
            {},
            "f.csv: row 3, which begins in line 3, has letters after a closing quotation mark; write a quotation mark "
            "inside a text twice",
            id="a quotation mark inside a text",
        ),
        pytest.param(
            csv(ROWS, delimiter=";"),
            {"delimiter": "|"},
            "f.csv: has one column only, 'text;label', when cut at '|'; cut at ';' it has 2: --set "
            "data.delimiter='\";\"'",
            id="a wrong delimiter",
        ),
        pytest.param(
            csv([*ROWS[:5], (*ROWS[5], "more")]),
            {},
            "f.csv: row 7 has 3 cells when cut at ',', the heading has 2 cells; put texts that hold a ',' in quotation "
            "marks, or name another delimiter with --set data.delimiter=...",
            id="a row too long",
        ),
        pytest.param(
            csv([(f"{text} größer", label) for text, label in ROWS], encoding="latin-1"),
            {},
            "f.csv: line 2 is not UTF-8 (byte 0xf6), and so are 39 more lines; name the file's encoding: --set "
            "data.encoding=cp1252 reads it as Windows writes western European",
            id="another encoding",
        ),
        pytest.param(
            content("text,label\nschön,pos\n".encode() + LINES.encode() + "häßlich,neg\n".encode("latin-1")),
            {},
            "f.csv: mixes encodings: 1 line is not UTF-8 (line 43: byte 0xe4), 1 line is (line 2); bring the file "
            "to one "
            "encoding first; --set data.encoding=cp1252 reads it as Windows writes western European, with wrong "
            "letters "
            "in line 2",
            id="mixed encodings",
        ),
        pytest.param(
            content("text,label\nschön,pos\n".encode("utf-16-le")),
            {},
            "f.csv: looks like UTF-16; say so with --set data.encoding=utf-16-le",
            id="UTF-16 without a mark",
        ),
        pytest.param(
            csv([(f"{text} größer", label) for text, label in ROWS], encoding="latin-1"),
            {"encoding": "utf-8"},
            "f.csv: line 2 is not written in 'utf-8' (byte 0xf6); name the file's own: --set data.encoding=...",
            id="a wrong encoding given",
        ),
        pytest.param(content(" \n\n"), {}, "f.csv: is empty", id="an empty file"),
        pytest.param(content("text,label\n"), {}, "f.csv: has a heading and no row: text, label", id="a heading alone"),
        pytest.param(
            csv([(text, text, label) for text, label in ROWS], "text", "text", "label"),
            {},
            "f.csv: its heading has the column 'text' more than once; give each a name of its own",
            id="a column twice",
        ),
        pytest.param(
            csv(ROWS),
            {"text_column": "txet"},
            "f.csv: `text_column`: no column 'txet' (did you mean 'text'?); there are: text, label",
            id="a missing column",
        ),
        pytest.param(
            csv(ROWS),
            {"label_column": "LABEL "},
            "f.csv: `label_column`: no column 'LABEL ' (did you mean 'label'?); there are: text, label",
            id="a column in other letters",
        ),
        pytest.param(
            csv(ROWS),
            {"text_column": "label", "label_column": "label"},
            "f.csv: column 'label' cannot hold both the texts and the labels",
            id="one column for both",
        ),
        pytest.param(
            csv(labelled(lambda n: n)),
            {},
            "f.csv: column 'label' has as many values as examples (40): it is probably a number or a text of each, "
            "not a "
            "label; name another with --set data.label_column=...",
            id="labels that number the rows",
        ),
        pytest.param(
            csv(labelled(lambda n: n % 30)),
            {},
            "f.csv: column 'label' has 30 values in 40 examples; labels must repeat, so name another with --set "
            "data.label_column=...",
            id="labels that hardly repeat",
        ),
        pytest.param(
            csv([(text, n % 25 / 7 + 0.01) for n, (text, _) in enumerate(ROWS * 3)]),
            {"label_column": "label"},
            "f.csv: column 'label' holds 25 numbers with fractions (0.01, 0.153, 0.296, "
            "...): measurements, not labels; name another with --set data.label_column=...",
            id="labels that are measurements",
        ),
        pytest.param(
            csv([(t, f"{t} too", label, n % 3, n) for n, (t, label) in enumerate(ROWS)], "a", "b", "c", "d", "e"),
            {},
            "f.csv: which column holds the texts and which the labels is unclear; name it: --set data.text_column=NAME "
            "--set data.label_column=NAME\n  c (2 values: neg, pos)\n  d (3 values: 0, 1, 2)\n  a (texts of 10 words)\n"
            "  b (texts of 11 words)\n  e (40 different numbers)\n"
            'Or join columns of texts: --set data.text_column=\'["a", "b"]\'',
            id="columns that cannot be told",
        ),
        pytest.param(
            lambda file: write_csv(file, ROWS),
            {},
            "f.csv: its first row looks like no heading, for 'pos' stands below it too; name the columns with --set "
            "data.columns='[NAME, NAME, ...]', or name that of the labels with --set data.label_column='pos'",
            id="no heading",
        ),
        pytest.param(
            csv([(text,) for text, _ in ROWS], "text"),
            {},
            "f.csv: which column holds the labels is unclear; name it: --set data.label_column=NAME\n  text (texts "
            "of 10 "
            "words)\nIt has one column only: where its cells are cut at something else, --set data.delimiter=...",
            id="one column",
        ),
        pytest.param(
            csv([(*row, "train" if n else "spare") for n, row in enumerate(ROWS)], "text", "label", "part"),
            {"split_column": "part"},
            "f.csv: row 2 has 'spare' in column 'part'; expected train, training, test, testing, val, valid, "
            "validation, "
            "dev",
            id="a part that is none",
        ),
    ],
)
def test_csv_files_are_refused(tmp_path, write, options, message):
    write(tmp_path / "f.csv")
    assert refusal(tmp_path, "f.csv", **options) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"text": "a", "label": "x"}\n\n["a", "x"]\n',
            "f.jsonl: line 3 is a list; expected an object, {column: value, ...}",
        ),
        (
            '{"text": "a", "label": "x"}\n{"text": \n',
            "f.jsonl: line 2 is no JSON (Expecting value: line 1 column 10 (char 9))",
        ),
        ("\n", "f.jsonl: is empty"),
        ("[" * 100_000, "f.jsonl: line 1 is no JSON (maximum recursion depth exceeded"),
    ],
)
def test_json_lines_are_refused(tmp_path, text, message):
    (tmp_path / "f.jsonl").write_text(text)
    assert refusal(tmp_path, "f.jsonl").startswith(message)


def test_texts_that_are_numbers_or_missing_are_counted(tmp_path):
    rows = [(text if n % 9 else (n if n % 2 else None), label) for n, (text, label) in enumerate(ROWS)]
    write_json_lines(tmp_path / "f.jsonl", rows, "text", "label")
    assert refusal(tmp_path, "f.jsonl") == (
        "f.jsonl: column 'text' has no text in 3 (line 1, line 19, line 37) and a number in 2 (line 10, line 28) of 40 "
        "examples; leave those out with --set data.skip_incomplete=true"
    )


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_truncated_parquet_is_refused(tmp_path, kept):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    file = write_columns(tmp_path / "f.parquet", {"text": [t for t, _ in ROWS], "label": [label for _, label in ROWS]})
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    assert refusal(tmp_path, "f.parquet").startswith("f.parquet: is no parquet file, cut off or damaged (Parquet magic")


def test_damaged_saved_data_sets_are_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="saved data sets need pyarrow")
    saved = write_saved(tmp_path / "f", {"text": [t for t, _ in ROWS], "label": [label for _, label in ROWS]})
    (arrow,) = saved.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:300])
    assert refusal(tmp_path, "f").startswith(f"f/{arrow.name}: is no arrow stream, cut off or damaged (")
    arrow.unlink()
    assert refusal(tmp_path, "f") == f"f/{arrow.name}: does not exist; expected an arrow file, which state.json lists"
    (saved / "state.json").write_text('{"_data_files": []}')
    assert refusal(tmp_path, "f").startswith("f/state.json: damaged, it does not list the arrow files")


def test_folders_without_training_rows_or_with_two_files_for_them_are_refused(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "readme.md").write_text("nothing")
    assert refusal(tmp_path, "f") == (
        "f: has no training set; expected train.csv (.tsv, .jsonl, .parquet) with test.csv and dev.csv if there are "
        "such, one file alone, or a saved data set; found readme.md"
    )
    write_csv(folder / "train.csv", ROWS, "text", "label")
    write_json_lines(folder / "train.jsonl", ROWS, "text", "label")
    assert refusal(tmp_path, "f") == "f: train.csv and train.jsonl are for the same part; keep one of them"
    (folder / "train.jsonl").unlink()
    write_csv(folder / "test.csv", [*ROWS[:5], ("a b c", "odd")], "text", "label")
    assert refusal(tmp_path, "f") == (
        "f: column 'label' has labels in the test set that no training example has: odd; the training set has neg, pos"
    )


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("nothing.csv", [], "nothing.csv: does not exist; expected a .csv, .tsv, .jsonl, .json or .parquet file"),
        (
            "book.xlsx",
            [],
            "book.xlsx: unknown kind of file '.xlsx'; expected a .csv, .tsv, .jsonl, .json or .parquet file",
        ),
        ("f.csv", ["--set", "data.encoding=utf-9"], "data.encoding: must be a text encoding, for instance cp1252"),
        ("f.csv", ["--set", "data.txt_column=a"], "data.txt_column: unknown key (did you mean "),
        ("f.csv", ["--set", "data.merge_labels=perhaps"], "data.merge_labels: must be "),
    ],
)
def test_the_command_line_says_it_in_one_message_and_exits_2(tmp_path, name, words, message):
    write_csv(tmp_path / "f.csv", ROWS, "text", "label")
    (tmp_path / "book.xlsx").write_text("x")
    called = call("check", "text-bag", "--data", name, *words)
    assert called.code == 2
    assert message in called.err
    assert called.out == ""
    assert len(called.err.splitlines()) <= 10
