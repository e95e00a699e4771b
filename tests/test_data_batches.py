"""Splits, their batches, and examples held out."""

import pytest
import torch

from labelembed.errors import DataError
from labelembed.lab.data import Split, hold_out, stratified_order
from tests.made_data import made_split

ORDER = torch.randperm(23, generator=torch.Generator().manual_seed(1))


def test_batches_follow_the_order_and_know_their_examples():
    split = made_split(23)
    batches = list(split.batches(5, order=ORDER))
    assert [len(batch.indices) for batch in batches] == [5, 5, 5, 5, 3]
    assert split.number_of_batches(5) == 5
    for number, batch in enumerate(batches):
        assert torch.equal(batch.indices, ORDER[number * 5 : number * 5 + 5])
        assert torch.equal(batch.inputs, split.inputs[batch.indices])
        assert torch.equal(batch.labels, split.labels[batch.indices])
        for tensor in batch:
            tensor.fill_(-1)  # what a batch holds is a copy
    assert torch.equal(split.inputs, made_split(23).inputs)
    assert torch.equal(ORDER.sort().values, torch.arange(23))
    assert torch.cat([batch.indices for batch in split.batches(5)]).tolist() == list(range(23))
    assert torch.cat([batch.indices for batch in split.batches(2, order=torch.tensor([4, 4, 0]))]).tolist() == [4, 4, 0]
    assert list(split.batches(2, order=torch.tensor([], dtype=torch.int64))) == []


@pytest.mark.parametrize("start", range(6))
def test_batches_started_in_the_middle_of_an_epoch_are_its_end(start):
    tail = list(made_split(23).batches(5, order=ORDER))[start:]
    started = list(made_split(23).batches(5, order=ORDER, start=start))
    assert len(started) == len(tail) == 5 - start
    for one, other in zip(started, tail, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_batches_of_all_processes_make_up_each_batch(processes):
    split, order = made_split(26), torch.randperm(26, generator=torch.Generator().manual_seed(2))
    shares = [list(split.batches(5, order=order, process=p, processes=processes)) for p in range(processes)]
    assert {len(share) for share in shares} == {6}  # the last batch has 1 example, and every process a step for it
    for number, batch in enumerate(split.batches(5, order=order)):
        for process, share in enumerate(shares):
            assert torch.equal(share[number].indices, batch.indices[process::processes])
            assert torch.equal(share[number].inputs, split.inputs[share[number].indices])
    assert shares[-1][5].inputs.shape == (0, 2)


@pytest.mark.parametrize("how", [{"first": 200}, {"fraction": 0.2}, {"examples": 200}], ids=str)
def test_examples_are_held_out_in_the_order_they_stood_in_at_random_stratified_by_label(how):
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 150 + [3] * 49 + [4])
    split = Split(torch.arange(1000, dtype=torch.float32)[:, None], labels)
    train, validation = hold_out(split, **how)
    # 200 of 1,000: a fifth of each label; the only example of label 4 stays in training
    expected = [200, 0, 0, 0, 0] if "first" in how else [100, 60, 30, 10, 0]
    assert torch.bincount(validation.labels, minlength=5).tolist() == expected
    every = torch.cat([train.inputs[:, 0], validation.inputs[:, 0]])
    assert torch.equal(every.sort().values, split.inputs[:, 0])
    for part in (train, validation):
        assert torch.equal(part.inputs[:, 0], part.inputs[:, 0].sort().values)
        assert torch.equal(part.labels, labels[part.inputs[:, 0].long()])


def test_what_is_held_out_depends_on_its_own_seed_only():
    split, found = made_split(100), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(hold_out(split, examples=20)[1].inputs)
    assert torch.equal(*found)
    assert not torch.equal(found[0], hold_out(split, examples=20, seed=1)[1].inputs)


def test_stratified_order_every_beginning_has_the_proportions_and_is_random():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100)]
    order = stratified_order(labels, seed=0, purpose="test")
    assert torch.equal(order.sort().values, torch.arange(100))
    for number in range(1, 100):
        counts = torch.bincount(labels[order[:number]], minlength=3)
        # each label is rounded on its own, so the others may push it by one more example
        assert (counts - number * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1.5
    assert not torch.equal(order, stratified_order(labels, seed=0, purpose="another"))
    firsts = {tuple(stratified_order(labels % 2, seed=seed, purpose="test")[:3].tolist()) for seed in range(20)}
    assert len(firsts) == 20


@pytest.mark.parametrize("how", [{"first": 23}, {"examples": 5000}, {"fraction": 0.01}])
def test_an_empty_side_is_refused(how):
    with pytest.raises(DataError, match=r"data\.validation"):
        hold_out(made_split(23), **how)
