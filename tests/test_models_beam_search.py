"""Beam search: against all sequences there are, against a search of one sentence, and at its limits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from labelembed.lab.models import BeamSearch
from labelembed.lab.special_tokens import BEGIN, END
from tests.naive.beam_search import naive_beam_search, naive_best_sequence


@dataclass(frozen=True)
class Prefixes:
    """A state that remembers everything: the sentence and the tokens so far, BEGIN in front."""

    rows: tuple[tuple[int, ...], ...]  # (sentence, BEGIN, token, ...)

    def select(self, index):
        return Prefixes(tuple(self.rows[place] for place in index.tolist()))


class MadeModel:
    """A language of its own for each sentence: what comes next depends on everything before it.

    With `grain` the log-probabilities are multiples of it, so that their sums are exact and ties are many.
    """

    def __init__(self, labels, *, end=0.0, grain=None, attention=0, seed=0):
        self.end, self.grain, self.attention = end, grain, attention
        self.table = 1.5 * torch.randn(4093, labels, generator=torch.Generator().manual_seed(seed))
        self.rows = {}

    def row(self, sentence, prefix):
        key = sentence, tuple(prefix)
        if key not in self.rows:
            logits = self.table[hash(key) % len(self.table)].clone()
            logits[END] += self.end if isinstance(self.end, float) else self.end[sentence]
            values = logits.log_softmax(0)
            if self.grain:
                values = (values / self.grain).round() * self.grain
            self.rows[key] = values
        return self.rows[key]

    def naive(self, sentence):
        return lambda prefix: self.row(sentence, prefix).tolist()

    def step(self, tokens, state):
        rows = tuple((*row, token) for row, token in zip(state.rows, tokens.tolist(), strict=True))
        found = torch.stack([self.row(row[0], row[2:]) for row in rows])
        weights = None
        if self.attention:  # that of a row of what comes next looks at a position named by all tokens before
            places = torch.tensor([sum(row) % self.attention for row in rows])
            weights = torch.nn.functional.one_hot(places, self.attention).float()
        return found, Prefixes(rows), weights

    def start(self, sentences):
        return Prefixes(tuple((sentence,) for sentence in range(sentences)))

    def search(self, search, sentences, **arguments):
        lengths = {"source_lengths": torch.zeros(sentences)} | arguments
        return search.search(self.step, self.start(sentences), **lengths)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -0.7])
@pytest.mark.parametrize(("minimum_length", "maximum_length"), [(0, 4), (2, 4), (3, 3), (0, 1)])
@pytest.mark.parametrize("labels", [5, 7])
def test_wide_beam_finds_the_best_of_all_sequences(labels, minimum_length, maximum_length, length_penalty):
    lengths = {"minimum_length": minimum_length, "maximum_length": maximum_length, "length_penalty": length_penalty}
    all_sequences = sum((labels - 3) ** length for length in range(maximum_length + 1))
    model = MadeModel(labels, end=0.5)
    found = model.search(BeamSearch(beam=all_sequences, **lengths), 3)
    for sentence, one in enumerate(found):
        tokens, score, total = naive_best_sequence(model.naive(sentence), labels=labels, **lengths)
        assert one.tokens == tokens
        # Five float32 additions of numbers below 16.
        assert (one.score, one.log_probability) == pytest.approx((score, total), abs=1e-5)


# With grain: sums are exact in float32 and many scores are equal.
@pytest.mark.parametrize("grain", [None, 0.25])
@pytest.mark.parametrize("length_penalty", [0.0, -0.5])
@pytest.mark.parametrize("beam", [1, 3, 5, 20])
@pytest.mark.parametrize("labels", [6, 40])
def test_batched_search_equals_the_search_of_one_sentence(labels, beam, length_penalty, grain):
    sentences = 7
    model = MadeModel(labels, end=[0.0, 4.0, 1.0, 2.0, -3.0, 6.0, 2.5], grain=grain)
    settings = {"beam": beam, "length_penalty": length_penalty}
    sources = torch.tensor([1, 2, 3, 0, 2, 1, 1])
    found = model.search(BeamSearch(minimum_length=1, **settings), sentences, source_lengths=sources)
    for sentence, one in enumerate(found):
        limit = 2 * int(sources[sentence]) + 10
        expected = naive_beam_search(model.naive(sentence), maximum_length=limit, minimum_length=1, **settings)
        assert one.tokens == expected[0]
        # 17 float32 additions of numbers below 64; exact with grain.
        exact = {"abs": 0, "rel": 0} if grain else {"abs": 1e-4}
        assert one.log_probability == pytest.approx(expected[2], **exact)


def test_attention_names_a_source_position_for_every_token():
    model = MadeModel(9, end=[1.0, 3.0, -1.0], attention=5)
    found = model.search(BeamSearch(beam=4, minimum_length=2, maximum_length=6), 3)
    for sentence, one in enumerate(found):
        before = [sentence + BEGIN + sum(one.tokens[:place]) for place in range(len(one.tokens))]
        assert one.attention == tuple(place % 5 for place in before)
        assert len(one.tokens) >= 2


@pytest.mark.parametrize("worst", [2.5, float("nan")])
def test_what_is_no_log_probability_is_refused(worst):
    row = torch.tensor([[-1.0, -1.0, -1.0, -1.0, -3.0, worst]])
    with pytest.raises(ValueError, match="log-probabilities"):
        BeamSearch().search(lambda _, state: (row, state, None), Prefixes(((0,),)), source_lengths=torch.ones(1))
