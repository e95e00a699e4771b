"""Beam search over any step function, batched over sentences and hypotheses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from labelembed.lab.special_tokens import BEGIN, END, PAD, UNKNOWN


class SearchState(Protocol):
    """What a step function keeps between steps, for N hypotheses."""

    def select(self, index: Tensor) -> Self:
        """Returns the state of the hypotheses `index` [M] in this order; they may be repeated or left out."""


State = TypeVar("State", bound=SearchState)


@dataclass(frozen=True)
class Hypothesis:
    """The sequence that a search found for a sentence."""

    tokens: tuple[int, ...]  # neither BEGIN nor END among them
    score: float  # the log-probability over the length penalty
    log_probability: float  # the sum of those of the tokens and of END
    attention: tuple[int, ...] | None = None  # for each token the source position with the highest, if any


@dataclass
class _Sentence:
    """A sentence of at most `limit` tokens, how many of its hypotheses have ended, and the best of these."""

    limit: int
    ended: int = 0
    best: Hypothesis | None = None


@dataclass(frozen=True)
class BeamSearch:
    """Finds the best sequence of each sentence; with `beam=1` it is greedy search.

    At each step every open hypothesis is continued by every token. Of all continuations of a sentence, those among
    the best `beam` that end are finished; the best `beam` others stay open. A sentence is done once it has `beam`
    finished hypotheses, or one that no open one can still beat; it then leaves the batch. At the maximum length the
    only token left is END. PAD and BEGIN are never produced. Of equal scores the one of the better open hypothesis
    comes first, then the smaller token; of equal finished ones the one that finished first.

    The score is sum(log p) / ((5 + length) / 6) ** length_penalty, END counted in the length (Wu et al. 2016,
    eq. 14); log-probabilities are summed in float32.

    Args:
        beam: Hypotheses kept open for each sentence.
        maximum_length: Most tokens of a hypothesis, END not counted; None: twice the source's and 10.
        minimum_length: Fewest tokens of a hypothesis, END not counted; a smaller maximum comes first.
        length_penalty: 0 compares log-probabilities; 1 nearly their means, which prefers longer hypotheses.
    """

    beam: int = 10
    maximum_length: int | None = None
    minimum_length: int = 0
    length_penalty: float = 0.0

    @torch.no_grad()
    def search(
        self,
        step: Callable[[Tensor, State], tuple[Tensor, State, Tensor | None]],
        state: State,
        *,
        source_lengths: Tensor,
    ) -> list[Hypothesis | None]:
        """Returns the best hypothesis of each sentence; None where END has no probability.

        Args:
            step: Takes the last tokens [N] and a state of N hypotheses; returns the log-probabilities [N, C] of what
                comes next, the next state, and the attention [N, S] or None. The first call has the BEGIN of
                every sentence.
            state: The state to begin with, one hypothesis a sentence.
            source_lengths: Tokens of the source of each sentence [B]. The search is on its device.

        Raises:
            ValueError: When what `step` returns are no log-probabilities.
        """
        sentences = [_Sentence(self._limit(length)) for length in source_lengths.tolist()]
        batch_size, device = len(sentences), source_lengths.device
        # The open hypotheses of the A sentences that are not done, best first: sums of log-probabilities [A, W]; tokens
        # so far, each with the source position that had the highest attention, [A, W, t, 2].
        active = sentences
        totals = torch.zeros(batch_size, 1, device=device)
        history = torch.zeros(batch_size, 1, 0, 2, dtype=torch.long, device=device)
        tokens = torch.full((batch_size,), BEGIN, dtype=torch.long, device=device)
        while active:
            log_probabilities, state, attention = step(tokens, state)
            _, width, length, _ = history.shape
            attends = attention is not None
            only_end = torch.tensor([length == sentence.limit for sentence in active], device=tokens.device)
            reached, parents, tokens = self._continuations(totals, log_probabilities, only_end, length)
            ends = tokens == END
            places, ranks = (ends & (reached > -torch.inf))[:, : self.beam].nonzero().unbind(1)
            endings = (places, parents[places, ranks], reached[places, ranks])
            for place, parent, total in zip(*(part.tolist() for part in endings), strict=True):
                self._finish(active[place], total, history[place, parent], attends)
            reached, order = reached.masked_fill(ends, -torch.inf).sort(dim=1, descending=True, stable=True)
            reached, order = reached[:, : self.beam], order[:, : self.beam]
            kept = []
            for place, (sentence, best) in enumerate(zip(active, reached[:, 0].tolist(), strict=True)):
                if not self._is_done(sentence, best, length + 1):
                    kept.append(place)
            active = [active[place] for place in kept]
            if not active:
                break
            rest = torch.tensor(kept, device=tokens.device)
            totals, order = reached[rest], order[rest]
            # Where less than a beam of continuations is possible, impossible ones go on as unknown words.
            tokens = tokens[rest].gather(1, order).masked_fill(totals == -torch.inf, UNKNOWN).flatten()
            rows = (rest[:, None] * width + parents[rest].gather(1, order)).flatten()
            state = state.select(rows)
            attended = torch.zeros_like(tokens) if attention is None else attention.argmax(1)[rows]
            history = torch.cat([history.flatten(0, 1)[rows], torch.stack([tokens, attended], dim=1)[:, None]], dim=1)
            history = history.view(*totals.shape, length + 1, 2)
        return [sentence.best for sentence in sentences]

    def _limit(self, source_length: int) -> int:
        """Returns the most tokens of a sentence."""
        return self.maximum_length or max(2 * source_length + 10, self.minimum_length)

    def _continuations(
        self, totals: Tensor, log_probabilities: Tensor, only_end: Tensor, length: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the best continuations of each sentence, those that end among them.

        `totals` [A, W] are the sums of the open hypotheses, `log_probabilities` [A * W, C] those of the next token,
        `only_end` [A] the sentences at their maximum length. The result is sums, parents and tokens, each [A, W * K],
        best first, with minus infinity for what may not be.
        """
        # PAD, BEGIN and END may be among the best and not be allowed.
        # Of equal ones the first: float64 has room for an order below the last digit of float32.
        order = 1 + torch.arange(log_probabilities.shape[1], device=totals.device, dtype=torch.float64) * 2.0**-46
        keys = log_probabilities.double() * order
        tokens = keys.topk(min(self.beam + 3, keys.shape[1]), dim=1).indices
        values = log_probabilities.gather(1, tokens)
        highest = float(values[:, 0].max())
        if not highest <= 1e-3:
            raise ValueError(f"`step` must return log-probabilities, as of log_softmax(-1), got {highest}")
        forbidden = (tokens == PAD) | (tokens == BEGIN)
        if length < self.minimum_length:
            forbidden |= tokens == END
        values = values.float().clamp_max(0).masked_fill(forbidden, -torch.inf)
        ending = torch.full_like(values, -torch.inf)
        ending[:, 0] = log_probabilities[:, END].clamp_max(0)
        stop = only_end.repeat_interleave(totals.shape[1])[:, None]
        values, tokens = torch.where(stop, ending, values), tokens.masked_fill(stop, END)
        choices = values.shape[1]
        reached = (totals.flatten()[:, None] + values).view(len(totals), -1)
        reached, order = reached.sort(dim=1, descending=True, stable=True)
        return reached, order // choices, tokens.view(len(totals), -1).gather(1, order)

    def _finish(self, sentence: _Sentence, total: float, history: Tensor, attends: bool) -> None:
        """Counts a hypothesis with the history [t, 2] that ended, and keeps it if it is the best so far."""
        sentence.ended += 1
        score = total / self._penalty(len(history) + 1)
        if sentence.best is None or score > sentence.best.score:
            tokens, attended = history.T.tolist()
            sentence.best = Hypothesis(tuple(tokens), score, total, tuple(attended) if attends else None)

    def _is_done(self, sentence: _Sentence, best: float, length: int) -> bool:
        """Returns whether a sentence whose best open hypothesis has the sum `best` and `length` tokens is done."""
        if best == -float("inf") or sentence.ended >= self.beam:
            return True
        if sentence.best is None:
            return False
        # The sum can only fall; what the penalty can still make of it stands at one end of the lengths left.
        lengths = (max(length, self.minimum_length) + 1, sentence.limit + 1)
        return max(best / self._penalty(length) for length in lengths) <= sentence.best.score

    def _penalty(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.length_penalty)
