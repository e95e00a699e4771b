"""Tables: scikit-learn's numbers, learned from training rows only, kept as JSON; columns that are no use are named."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from labelembed.errors import DataError
from labelembed.lab.data import TableReader, prepare, table_encoder
from labelembed.lab.data.table_encoder import COLUMNS_FILE, TableEncoder, kind_of
from labelembed.lab.data.table_files import Reading, read_file
from tests.made_texts import write_columns, write_csv, write_json_lines

HEADING = ("age", "city", "code", "class")


def made_rows(count, *, seed=0):
    """Returns rows of (age, city, code, class): a number with gaps, categories some of them rare, and a label."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        city = draw.choice(["Bonn", "Bonn", "Ulm", "Ulm", "Kiel", "Jena", f"village {draw.randint(0, 5)}"])
        age = "" if draw.random() < 0.2 else draw.randint(20, 70) + 0.5
        rows.append((age, city if draw.random() < 0.9 else "", draw.randint(1, 3), ("no", "yes")[number % 2]))
    return rows


def made_table(folder, rows, *heading):
    return read_file(write_csv(folder / "t.csv", rows, *(heading or HEADING)), reading=Reading())


def fitted_on(table, rows, *, asked):
    encoder = TableEncoder(asked=asked)
    encoder.fit_transform(table.select(rows))
    return encoder


def test_inputs_are_those_of_scikit_learn_and_come_back_from_a_run_folder(tmp_path):
    table = made_table(tmp_path, made_rows(120))
    encoder = fitted_on(table, range(80), asked={"code": True, "class": False})

    def matrix(rows):
        ages = [float(value) if value else np.nan for value in table.values("age")]
        texts = [[value or None for value in table.values(name)] for name in ("city", "code")]
        return np.array([[ages[row], texts[0][row], texts[1][row]] for row in rows], dtype=object)

    numbers = FunctionTransformer(lambda values: np.asarray(values, dtype=np.float64))
    fitted = ColumnTransformer([
        ("numbers", make_pipeline(numbers, SimpleImputer(strategy="median"), StandardScaler()), [0]),
        ("missing", make_pipeline(numbers, MissingIndicator(features="missing-only", error_on_new=False)), [0]),
        ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), [1, 2]),
    ]).fit(matrix(range(80)))  # fmt: skip
    (tmp_path / COLUMNS_FILE).write_bytes(encoder.files()[COLUMNS_FILE])
    again = TableEncoder.load(tmp_path)
    assert again.files() == encoder.files()
    for rows in (range(80), range(80, 120)):  # the second with villages that were not seen
        wanted = fitted.transform(matrix(rows)).astype(np.float32)
        for one in (encoder, again):
            np.testing.assert_array_equal(one.transform(table.select(rows)).inputs.numpy(), wanted)
    assert encoder.numeric[0].indicator


def test_the_most_frequent_categories_have_an_input(tmp_path, monkeypatch):
    monkeypatch.setattr(table_encoder, "MOST_CATEGORIES", 2)
    table = made_table(tmp_path, [(city,) for city in ["Ulm"] * 3 + ["Bonn"] * 2 + ["", "Jena", "Kiel"]], "city")
    encoder = fitted_on(table, range(8), asked={"city": True})
    assert encoder.transform(table.select([0, 3, 5, 7])).inputs.tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


KINDS = [
    ("x", ["1", "2.5", "", "-3e2", "NA"], "numeric", ""),
    ("x", [1, 2, None, 3.5], "numeric", ""),
    ("x", [True, False, None], "categorical", ""),
    ("x", ["a", "b", "a"], "categorical", ""),
    ("x", [str(n) for n in range(30)], None, "counts the examples"),
    *(
        (name, [str(n * 7919 % 104729) for n in range(30)], None, "counts the examples")
        for name in ("customerId", "index", "", "Unnamed: 0")
    ),
    ("x", [str(n * 7919 % 104729) for n in range(30)], "numeric", ""),
    ("x", [f"a remark of several words {n}" for n in range(30)], None, "another value"),
    ("x", [f"{n},234.5 $" for n in range(1, 30)], None, "numbers that cannot be read, such as '1,234.5 $'"),
    *(
        ("x", [form.format(n % 9) for n in range(30)], None, "dates")
        for form in ("2024-01-1{}", "1{}.1.24", "1/{}/2024 12:30")
    ),
    ("x", [f"1.{n % 9}.2" for n in range(30)], "categorical", ""),  # a version
    ("x", ["", None, "NA"], None, "no value"),
    ("x", ["7", "7", ""], None, "one value only"),
    # mostly numbers: what is none is asked about, and not taken for thirty categories
    ("x", [*map(str, range(0, 300, 10)), "unknown"], "numeric", ""),
]


@pytest.mark.parametrize(("name", "values", "kind", "reason"), KINDS)
def test_columns_are_told_by_their_values(tmp_path, name, values, kind, reason):
    table = read_file(write_json_lines(tmp_path / "t.jsonl", [(value,) for value in values], name), reading=Reading())
    found, why = kind_of(table, name)
    assert (found, why[: len(reason)]) == (kind, reason)


def test_what_is_used_and_left_out_is_told(tmp_path):
    rows = [(n, age, city, "the same", "red", label) for n, (age, city, _, label) in enumerate(made_rows(100))]
    file = write_csv(tmp_path / "t.csv", rows, "nr", "age", "city", "day", "colour", "class")
    data = prepare(TableReader(path=str(file), leave_out=["colour"]).read(), validation=None)
    assert {
        "columns used: 1 of numbers, 1 of categories",
        "columns left out: nr (counts the examples), day (one value only), colour (as asked)",
    } <= set(data.notes)
    new = write_csv(tmp_path / "new.csv", [(1, "Rome"), (2, ""), (3, "Rome"), (4, "Ulm")], "age", "city")
    notes = TableReader(path="x.csv").new_examples(new, data.encoder).notes
    assert notes == [f"{new}: column 'city': values that are none of the categories learned in training: Rome"]


@pytest.mark.parametrize("train_examples", [None, 30])
def test_a_column_that_counts_the_examples_is_left_out_however_few_are_trained_on(tmp_path, train_examples):
    rows = [(1000 + n, (n * 7919) % 101, ("no", "yes")[n % 2]) for n in range(300)]
    raw = TableReader(path=str(write_csv(tmp_path / "t.csv", rows, "nr", "x", "class"))).read()
    data = prepare(raw, validation={"fraction": 0.25}, train_examples=train_examples)
    assert [column.name for column in data.encoder.numeric] == ["x"]


def test_typed_files_give_the_same_inputs(tmp_path):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    rows = made_rows(60)
    typed = [(age or None, city or None, code, label) for age, city, code, label in rows]
    files = [
        write_csv(tmp_path / "t.csv", rows, *HEADING),
        write_json_lines(tmp_path / "t.jsonl", typed, *HEADING),
        write_columns(tmp_path / "t.parquet", dict(zip(HEADING, map(list, zip(*typed, strict=True)), strict=True))),
    ]
    found = [prepare(TableReader(path=str(file)).read(), validation={"fraction": 0.2}) for file in files]
    assert len({data.fingerprint() for data in found}) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.clear(),
        lambda kept: kept["numeric"][0].update(deviation=0),
        lambda kept: kept["categorical"][0].update(categories=[1]),
    ],
)
def test_damaged_columns_are_refused(tmp_path, damage):
    kept = json.loads(fitted_on(made_table(tmp_path, made_rows(50)), range(50), asked={}).files()[COLUMNS_FILE])
    damage(kept)
    (tmp_path / COLUMNS_FILE).write_text(json.dumps(kept))
    with pytest.raises(DataError, match=r"columns\.json: damaged, "):
        TableEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("rows", "heading", "word"),
    [
        ([("Bonn",)], ["city"], "has no column 'age', which the training examples had"),
        ([*made_rows(3), ("old", "Ulm", 1, "no")], HEADING, "row 5: column 'age' holds numbers, but 'old' stands"),
        ([*made_rows(3), ("inf", "Ulm", 1, "no")], HEADING, "row 5: column 'age' holds numbers, but 'inf' stands"),
    ],
)
def test_new_rows_that_do_not_fit_are_refused(tmp_path, rows, heading, word):
    encoder = fitted_on(made_table(tmp_path, made_rows(50)), range(50), asked={"class": False})
    with pytest.raises(DataError, match=word):
        encoder.transform(made_table(tmp_path, rows, *heading))


def test_far_values_of_new_rows_stay_in_the_range_of_a_network(tmp_path):
    encoder = fitted_on(made_table(tmp_path, [(n * n,) for n in range(10)], "x"), range(9), asked={})
    far = encoder.transform(made_table(tmp_path, [("1e300",), ("-1e300",)], "x"))
    assert torch.equal(far.inputs, torch.tensor([[20.0], [-20.0]]))
    with pytest.raises(DataError, match="row 3: column 'x' holds numbers, but '1e300' stands"):  # no finite deviation
        fitted_on(made_table(tmp_path, [(1,), ("1e300",)], "x"), range(2), asked={})


def test_numbers_of_files_with_semicolons_may_have_commas(tmp_path):
    total, rate = ("1.234", "999", "-12.345.678,9"), ("1.204", "0.512", "2")
    rows = [(f"{n * 7 % 11},5", total[n % 3], rate[n % 3], f"a {n}, 1.234") for n in range(40)]
    table = read_file(
        write_csv(tmp_path / "t.csv", rows, "x", "total", "rate", "remark", delimiter=";"), reading=Reading()
    )
    assert table.values("x")[:3] == ["0.5", "7.5", "3.5"]
    assert table.values("total")[:3] == ["1234", "999", "-12345678.9"]
    assert table.values("rate")[:3] == ["1.204", "0.512", "2"]  # points begin fractions in this column
    assert table.values("remark")[0] == "a 0, 1.234"
    points = write_csv(tmp_path / "p.csv", [row[1:] for row in rows[:2]], "total", "rate", "remark", delimiter=";")
    assert read_file(points, reading=Reading()).values("total") == ["1.234", "999"]  # no comma says what a point is
