"""Splits, their batches, and rows held out."""

import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import Batch, Split, ValidationSplit, hold_out, stratified_order
from tests.made_data import made_split


def joined(batches) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


# ---- batches


def test_batches_follow_the_order_and_tell_their_rows():
    split = made_split(23)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    batches = list(split.batches(5, order=order))
    assert [len(batch.indices) for batch in batches] == [5, 5, 5, 5, 3]
    assert split.number_of_batches(5) == 5
    for number, batch in enumerate(batches):
        assert torch.equal(batch.indices, order[number * 5 : number * 5 + 5])
        assert batch.indices.dtype == torch.int64
        assert torch.equal(batch.inputs, split.inputs[batch.indices])
        assert torch.equal(batch.labels, split.labels[batch.indices])


def test_batches_without_an_order_are_the_rows_as_they_stand():
    assert torch.equal(joined(made_split(23).batches(5)).indices, torch.arange(23))


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
        rows = [share[number].indices for share in shares]
        assert all(torch.equal(rows[p], batch.indices[p::processes]) for p in range(processes))
        assert torch.equal(torch.cat(rows).sort().values, batch.indices.sort().values)
        assert all(torch.equal(share[number].inputs, split.inputs[share[number].indices]) for share in shares)
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
    assert joined(made_split(9).batches(2, order=torch.tensor([4, 4, 0]))).indices.tolist() == [4, 4, 0]
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
        (torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3).long(), TypeError, "must be uint8, int32 or float32"),
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
    train, validation = hold_out(made_split(23), ValidationSplit(first=5))
    assert validation.inputs[:, 0].tolist() == list(range(5))
    assert train.inputs[:, 0].tolist() == list(range(5, 23))
    assert train.labels.tolist() == [row % 3 for row in range(5, 23)]


def test_hold_out_nothing():
    split = made_split(5)
    assert hold_out(split, None) == (split, None)


@pytest.mark.parametrize("how", [ValidationSplit(fraction=0.2), ValidationSplit(examples=200)])
def test_hold_out_at_random_is_stratified_and_a_partition(how):
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 150 + [3] * 49 + [4])
    split = Split(torch.arange(1000, dtype=torch.float32)[:, None], labels)
    train, validation = hold_out(split, how)
    # 200 of 1,000: a fifth of each label, to the row; the only row of label 4 stays in training
    assert torch.bincount(validation.labels, minlength=5).tolist() == [100, 60, 30, 10, 0]
    rows = torch.cat([train.inputs[:, 0], validation.inputs[:, 0]])
    assert torch.equal(rows.sort().values, split.inputs[:, 0])
    # in the order they stood in, and with their own labels
    for part in (train, validation):
        assert torch.equal(part.inputs[:, 0], part.inputs[:, 0].sort().values)
        assert torch.equal(part.labels, labels[part.inputs[:, 0].long()])


def test_hold_out_depends_on_its_own_seed_only():
    split = made_split(100)
    torch.manual_seed(1)
    first = hold_out(split, ValidationSplit(examples=20))[1]
    torch.manual_seed(2)
    again = hold_out(split, ValidationSplit(examples=20))[1]
    other = hold_out(split, ValidationSplit(examples=20, seed=1))[1]
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
        (ValidationSplit(first=23), "first = 23 of 23 training examples leaves nothing to train on"),
        (ValidationSplit(examples=5000), "examples = 5,000 of 23"),
        (ValidationSplit(fraction=0.99), "leaves nothing to train on"),
        (ValidationSplit(fraction=0.01), "leaves nothing to choose by"),
    ],
)
def test_hold_out_refuses_an_empty_side(how, message):
    with pytest.raises(DataError, match=message):
        hold_out(made_split(23), how)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`validation` must have exactly one of first, fraction, examples, got {}"),
        (
            {"first": 1, "examples": 2},
            "must have exactly one of first, fraction, examples, got {'first': 1, 'examples': 2}",
        ),
        ({"first": 0}, "`first` must be a whole number >= 1, got 0"),
        ({"examples": 2.5}, "`examples` must be a whole number >= 1, got 2.5"),
        ({"examples": True}, "`examples` must be a whole number >= 1, got True"),
        ({"fraction": 0.0}, "`fraction` must be a number between 0 and 1, both excluded, got 0.0"),
        ({"fraction": 1}, "`fraction` must be a number between 0 and 1, both excluded, got 1"),
        ({"fraction": float("nan")}, "`fraction` must be a number between 0 and 1"),
        ({"fraction": 0.1, "seed": -1}, "`seed` must be a whole number >= 0, got -1"),
    ],
)
def test_validation_split_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ValidationSplit(**arguments)
