"""CSV: what the standard library writes is read back cell by cell, with the number of every row."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labelembed.errors import DataError
from labelembed.lab.data.table_files import found_delimiter, read_csv
from labelembed.lab.data.table_files import Reading, read_file

FILE = Path("f.csv")
CELLS = st.text(st.sampled_from("ab\"',;\t|\n\r é好 NA#\\1.0\u2028"), max_size=6)


def written(rows, **how):
    text = io.StringIO(newline="")
    csv.writer(text, **how).writerows(rows)
    return text.getvalue()


def cells(table):
    return [list(row) for row in zip(*map(table.values, table.names), strict=True)]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(*[CELLS] * width), min_size=1, max_size=5)),
    delimiter=st.sampled_from([",", ";", "\t", "|", " ", "^", "§"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_is_read_back(rows, delimiter, end):
    # Between tabs a line break in quotation marks can look as two rows with marks that are letters.
    assume(delimiter != "\t" or not any(mark in cell for row in rows for cell in row for mark in "\r\n"))
    heading = [f"column {place}" for place in range(len(rows[0]))]
    text = written([heading, *rows], delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_csv(text, FILE, delimiter=delimiter)
    assert table.names == heading
    assert cells(table) == [list(row) for row in rows]
    assert [table.place(row) for row in range(len(table))] == [f"row {number}" for number in range(2, len(rows) + 2)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_empty_lines_are_no_rows_and_are_counted(end):
    table = read_csv(end.join(["", "a,b", "", "1,x", "", "", '"2\n3",y', ""]), FILE)
    assert cells(table) == [["1", "x"], ["2\n3", "y"]]
    assert [table.place(row) for row in range(2)] == ["row 4", "row 7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "row 3 has 1 cell when cut at ',', the heading has 2 cells"),
        ("a,b\n1,2\n\n3,4,5\n", "row 4 has 3 cells when cut at ',', the heading has 2 cells"),
        ('a,b\n"1\n2",3\n4\n', "row 3 has 1 cell"),
        ('a,b\n1,2\n"3,4\n5,6\n', "row 3, which begins in line 3, has a quotation mark that is never closed"),
        ('a,b\n"1\n2",2\n"3" x,4\n', "row 3, which begins in line 4, has letters after a closing quotation mark"),
        ("a,,\n1,2,3\n", "its heading has more than one column without a name"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_number(text, message):
    with pytest.raises(DataError) as refused:
        read_csv(text, FILE, delimiter=",")
    assert str(refused.value).startswith(f"f.csv: {message}")


def test_the_delimiter_is_found_in_a_file_that_is_larger_than_what_is_looked_at():
    rows = [("some text, with; signs" * 2_000, "x")] * 60
    for delimiter in ",;\t|":
        assert found_delimiter(written([("text", "label"), *rows], delimiter=delimiter)) == delimiter


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na b,x\n".encode("utf-16-le"), "looks like UTF-16; say so with --set data.encoding=utf-16-le"),
        (b"text,label\na\0b,x\n", "line 2 has a zero byte, which no text has"),
    ],
)
def test_zero_bytes_are_no_text(tmp_path, content, message):
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_file(tmp_path / "f.csv", Reading())
    assert str(refused.value) == f"{tmp_path / 'f.csv'}: {message}"
