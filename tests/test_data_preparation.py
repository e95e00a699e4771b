"""What `prepare` checks, and the fingerprint and statistics of what it returns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import BagOfWordsEncoder, LabelledData, RawData, Split, TextReader, ValidationSplit, prepare
from tests.made_data import made_split
from tests.made_texts import write_csv


def made_raw(rows: int = 40, num_labels: int = 4, **changes) -> RawData:
    parts = {"train": made_split(rows, num_labels), "test": made_split(8, num_labels)}
    parts |= {part: changes.pop(part) for part in ("train", "validation", "test") if part in changes}
    values = {
        "parts": parts,
        "names": tuple(f"label {label}" for label in range(num_labels)),
        "input_range": (0.0, 400.0),
        "source": "made",
    }
    return RawData(**(values | changes))


def test_prepare_returns_every_split():
    data = prepare(made_raw(40), validation=ValidationSplit(first=8), batch_size=32)
    assert [(name, len(split)) for name, split in data.splits.items()] == [
        ("train", 32),
        ("validation", 8),
        ("test", 8),
    ]
    assert (data.num_labels, data.input_shape, data.input_range) == (4, (2,), (0.0, 400.0))


def test_prepare_train_examples_are_stratified_nested_and_leave_validation_alone():
    how = ValidationSplit(fraction=0.25)
    whole, small, smaller = (prepare(made_raw(400), validation=how, train_examples=rows) for rows in (None, 100, 40))
    assert torch.bincount(small.train.labels).tolist() == [25] * 4
    assert set(smaller.train.inputs[:, 0].tolist()) < set(small.train.inputs[:, 0].tolist())
    assert set(small.train.inputs[:, 0].tolist()) < set(whole.train.inputs[:, 0].tolist())
    assert torch.equal(smaller.validation.inputs, whole.validation.inputs)


def with_value(split: Split, row: int, value: float) -> Split:
    inputs = split.inputs.clone()
    inputs[row, 1] = value
    return Split(inputs, split.labels)


def with_label(split: Split, row: int, label: int) -> Split:
    labels = split.labels.clone()
    labels[row] = label
    return Split(split.inputs, labels)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        (
            {},
            {"batch_size": 41},
            "made: `batch_size` 41 is larger than the training set, which has 40 examples; take at most 40",
        ),
        (
            {},
            {"batch_size": 33, "validation": ValidationSplit(first=8)},
            "which has 32 examples after 8 were held out; take at most 32",
        ),
        ({}, {"train_examples": 41}, "made: `train_examples` is 41, but the training set has 40 examples"),
        (
            {},
            {"validation": ValidationSplit(first=40)},
            "validation: first = 40 of 40 training examples leaves nothing",
        ),
        ({"train": made_split(0)}, {}, "made: training set: is empty"),
        ({"test": made_split(0)}, {}, "made: test set: is empty"),
        ({"train": with_value(made_split(), 7, float("nan"))}, {}, "training set: row 7 has the value nan"),
        ({"test": with_value(made_split(), 2, float("-inf"))}, {}, "test set: row 2 has the value -inf"),
        ({"train": with_label(made_split(), 5, 4)}, {}, "training set: row 5 has the label 4; expected 0 to 3"),
        ({"test": with_label(made_split(), 6, -1)}, {}, "test set: row 6 has the label -1; expected 0 to 3"),
        (
            {"test": Split(torch.zeros(3, 5), torch.zeros(3).long())},
            {},
            r"test set: expected inputs of shape \(2,\) as in the training set, found \(5,\)",
        ),
        ({"names": ("a", "b", "a", "c")}, {}, "made: labels 0 and 2 have the same name 'a'"),
    ],
)
def test_prepare_refuses_what_cannot_be_trained_on(changes, arguments, message):
    with pytest.raises(DataError, match=message):
        prepare(made_raw(**changes), **({"validation": None} | arguments))


def test_prepare_batch_as_large_as_the_training_set_and_a_batch_of_one():
    for batch_size in (40, 1):
        assert len(prepare(made_raw(40), validation=None, batch_size=batch_size).train) == 40


# ---- rare and unequal labels: counted over the examples that are trained on


def rare_and_frequent(folder, **options) -> RawData:
    """Texts of five labels, of which the test set will hold out a fifth."""
    counts = {"a": 30, "b": 20, "c": 6, "d": 3, "e": 1}
    rows = [(f"text {label} number {n}", label) for label, count in counts.items() for n in range(count)]
    return TextReader(path=str(write_csv(folder / "t.csv", rows, "text", "label")), **options).read()


@pytest.mark.parametrize("how", [{"examples": 15}, {"fraction": 0.1}], ids=str)
@pytest.mark.parametrize("train_examples", [None, 20])
@pytest.mark.parametrize("least", [2, 3, 5])
def test_labels_with_too_few_training_examples_are_in_no_part(tmp_path, how, train_examples, least):
    raw = rare_and_frequent(tmp_path, minimum_label_examples=least, names=["A", "B", "C", "D", "E"])
    whole = prepare(raw, validation=ValidationSplit(**how), train_examples=train_examples)
    counts = whole.train.labels.bincount(minlength=whole.num_labels)
    assert whole.num_labels >= 2
    assert int(counts.min()) >= least
    assert tuple(value.upper() for value in whole.label_values) == whole.names
    for name, split in whole.splits.items():
        assert {whole.texts(name, row).split()[1].upper() for row in range(len(split))} <= set(whole.names)
        assert [whole.texts(name, row).split()[1].upper() for row in range(len(split))] == [
            whole.names[label] for label in split.labels.tolist()
        ]
    # none of the others was left out
    every = prepare(
        replace(raw, minimum_label_examples=None), validation=ValidationSplit(**how), train_examples=train_examples
    )
    enough = every.train.labels.bincount(minlength=5) >= least
    assert whole.names == tuple(name for name, kept in zip(every.names, enough.tolist(), strict=True) if kept)


def test_rare_labels_are_noted_and_something_must_be_left(tmp_path):
    data = prepare(rare_and_frequent(tmp_path, minimum_label_examples=2), validation=None)
    assert any("fewer than 2 training examples left out: e" in note for note in data.notes)
    data = prepare(rare_and_frequent(tmp_path), validation=None)
    assert any("one training example only: e:" in note for note in data.notes)
    with pytest.raises(DataError, match="nothing to tell apart"):
        prepare(rare_and_frequent(tmp_path, minimum_label_examples=20), validation=None)
    odd = replace(made_raw(40, 3), minimum_label_examples=2)
    only_odd = replace(odd, parts=odd.parts | {"test": odd.test.select(torch.tensor([1]))})
    few = replace(only_odd, parts=only_odd.parts | {"train": odd.train.select(torch.tensor([0, 3, 6, 2, 5, 8, 1]))})
    with pytest.raises(DataError, match="empty test set"):
        prepare(few, validation=None)


def test_imbalance_is_that_of_the_examples_that_are_trained_on(tmp_path):
    for train_examples in (None, 30):
        data = prepare(
            rare_and_frequent(tmp_path), validation=ValidationSplit(examples=10), train_examples=train_examples
        )
        counts = data.train.labels.bincount(minlength=5)
        (note,) = (note for note in data.notes if note.startswith("unbalanced"))
        assert f"a has {counts.max()} training examples" in note


# ---- fingerprint and statistics


def made_data(**changes) -> LabelledData:
    return replace(prepare(made_raw(), validation=ValidationSplit(first=8)), **changes)


def test_fingerprint_is_of_the_content():
    data = made_data()
    assert data.fingerprint() == made_data().fingerprint() == made_data(source="elsewhere").fingerprint()
    assert len(data.fingerprint()) == 64
    assert data.to("cpu").fingerprint() == data.fingerprint()
    # rows in another memory layout are the same rows
    columns = data.train.inputs.t().contiguous().t()
    assert made_data(train=Split(columns, data.train.labels)).fingerprint() == data.fingerprint()
    words = [BagOfWordsEncoder(), BagOfWordsEncoder()]
    for encoder, word in zip(words, ("film", "plot"), strict=True):
        encoder.vocabulary = (word,)
    changed = [
        *(made_data(encoder=encoder) for encoder in words),  # other words behind the same ids
        made_data(train=with_value(data.train, 31, 0.5)),
        made_data(train=with_label(data.train, 0, 3)),
        made_data(test=with_label(data.test, 0, 3)),
        made_data(test=None),
        made_data(validation=None),
        made_data(names=("label 0", "label 1", "label 2", "other")),
        made_data(train=Split(data.train.inputs.reshape(32, 1, 2), data.train.labels)),
        prepare(made_raw(), validation=ValidationSplit(first=9)),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in changed)}) == len(changed) + 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 4), (7,)])
def test_input_statistics_are_those_of_each_channel(dtype, shape, monkeypatch):
    monkeypatch.setattr("labelembed.lab.data.dataset._CHUNK_ELEMENTS", 1000)  # several chunks, the last one smaller
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (301, *shape), generator=generator).to(dtype)
    inputs[:, 0] //= 3
    data = made_data(train=Split(inputs, torch.zeros(301).long()))
    mean, deviation = data.input_statistics()
    channels = inputs.double().transpose(0, 1).reshape(shape[0], -1).numpy()
    assert mean.shape == deviation.shape == (shape[0],)
    # float32 results of a float64 computation
    np.testing.assert_allclose(mean.numpy(), channels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(deviation.numpy(), channels.std(axis=1), rtol=1e-6)


def test_input_statistics_survive_a_large_mean_and_a_constant_channel():
    inputs = torch.tensor([[1e6, 5.0], [1e6 + 1, 5.0], [1e6 + 2, 5.0]])
    mean, deviation = made_data(train=Split(inputs, torch.zeros(3).long())).input_statistics()
    assert mean.tolist() == [1e6 + 1, 5.0]
    assert deviation.tolist() == pytest.approx([(2 / 3) ** 0.5, 1.0], rel=1e-6)
