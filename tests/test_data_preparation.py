"""What `prepare` keeps, leaves out and refuses, and the fingerprint and statistics of what it returns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import BagOfWordsEncoder, LabelledData, RawData, Split, prepare
from tests.made_data import made_split


def made_raw(rows: int = 40, num_labels: int = 4, **parts) -> RawData:
    parts = {"train": made_split(rows, num_labels), "test": made_split(8, num_labels)} | parts
    names = tuple(f"label {label}" for label in range(num_labels))
    return RawData(parts=parts, names=names, input_range=(0.0, 400.0), source="made")


def test_training_examples_are_stratified_nested_and_leave_validation_alone():
    how = {"fraction": 0.25}
    whole, small, smaller = (prepare(made_raw(400), validation=how, train_examples=rows) for rows in (None, 100, 40))
    assert {name: len(split) for name, split in small.splits.items()} == {"train": 100, "validation": 100, "test": 8}
    assert (small.num_labels, small.input_shape, small.input_range) == (4, (2,), (0.0, 400.0))
    assert torch.bincount(small.train.labels).tolist() == [25] * 4
    one, two, three = (set(data.train.inputs[:, 0].tolist()) for data in (smaller, small, whole))
    assert one < two < three
    assert torch.equal(smaller.validation.inputs, whole.validation.inputs)


def changed(split: Split, row: int, *, value: float | None = None, label: int | None = None) -> Split:
    inputs, labels = split.inputs.clone(), split.labels.clone()
    if value is not None:
        inputs[row, 1] = value
    if label is not None:
        labels[row] = label
    return Split(inputs, labels)


@pytest.mark.parametrize(
    ("raw", "arguments", "words"),
    [
        (made_raw(), {"train_examples": 33, "validation": {"first": 8}}, "train_examples.* the 32 that .*got 33"),
        (made_raw(), {"validation": {"first": 40}}, "data.validation"),
        (made_raw(train=made_split(0)), {}, "train set: is empty"),
        (made_raw(test=made_split(0)), {}, "test set: is empty"),
        (made_raw(test=made_split(8, 5)), {}, "test set: row 4 has the label 4; expected 0 to 3"),
        (replace(made_raw(), names=("a", "b", "a", "c")), {}, "'a'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(raw, arguments, words):
    with pytest.raises(DataError, match=words):
        prepare(raw, **({"validation": None} | arguments))


def made_data(**changes) -> LabelledData:
    return replace(prepare(made_raw(), validation={"first": 8}), **changes)


def test_fingerprint_is_of_the_content():
    data = made_data()
    assert data.fingerprint() == made_data().fingerprint() == made_data(source="elsewhere").fingerprint()
    # examples in another memory layout are the same examples
    columns = data.train.inputs.t().contiguous().t()
    assert made_data(train=Split(columns, data.train.labels)).fingerprint() == data.fingerprint()
    words = [BagOfWordsEncoder(), BagOfWordsEncoder()]
    for encoder, word in zip(words, ("film", "plot"), strict=True):
        encoder.vocabulary = (word,)
    others = [
        *(made_data(encoder=encoder) for encoder in words),  # other words behind the same ids
        made_data(train=changed(data.train, 31, value=0.5)),
        made_data(train=changed(data.train, 0, label=3)),
        made_data(test=changed(data.test, 0, label=3)),
        made_data(test=None),
        made_data(names=("label 0", "label 1", "label 2", "other")),
        made_data(train=Split(data.train.inputs.reshape(32, 1, 2), data.train.labels)),
        prepare(made_raw(), validation={"first": 9}),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == len(others) + 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3, 8, 8), (7,)])
def test_input_statistics_are_those_of_each_channel(dtype, shape, monkeypatch):
    monkeypatch.setattr("labelembed.lab.data.dataset._CHUNK_ELEMENTS", 1000)  # several chunks, the last one smaller
    inputs = torch.randint(0, 256, (301, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    inputs[:, 0] //= 3
    mean, deviation = made_data(train=Split(inputs, torch.zeros(301).long())).input_statistics()
    channels = inputs.double().transpose(0, 1).reshape(shape[0], -1).numpy()
    # float32 results of a float64 computation
    np.testing.assert_allclose(mean.numpy(), channels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(deviation.numpy(), channels.std(axis=1), rtol=1e-6)


def test_input_statistics_survive_a_large_mean_and_a_constant_channel():
    inputs = torch.tensor([[1e6, 5.0], [1e6 + 1, 5.0], [1e6 + 2, 5.0]])
    mean, deviation = made_data(train=Split(inputs, torch.zeros(3).long())).input_statistics()
    assert mean.tolist() == [1e6 + 1, 5.0]
    assert deviation.tolist() == pytest.approx([(2 / 3) ** 0.5, 1.0], rel=1e-6)
