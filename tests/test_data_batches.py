"""Splits, their batches, rows held out, and what `prepare` checks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from labelembed.data import (
    Batch,
    DevelopmentSplit,
    LabelledData,
    RawData,
    Split,
    hold_out,
    prepare,
    stratified_order,
)
from labelembed.errors import DataError


def made_split(rows: int = 23, num_labels: int = 3) -> Split:
    """A split whose inputs and labels both tell the row."""
    inputs = torch.arange(rows, dtype=torch.float32)[:, None] * torch.tensor([1.0, 10.0])
    return Split(inputs, torch.arange(rows) % num_labels)


def made_raw(rows: int = 40, num_labels: int = 4, **changes) -> RawData:
    values = {
        "train": made_split(rows, num_labels),
        "test": made_split(8, num_labels),
        "names": tuple(f"label {label}" for label in range(num_labels)),
        "input_range": (0.0, 400.0),
        "source": "made",
    }
    return RawData(**(values | changes))


def joined(batches) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


# ---- batches


def test_batches_follow_the_order_and_tell_their_rows():
    split = made_split(23)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    batches = list(split.batches(5, order=order))
    assert [len(batch.rows) for batch in batches] == [5, 5, 5, 5, 3]
    assert split.number_of_batches(5) == 5
    for number, batch in enumerate(batches):
        assert torch.equal(batch.rows, order[number * 5 : number * 5 + 5])
        assert batch.rows.dtype == torch.int64
        assert torch.equal(batch.inputs, split.inputs[batch.rows])
        assert torch.equal(batch.labels, split.labels[batch.rows])


def test_batches_without_an_order_are_the_rows_as_they_stand():
    assert torch.equal(joined(made_split(23).batches(5)).rows, torch.arange(23))


def test_batches_drop_last_leaves_out_only_a_smaller_batch():
    assert [len(batch.rows) for batch in made_split(23).batches(5, drop_last=True)] == [5, 5, 5, 5]
    assert [len(batch.rows) for batch in made_split(20).batches(5, drop_last=True)] == [5, 5, 5, 5]
    assert made_split(23).number_of_batches(5, drop_last=True) == 4
    assert made_split(20).number_of_batches(5, drop_last=True) == 4
    assert list(made_split(3).batches(5, drop_last=True)) == []


@pytest.mark.parametrize("start", range(6))
def test_batches_started_in_mid_epoch_are_the_tail(start):
    split, order = made_split(23), torch.arange(22, -1, -1)
    tail = list(split.batches(5, order=order))[start:]
    started = list(split.batches(5, order=order, start=start))
    assert len(started) == len(tail) == 5 - start
    for one, other in zip(started, tail, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_batches_of_all_processes_make_up_each_batch(processes):
    split, order = made_split(26), torch.randperm(26, generator=torch.Generator().manual_seed(2))
    whole = list(split.batches(5, order=order))
    shares = [list(split.batches(5, order=order, process=p, processes=processes)) for p in range(processes)]
    assert {len(share) for share in shares} == {6}  # the last batch has 1 row, and every process a step for it
    for number, batch in enumerate(whole):
        rows = [share[number].rows for share in shares]
        assert all(torch.equal(rows[p], batch.rows[p::processes]) for p in range(processes))
        assert torch.equal(torch.cat(rows).sort().values, batch.rows.sort().values)
        assert all(torch.equal(share[number].inputs, split.inputs[share[number].rows]) for share in shares)
    assert shares[-1][5].inputs.shape == (0, 2)


def test_batches_may_be_changed_in_place():
    split, order = made_split(6), torch.arange(6)
    for batch in split.batches(3, order=order):
        for tensor in batch:
            tensor.fill_(-1)
    assert torch.equal(order, torch.arange(6))
    assert torch.equal(split.inputs, made_split(6).inputs)
    assert torch.equal(split.labels, made_split(6).labels)


def test_batches_order_may_be_a_part_or_repeat_rows():
    assert joined(made_split(9).batches(2, order=torch.tensor([4, 4, 0]))).rows.tolist() == [4, 4, 0]
    assert list(made_split(9).batches(2, order=torch.tensor([], dtype=torch.int64))) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number >= 1, got 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number >= 1, got 2.5"),
        ({"start": 6}, "`start` must be 0 to 5, the number of batches, got 6"),
        ({"start": -1}, "`start` must be 0 to 5"),
        ({"processes": 0}, "`processes` must be >= 1, got 0"),
        ({"process": 2, "processes": 2}, "`process` must be 0 to 1, got 2"),
        ({"order": torch.tensor([0, 23])}, "`order` must hold positions of 0 to 22, got 23"),
        ({"order": torch.tensor([0, -1])}, "`order` must hold positions of 0 to 22, got -1"),
        ({"order": torch.tensor([0.0])}, r"`order` must be \[M\] of int64"),
    ],
)
def test_batches_refuses_wrong_arguments_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        made_split(23).batches(**({"batch_size": 5} | arguments))


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3).long(), TypeError, "`inputs` must be uint8 or float32"),
        (torch.zeros(3, 2), torch.zeros(3), TypeError, "`labels` must be int64, got torch.float32"),
        (torch.zeros(3, 2), torch.zeros(4).long(), ValueError, r"got shapes \(4,\) and \(3, 2\)"),
        (torch.zeros(3, 2), torch.zeros(3, 1).long(), ValueError, r"got shapes \(3, 1\) and \(3, 2\)"),
    ],
)
def test_split_refuses_tensors_that_do_not_go_together(inputs, labels, error, message):
    with pytest.raises(error, match=message):
        Split(inputs, labels)


# ---- rows held out


def test_hold_out_first_rows_as_in_the_papers():
    train, development = hold_out(made_split(23), DevelopmentSplit(first=5))
    assert development.inputs[:, 0].tolist() == list(range(5))
    assert train.inputs[:, 0].tolist() == list(range(5, 23))
    assert train.labels.tolist() == [row % 3 for row in range(5, 23)]


def test_hold_out_nothing():
    split = made_split(5)
    assert hold_out(split, None) == (split, None)


@pytest.mark.parametrize("how", [DevelopmentSplit(fraction=0.2), DevelopmentSplit(rows=200)])
def test_hold_out_at_random_is_stratified_and_a_partition(how):
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 150 + [3] * 49 + [4])
    split = Split(torch.arange(1000, dtype=torch.float32)[:, None], labels)
    train, development = hold_out(split, how)
    # 200 of 1,000: a fifth of each label, to the row; the only row of label 4 stays in training
    assert torch.bincount(development.labels, minlength=5).tolist() == [100, 60, 30, 10, 0]
    rows = torch.cat([train.inputs[:, 0], development.inputs[:, 0]])
    assert torch.equal(rows.sort().values, split.inputs[:, 0])
    # in the order they stood in, and with their own labels
    for part in (train, development):
        assert torch.equal(part.inputs[:, 0], part.inputs[:, 0].sort().values)
        assert torch.equal(part.labels, labels[part.inputs[:, 0].long()])


def test_hold_out_depends_on_its_own_seed_only():
    split = made_split(100)
    torch.manual_seed(1)
    first = hold_out(split, DevelopmentSplit(rows=20))[1]
    torch.manual_seed(2)
    again = hold_out(split, DevelopmentSplit(rows=20))[1]
    other = hold_out(split, DevelopmentSplit(rows=20, seed=1))[1]
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_stratified_order_every_beginning_has_the_proportions():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100)]
    order = stratified_order(labels, seed=0, purpose="test")
    assert torch.equal(order.sort().values, torch.arange(100))
    for number in range(1, 100):
        counts = torch.bincount(labels[order[:number]], minlength=3)
        # each label is rounded on its own, so the others may push it by one more row
        assert (counts - number * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1.5
    assert not torch.equal(order, stratified_order(labels, seed=1, purpose="test"))
    assert not torch.equal(order, stratified_order(labels, seed=0, purpose="another"))


def test_stratified_order_is_random_among_labels_and_rows():
    labels = torch.arange(100) % 10
    firsts = {tuple(stratified_order(labels, seed=seed, purpose="test")[:3].tolist()) for seed in range(20)}
    assert len(firsts) == 20
    assert len({int(labels[rows[0]]) for rows in firsts}) > 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (DevelopmentSplit(first=23), "first = 23 would leave nothing to train on.*has 23 rows; hold out fewer"),
        (DevelopmentSplit(rows=5000), "rows = 5,000 would leave nothing to train on"),
        (DevelopmentSplit(fraction=0.99), "fraction = 0.99 would leave nothing to train on"),
        (DevelopmentSplit(fraction=0.01), "fraction = 0.01 of 23 training rows is no row"),
    ],
)
def test_hold_out_refuses_an_empty_side(how, message):
    with pytest.raises(DataError, match=message):
        hold_out(made_split(23), how)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`development` must have exactly one of first, fraction, rows, got {}"),
        ({"first": 1, "rows": 2}, "must have exactly one of first, fraction, rows, got {'first': 1, 'rows': 2}"),
        ({"first": 0}, "`first` must be a whole number >= 1, got 0"),
        ({"rows": 2.5}, "`rows` must be a whole number >= 1, got 2.5"),
        ({"rows": True}, "`rows` must be a whole number >= 1, got True"),
        ({"fraction": 0.0}, "`fraction` must be a number between 0 and 1, both excluded, got 0.0"),
        ({"fraction": 1}, "`fraction` must be a number between 0 and 1, both excluded, got 1"),
        ({"fraction": float("nan")}, "`fraction` must be a number between 0 and 1"),
        ({"fraction": 0.1, "seed": -1}, "`seed` must be a whole number >= 0, got -1"),
    ],
)
def test_development_split_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DevelopmentSplit(**arguments)


# ---- prepare


def test_prepare_returns_every_split():
    data = prepare(made_raw(40), development=DevelopmentSplit(first=8), batch_size=32)
    assert [(name, len(split)) for name, split in data.splits.items()] == [
        ("train", 32),
        ("development", 8),
        ("test", 8),
    ]
    assert (data.num_labels, data.input_shape, data.input_range) == (4, (2,), (0.0, 400.0))


def test_prepare_train_rows_are_stratified_nested_and_leave_development_alone():
    how = DevelopmentSplit(fraction=0.25)
    whole, small, smaller = (prepare(made_raw(400), development=how, train_rows=rows) for rows in (None, 100, 40))
    assert torch.bincount(small.train.labels).tolist() == [25] * 4
    assert set(smaller.train.inputs[:, 0].tolist()) < set(small.train.inputs[:, 0].tolist())
    assert set(small.train.inputs[:, 0].tolist()) < set(whole.train.inputs[:, 0].tolist())
    assert torch.equal(smaller.development.inputs, whole.development.inputs)


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
            "made: `batch_size` 41 is larger than the training set, which has 40 rows; take at most 40",
        ),
        (
            {},
            {"batch_size": 33, "development": DevelopmentSplit(first=8)},
            "which has 32 rows after 8 were held out; take at most 32",
        ),
        ({}, {"train_rows": 41}, "made: `train_rows` is 41, but the training set has 40 rows"),
        ({}, {"development": DevelopmentSplit(first=40)}, "made: development: first = 40 would leave nothing"),
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
        prepare(made_raw(**changes), **({"development": None} | arguments))


def test_prepare_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="`train_rows` must be >= 1, got 0\n`batch_size` must be >= 1, got -1"):
        prepare(made_raw(), development=None, train_rows=0, batch_size=-1)


def test_prepare_batch_as_large_as_the_training_set_and_a_batch_of_one():
    for batch_size in (40, 1):
        assert len(prepare(made_raw(40), development=None, batch_size=batch_size).train) == 40


# ---- fingerprint and statistics


def made_data(**changes) -> LabelledData:
    return replace(prepare(made_raw(), development=DevelopmentSplit(first=8)), **changes)


def test_fingerprint_is_of_the_content():
    data = made_data()
    assert data.fingerprint() == made_data().fingerprint() == made_data(source="elsewhere").fingerprint()
    assert len(data.fingerprint()) == 64
    assert data.to("cpu").fingerprint() == data.fingerprint()
    # rows in another memory layout are the same rows
    columns = data.train.inputs.t().contiguous().t()
    assert made_data(train=Split(columns, data.train.labels)).fingerprint() == data.fingerprint()
    changed = [
        made_data(train=with_value(data.train, 31, 0.5)),
        made_data(train=with_label(data.train, 0, 3)),
        made_data(test=with_label(data.test, 0, 3)),
        made_data(test=None),
        made_data(development=None),
        made_data(names=("label 0", "label 1", "label 2", "other")),
        made_data(train=Split(data.train.inputs.reshape(32, 1, 2), data.train.labels)),
        prepare(made_raw(), development=DevelopmentSplit(first=9)),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in changed)}) == len(changed) + 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 4), (7,)])
def test_input_statistics_are_those_of_each_channel(dtype, shape, monkeypatch):
    monkeypatch.setattr("labelembed.data.dataset._CHUNK_ELEMENTS", 1000)  # several chunks, the last one smaller
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
