"""Batches of sentence pairs: every pair once, bucketed by length, indices that number every target token."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from labelembed import seeds
from labelembed.errors import DataError
from labelembed.lab.data import PairBatch, SentencePairs, Sentences, TokenBudget
from tests.made_watching import memory_taken
from tests.naive.corpus import naive_batch, naive_cuts, naive_order


def made(count=37, *, seed=0, longest=9):
    """(pairs as lists, the same as SentencePairs); every target is recognisable by its first token."""
    chance = random.Random(seed)

    def tokens(least, most):
        return [chance.randint(4, 9) for _ in range(chance.randint(least, most))]

    pairs = [(tokens(1, longest), [100 + number, *tokens(0, longest - 1)]) for number in range(count)]
    return pairs, SentencePairs(*(sentences([pair[side] for pair in pairs]) for side in (0, 1)))


def sentences(lines):
    offsets = np.cumsum([0, *map(len, lines)])
    return Sentences(np.array([token for line in lines for token in line], np.uint16), offsets)


def numbers_of(batch: PairBatch) -> list[int]:
    return (batch.labels[:, 0] - 100).tolist()


def tensors(batch: PairBatch):
    return [*batch.inputs, batch.labels, batch.indices]


def same(first, second):
    return len(first) == len(second) and all(
        left.tokens == right.tokens and all(map(torch.equal, tensors(left), tensors(right)))
        for left, right in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("batch_size", [1, 8, 37, 100])
def test_batches_without_an_order_are_the_naive_ones(batch_size):
    pairs, split = made()
    batches = list(split.batches(batch_size))
    assert len(batches) == split.number_of_batches(batch_size)
    for number, batch in enumerate(batches):
        expected = range(number * batch_size, min((number + 1) * batch_size, 37))
        assert [each.tolist() for each in tensors(batch)] == list(naive_batch(pairs, list(expected)))
        assert {each.dtype for each in tensors(batch)} == {torch.int64}


@pytest.mark.parametrize("batch_size", [8, TokenBudget(40), TokenBudget(4)])
def test_bucketed_batches_are_the_naive_ones_in_an_order_drawn_from_the_order(batch_size):
    pairs, split = made()
    epochs = []
    for epoch in range(3):
        order = seeds.example_order(37, seed=1, epoch=epoch)
        by_length = naive_order(pairs, order.tolist())
        if isinstance(batch_size, int):
            cut = [by_length[begin : begin + 8] for begin in range(0, 37, 8)]
        else:
            cut = naive_cuts(pairs, by_length, batch_size.tokens)
        batches = list(split.batches(batch_size, order=order))
        numbers = [numbers_of(batch) for batch in batches]
        assert sorted(numbers) == sorted(cut)
        assert numbers != cut  # the batches themselves are visited in another order than by length
        assert len(batches) == split.number_of_batches(batch_size)
        for batch in batches:
            assert [each.tolist() for each in tensors(batch)] == list(naive_batch(pairs, numbers_of(batch)))
        assert same(batches, list(split.batches(batch_size, order=order)))
        epochs.append(numbers)
    assert epochs[0] != epochs[1] != epochs[2]


def test_indices_number_every_target_token_once():
    pairs, split = made()
    indices, labels = [], []
    for batch in split.batches(7, order=seeds.example_order(37, seed=0, epoch=0)):
        counts = batch.labels != -100
        assert (batch.indices[~counts] == 0).all()
        indices += batch.indices[counts].tolist()
        labels += batch.labels[counts].tolist()
    assert sorted(indices) == list(range(split.num_examples))
    all_labels = [token for _, target in pairs for token in (*target, 3)]
    assert labels == [all_labels[index] for index in indices]


@pytest.mark.parametrize("processes", [2, 7])  # of seven some have no pair of the last batch
def test_processes_together_have_what_one_has(processes):
    _, split = made(31)
    order = seeds.example_order(31, seed=0, epoch=0)
    shares = [list(split.batches(6, order=order, process=each, processes=processes)) for each in range(processes)]
    whole = list(split.batches(6, order=order))
    assert [len(share) for share in shares] == [len(whole)] * processes
    for number, batch in enumerate(whole):
        for process, share in enumerate(shares):
            expected = [each[process::processes] for each in tensors(batch)]
            assert all(torch.equal(a, b) for a, b in zip(tensors(share[number]), expected, strict=True))
            assert share[number].tokens == batch.tokens == int((batch.labels >= 0).sum())


def test_an_epoch_goes_on_in_its_middle_or_visits_a_part():
    _, split = made()
    order = seeds.example_order(37, seed=0, epoch=0)
    assert same(list(split.batches(5, order=order))[3:], list(split.batches(5, order=order, start=3)))
    assert list(split.batches(5, order=order, start=8)) == []
    some = [numbers_of(batch) for batch in split.batches(2, order=torch.tensor([9, 4, 7]))]
    assert sorted(number for batch in some for number in batch) == [4, 7, 9]


def test_sentences_are_found_by_their_index(tmp_path):
    found = sentences([[4, 5], [6], [7, 8, 9]])
    assert [each.tolist() for each in found] == [[4, 5], [6], [7, 8, 9]]
    assert found.gathered(np.array([2, 0, 2])).tolist() == [7, 8, 9, 4, 5, 7, 8, 9]
    chosen = SentencePairs(found, found).select(np.array([2, 0])).target
    assert [each.tolist() for each in chosen] == [[7, 8, 9], [4, 5]]
    for offsets in ([0, 1], [1, 2], [0, 3, 2]):
        with pytest.raises(ValueError, match="offsets"):
            Sentences(np.array([4, 5]), np.array(offsets))
    found.tokens.tofile(tmp_path / "a.bin")
    found.offsets.tofile(tmp_path / "a-offsets.bin")
    with pytest.raises(DataError, match=r"a\.bin: .*id 9 of 9"):
        Sentences.open(tmp_path, "a", 9).gathered(np.arange(3))


def test_sentences_of_a_file_take_no_memory_when_they_were_read(tmp_path):
    (np.arange(2**26, dtype=np.uint32) % 60_000).astype(np.uint16).tofile(tmp_path / "a.bin")
    np.arange(0, 2**26 + 1, 2**12).tofile(tmp_path / "a-offsets.bin")
    found = Sentences.open(tmp_path, "a", 60_000)
    order = np.random.default_rng(0).permutation(len(found))
    with memory_taken() as taken:
        for begin in range(0, len(order), 64):
            numbers = order[begin : begin + 64]
            assert found.gathered(numbers)[:: 2**12].tolist() == (found.offsets[numbers] % 60_000).tolist()
    assert taken[0] < 2**24  # of a file of eight times as many bytes, all of which were read
