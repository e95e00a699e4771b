"""R18: a run evaluates other data under the label that each example has by name, whatever the order and however few."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import DATA
from labelembed.lab.recipes.schema import parse_recipe
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_run import SavedRun
from tests.made_data import made_colours, made_images, picture_bytes, write_idx_folder, write_parquet
from tests.made_pictures import python2_pickle, write_classes
from tests.made_texts import reviews, write_csv

TRAINED = ("neg", "other", "pos")
RENAMED = {"neg": "bad", "other": "so-so", "pos": "good"}
#: Labels of the files to evaluate, in files that number them in another order than those of the training.
MEASURED = {"two labels": ["pos", "neg", "pos"] * 2, "one label": ["pos"] * 5, "another label": ["pos", "new"] * 3}
NUMBERED = ("pos", "new", "other", "neg")
DIGITS = {"neg": "3", "other": "5", "pos": "7", "new": "9"}


# Each writes a data set with these labels, numbered in this order where the files number them.


def csv(folder, labels, order):
    rows = [(text, label) for (text, _), label in zip(reviews(len(labels)), labels, strict=True)]
    return write_csv(folder / "t.csv", rows, "text", "label")


def table(folder, labels, order):
    rows = [(place % 5, place % 7, label) for place, label in enumerate(labels)]
    return write_csv(folder / "t.csv", rows, "width", "length", "label")


def class_folders(folder, labels, order):
    return write_classes(folder / "pictures", Counter(labels), size=8)


def picture_parquet(folder, labels, order):
    pictures = [picture_bytes(picture) for picture in made_colours(len(labels), size=8)]
    numbers = [order.index(label) for label in labels]
    return write_parquet(folder / "t.parquet", img=pictures, label=numbers, class_names={"label": list(order)})


def arrays(folder, labels, order):
    inputs = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    np.savez(folder / "t.npz", inputs=inputs, labels=[order.index(label) for label in labels], names=order)
    return folder / "t.npz"


def idx(folder, labels, order):
    images = made_images(len(labels))
    values = np.array([int(DIGITS[label]) for label in labels], np.uint8)
    made = {"train_images": images, "train_labels": values, "test_images": images, "test_labels": values}
    return write_idx_folder(folder / "idx", **made)


def cifar(folder, labels, order):
    names = [*order, *(f"class {place}" for place in range(len(order), 10))]
    pictures = made_colours(len(labels), size=32).reshape(len(labels), -1)
    batch = {b"data": pictures, b"labels": [order.index(label) for label in labels]}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(python2_pickle(batch))
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": [name.encode() for name in names]}))
    return folder


CASES = {
    "texts, CSV": ("texts", csv),
    "table": ("table", table),
    "images, class folders": ("images", class_folders),
    "images, parquet": ("images", picture_parquet),
    "vectors, arrays": ("vectors", arrays),
    "mnist": ("mnist", idx),
    "cifar": ("cifar", cifar),
}
assert {reader for reader, _ in CASES.values()} == set(DATA) - {"digits"}


@pytest.mark.parametrize(
    ("case", "renamed"),
    [*((case, False) for case in CASES), ("texts, CSV", True), ("images, class folders", True), ("mnist", True)],
)
def test_labels_are_matched_by_name(case, renamed, tmp_path, figure):
    reader, write = CASES[case]
    if "parquet" in case:
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
    folders = {name: tmp_path / name for name in ("trained", *MEASURED)}
    for folder in folders.values():
        folder.mkdir()
    data = {"name": reader, "path": str(write(folders["trained"], list(TRAINED) * 8, TRAINED))}
    spelt = {label: DIGITS[label] if reader == "mnist" else label for label in NUMBERED}
    data |= {"names": {spelt[label]: name for label, name in RENAMED.items()}} if renamed else {}
    model = {"name": "bag_of_words" if reader == "texts" else "mlp"}
    settings = {"model": model, "objective": "one_hot", "epochs": 1, "batch_size": 6}
    recipe = parse_recipe({"data": data | {"validation": {"examples": 3}}} | settings, source="made")
    run_recipe(recipe, tmp_path / "run", options=RunOptions(device="cpu"))
    run = SavedRun.load(tmp_path / "run")
    name_of = RENAMED if renamed else spelt
    for kind, labels in MEASURED.items():
        path = str(write(folders[kind], labels, NUMBERED))
        if "new" in labels:
            with pytest.raises(DataError, match=f"does not know: {spelt['new']} "):
                run.read_data(path)
        else:
            read = run.read_data(path)
            found = Counter(run.names[label] for split in read.splits.values() for label in split.labels.tolist())
            if reader not in ("mnist", "cifar"):  # the files of others name no parts
                assert {name: len(split) for name, split in read.splits.items()} == {"train": 0, "test": len(labels)}
            times = found.total() // len(labels)
            assert found == Counter([name_of[label] for label in labels] * times)
        figure.count("files to evaluate matched by name or refused", 1, 1)
