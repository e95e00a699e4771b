"""Data that a finished run evaluates: whole where they name no parts, numbered by the run's labels, in every reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import DATA, Unchanged
from labelembed.lab.data.measured import renumbered
from labelembed.lab.data.preparation import prepare_to_evaluate
from tests.made_data import write_image, write_parquet
from tests.made_pictures import write_classes
from tests.made_texts import reviews, write_columns, write_csv, write_json_lines

RUN = ("neg", "other", "pos")
SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", str(tmp_path / "cache"))


def texts(tmp_path, kind, labels):
    rows = [(text, label) for (text, _), label in zip(reviews(len(labels)), labels, strict=True)]
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
        return write_columns(tmp_path / "t.parquet", {"text": [r[0] for r in rows], "label": [r[1] for r in rows]})
    if kind == "jsonl":
        return write_json_lines(tmp_path / "t.jsonl", rows, "text", "label")
    return write_csv(tmp_path / f"t.{kind}", rows, "text", "label", delimiter="\t" if kind == "tsv" else ",")


def pictures(tmp_path, labels):
    counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
    return write_classes(tmp_path / "pictures", counts, size=8)


def picture_list(tmp_path, labels):
    for number in range(len(labels)):
        write_image(tmp_path / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
    return write_csv(tmp_path / "list.csv", [(f"{n}.png", label) for n, label in enumerate(labels)], "path", "label")


def vectors(tmp_path, labels):
    pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    inputs = np.arange(3 * len(labels), dtype=np.float32).reshape(-1, 3).tolist()
    write_parquet(tmp_path / "vectors.parquet", vector=inputs, label=list(labels))
    return tmp_path / "vectors.parquet"


def arrays(tmp_path, labels):
    names = sorted(set(labels))
    inputs = np.arange(3 * len(labels), dtype=np.float32).reshape(-1, 3)
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=[names.index(one) for one in labels], names=names)
    return tmp_path / "a.npz"


def fitted(encoder, examples):
    encoder.fit_transform(examples)
    return encoder


MADE = {
    ("texts", "csv"): lambda at, labels: texts(at, "csv", labels),
    ("texts", "tsv"): lambda at, labels: texts(at, "tsv", labels),
    ("texts", "jsonl"): lambda at, labels: texts(at, "jsonl", labels),
    ("texts", "parquet"): lambda at, labels: texts(at, "parquet", labels),
    ("table", "csv"): lambda at, labels: texts(at, "csv", labels),
    ("images", "folder"): pictures,
    ("images", "list"): picture_list,
    ("parquet", "file"): vectors,
    ("vectors", "parquet"): vectors,
    ("vectors", "npz"): arrays,
}


@pytest.mark.parametrize(("reader", "kind"), list(MADE))
@pytest.mark.parametrize("labels", [("pos",) * 5, ("pos", "neg", "neg", "pos", "neg", "neg")], ids=["one", "two"])
def test_every_example_is_measured_under_the_runs_labels(tmp_path, reader, kind, labels):
    more = {"image_size": 8} if reader == "images" else {}
    if reader in ("texts", "table"):
        more["label_column"] = "label"
    path = MADE[reader, kind](tmp_path, labels)
    raw = DATA[reader](path=str(path), **more).read(to_evaluate=True)
    found = renumbered(raw, RUN)
    assert (found.test, found.validation) == (None, None)
    wanted = sorted(RUN.index(label) for label in labels)
    assert sorted(found.train.labels.tolist()) == wanted
    data = prepare_to_evaluate(found, fitted(raw.new_encoder(), found.train.inputs))
    assert (len(data.train), len(data.test), data.names) == (0, len(labels), RUN)
    with pytest.raises(DataError, match=rf"does not know: pos \({labels.count('pos')} examples\)"):
        renumbered(raw, ("neg", "other"))


def test_labels_without_names_keep_their_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.ones((4, 2), np.float32) * [[1], [2], [3], [4]], labels=[2, 0, 2, 1])
    raw = DATA["vectors"](path=str(tmp_path / "a.npz")).read(to_evaluate=True)
    assert renumbered(raw, RUN).train.labels.tolist() == [2, 0, 2, 1]
    with pytest.raises(DataError, match=r"does not know: 2 \(2 examples\); its 2 labels are neg, pos"):
        renumbered(raw, ("neg", "pos"))


def test_spellings_are_those_of_the_run_where_labels_are_merged(tmp_path):
    file = write_csv(tmp_path / "t.csv", [("a b", "POS "), ("c d", "neg"), ("e f", "Neg")], "text", "label")
    raw = DATA["texts"](path=str(file), label_column="label", text_column="text").read(to_evaluate=True)
    assert renumbered(raw, RUN, merge=True).train.labels.tolist() == [2, 0, 0]
    with pytest.raises(DataError, match=r"does not know: Neg \(1 example\), POS  \(1 example\)"):
        renumbered(raw, RUN, merge=None)


def test_grey_pictures_are_measured_by_a_run_of_coloured_ones(tmp_path):
    (tmp_path / "grey" / "neg").mkdir(parents=True)
    write_image(tmp_path / "grey" / "neg" / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    raw = DATA["images"](path=str(tmp_path / "grey"), image_size=8).read(to_evaluate=True)
    assert raw.train.inputs.shape == (1, 1, 8, 8)
    inputs = Unchanged(input_shape=SHAPE).transform(raw.train.inputs).inputs
    assert torch.equal(inputs, raw.train.inputs.expand(1, 3, 8, 8))


@pytest.mark.parametrize("values", [("test",) * 4, ("test", "dev", "test", "dev")])
def test_a_column_of_parts_without_training_rows_names_no_parts(tmp_path, values):
    rows = [(text, label, part) for (text, label), part in zip(reviews(4), values, strict=True)]
    file = write_csv(tmp_path / "t.csv", rows, "text", "label", "split")
    raw = DATA["texts"](path=str(file), text_column="text", label_column="label", split_column="split").read(
        to_evaluate=True
    )
    assert (len(raw.train), raw.validation, raw.test) == (4, None, None)


def test_parts_that_the_data_name_are_kept(tmp_path):
    for name, count in (("train", 10), ("dev", 4), ("test", 6)):
        write_csv(tmp_path / f"{name}.csv", reviews(count), "text", "label")
    raw = DATA["texts"](path=str(tmp_path)).read(to_evaluate=True)
    assert [len(part) for part in (raw.train, raw.validation, raw.test)] == [10, 4, 6]
