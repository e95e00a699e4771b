"""Beam search over any step function, batched over sentences and hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from labelembed.errors import ArgumentFaults
from labelembed.models.best_candidates import best_candidates
from labelembed.special_tokens import BEGIN, END, PAD, UNKNOWN


class SearchState(Protocol):
    """What a step function keeps between steps, one row a hypothesis."""

    def select(self, index: Tensor) -> Self:
        """Returns the rows `index` [M] in this order; rows may be repeated or left out."""
        ...


State = TypeVar("State", bound=SearchState)


@dataclass(frozen=True)
class Hypothesis:
    """One sequence that a search found.

    Attributes:
        tokens: The tokens, neither BEGIN nor END among them.
        score: What hypotheses are ordered by: the log-probability over the length penalty.
        log_probability: Sum of the log-probabilities of the tokens and, where it ended, of END.
        attention: For each token the source position with the highest attention; None when the step function
            tells of none.
        finished: Whether END was reached; only a sentence that never ended has hypotheses that were cut.
    """

    tokens: tuple[int, ...]
    score: float
    log_probability: float
    attention: tuple[int, ...] | None = None
    finished: bool = True


@dataclass
class _Beams:
    """The open hypotheses of the sentences still searched, [A, W] for A sentences, best first."""

    scores: Tensor
    tokens: Tensor  # [A, W, t]
    attention: Tensor | None  # [A, W, t]


class BeamSearch:
    """Finds the best sequences of each sentence; with `beam=1` it is greedy search.

    At each step every open hypothesis is continued by every token. Of all continuations of a sentence, those among
    the best `beam` that end are finished; the best `beam` others stay open. A sentence is done once it has `beam`
    finished hypotheses, or `n_best` that no open one can still beat; it then leaves the batch. At the maximum
    length the only token left is END. PAD and BEGIN are never produced. Of equal scores the one of the better
    open hypothesis comes first, then the smaller token; of equal finished ones the one that finished first.

    The score is sum(log p) / ((5 + length) / 6) ** length_penalty, END counted in the length (Wu et al. 2016,
    eq. 14); log-probabilities are summed in float32.

    Args:
        beam: Hypotheses kept open for each sentence.
        n_best: Hypotheses returned for each sentence, where as many finished; at most `beam`.
        maximum_length: Most tokens of a hypothesis, END not counted; None: twice the source's and 10.
        minimum_length: Fewest tokens of a hypothesis, END not counted.
        length_penalty: 0 compares log-probabilities; 1 nearly their means, which prefers longer hypotheses.

    Raises:
        ValueError: When an argument is out of range.

    Example:
        >>> def step(tokens, state):
        ...     hidden, state, attention = model.step(tokens, state)
        ...     return objective.logits(hidden).float().log_softmax(-1), state, attention
        >>> found = BeamSearch(beam=10).search(
        ...     step, model.encode(source), batch_size=len(source), source_lengths=lengths
        ... )  # doctest: +SKIP
        >>> found[0][0].tokens  # doctest: +SKIP
        (17, 5, 211, 8)
    """

    def __init__(
        self,
        *,
        beam: int = 10,
        n_best: int = 1,
        maximum_length: int | None = None,
        minimum_length: int = 0,
        length_penalty: float = 0.0,
    ) -> None:
        faults = ArgumentFaults()
        faults.require(beam >= 1, "beam", beam, "must be >= 1")
        faults.require(1 <= n_best <= max(beam, 1), "n_best", n_best, f"must be from 1 to the beam of {beam}")
        faults.require(minimum_length >= 0, "minimum_length", minimum_length, "must be >= 0")
        if maximum_length is not None:
            rule = f"must be >= 1 and no less than the minimum length of {minimum_length}"
            holds = maximum_length >= max(1, minimum_length)
            faults.require(holds, "maximum_length", maximum_length, rule)
        finite = abs(length_penalty) < float("inf")
        faults.require(finite, "length_penalty", length_penalty, "must be a finite number")
        faults.raise_if_any()
        self.beam = beam
        self.n_best = n_best
        self.maximum_length = maximum_length
        self.minimum_length = minimum_length
        self.length_penalty = length_penalty

    @torch.no_grad()
    def search(
        self,
        step: Callable[[Tensor, State], tuple[Tensor, State, Tensor | None]],
        state: State,
        *,
        batch_size: int,
        source_lengths: Tensor | Sequence[int] | None = None,
        device: torch.device | str | None = None,
    ) -> list[list[Hypothesis]]:
        """Returns for each sentence its hypotheses, best first; at least one, at most `n_best`.

        Args:
            step: Takes the last tokens [N] and a state of N rows; returns the log-probabilities [N, C] of what
                comes next, the next state, and the attention [N, S] or None. The first call has the BEGIN of
                every sentence, N = `batch_size`.
            state: The state to begin with, one row a sentence.
            batch_size: Number of sentences.
            source_lengths: Tokens of each source, END counted or not; needed when there is no maximum length.
            device: Where the tokens given to `step` live; None: that of `source_lengths`, or PyTorch's default.

        Raises:
            ValueError: When the lengths do not fit, or when what `step` returns are no log-probabilities.
        """
        limits = self._limits(batch_size, source_lengths)
        if device is None and isinstance(source_lengths, Tensor):
            device = source_lengths.device
        found: list[list[Hypothesis]] = [[] for _ in range(batch_size)]
        ended = [0] * batch_size  # finished hypotheses, those that were not good enough to keep among them
        active = list(range(batch_size))
        beams = _Beams(
            torch.zeros(batch_size, 1, device=device),
            torch.zeros(batch_size, 1, 0, dtype=torch.long, device=device),
            None,
        )
        tokens = torch.full((batch_size,), BEGIN, dtype=torch.long, device=device)
        length = 0
        while active:
            log_probabilities, state, attention = step(tokens, state)
            if length == 0 and attention is not None:
                beams.attention = beams.tokens  # nothing attended yet
            may_go_on = torch.tensor([length < limits[sentence] for sentence in active], device=tokens.device)
            scores, parents, chosen, endings = self._continuations(beams.scores, log_probabilities, may_go_on, length)
            self._finish(found, ended, active, beams, endings, length)
            kept = []
            for place, best in enumerate(scores[:, 0].tolist()):
                sentence = active[place]
                if self._is_done(best, found[sentence], ended[sentence], length + 1, limits[sentence]):
                    found[sentence] = found[sentence] or self._cut(beams, place)
                else:
                    kept.append(place)
            if not kept:
                break
            beams, rows = _continued(beams, kept, scores, parents, chosen, attention)
            state = state.select(rows)
            tokens = beams.tokens[..., -1].flatten()
            active = [active[place] for place in kept]
            length += 1
        return found

    def _limits(self, batch_size: int, source_lengths: Tensor | Sequence[int] | None) -> list[int]:
        """Returns the most tokens of each sentence."""
        lengths = source_lengths.tolist() if isinstance(source_lengths, Tensor) else source_lengths
        if lengths is not None and len(lengths) != batch_size:
            raise ValueError(f"`source_lengths` must be {batch_size} numbers, one a sentence, got {len(lengths)}")
        if self.maximum_length is not None:
            return [self.maximum_length] * batch_size
        if lengths is None:
            raise ValueError("`source_lengths` must be given when `maximum_length` is None")
        return [max(2 * int(size) + 10, self.minimum_length) for size in lengths]

    def _continuations(
        self, open_scores: Tensor, log_probabilities: Tensor, may_go_on: Tensor, length: int
    ) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int, float]]]:
        """Returns the best continuations, and those that end.

        Args:
            open_scores: Sums of log-probabilities [A, W].
            log_probabilities: Of the next token, [A * W, C].
            may_go_on: Which sentences are below their maximum length, bool [A].
            length: Tokens of the open hypotheses.

        Returns:
            Sums, parents and tokens of the next open hypotheses, each [A, W'], best first, minus infinity where there
            are no more; and (place of the sentence, parent, sum) of those that ended, best first.
        """
        sentences, width = open_scores.shape
        # Three of the best may be tokens that cannot go on.
        values, tokens = best_candidates(log_probabilities, self.beam + 3)
        if values.numel() and not bool((values[:, 0] <= 1e-3).all()):
            raise ValueError(
                f"`step` must return log-probabilities, not above 0, got {float(values[:, 0].max())}; "
                "logits.float().log_softmax(-1) makes them"
            )
        special = (tokens == PAD) | (tokens == BEGIN) | (tokens == END)
        values = values.masked_fill(special, -torch.inf)
        ending = log_probabilities[:, END : END + 1]
        if length < self.minimum_length:
            ending = torch.full_like(ending, -torch.inf)
        values = torch.cat([values, ending], dim=1).float().clamp_max(0)
        tokens = torch.cat([tokens.masked_fill(special, UNKNOWN), torch.full_like(tokens[:, :1], END)], dim=1)
        # In the order in which equal ones are to come.
        tokens, order = tokens.sort(dim=1, stable=True)
        values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        choices = tokens.shape[1]
        tokens = tokens.gather(1, order).view(sentences, width, choices)
        totals = open_scores[..., None] + values.view(sentences, width, choices)
        totals = totals.masked_fill(~may_go_on[:, None, None] & (tokens != END), -torch.inf).flatten(1)
        totals, order = totals.sort(dim=1, descending=True, stable=True)
        tokens, parents = tokens.flatten(1).gather(1, order), order // choices
        ends = tokens == END
        finished = (ends[:, : self.beam] & (totals[:, : self.beam] > -torch.inf)).nonzero()
        places, ranks = finished.unbind(1)
        endings = list(
            zip(places.tolist(), parents[places, ranks].tolist(), totals[places, ranks].tolist(), strict=True)
        )
        # Each open hypothesis ends in one way, so the best `beam + width` hold `beam` that go on.
        first = min(self.beam + width, width * choices)
        going_on = ends[:, :first].to(torch.uint8).sort(dim=1, stable=True).indices[:, : first - width]
        totals, parents, tokens = (part.gather(1, going_on) for part in (totals, parents, tokens))
        return totals, parents, tokens, endings

    def _finish(
        self,
        found: list[list[Hypothesis]],
        ended: list[int],
        active: list[int],
        beams: _Beams,
        endings: list[tuple[int, int, float]],
        length: int,
    ) -> None:
        """Adds the hypotheses that ended to what was found, and keeps the `n_best` of each sentence."""
        for place, parent, total in endings:
            sentence = active[place]
            ended[sentence] += 1
            score = total / self._penalty(length + 1)
            best = found[sentence]
            if len(best) < self.n_best or score > best[-1].score:
                best.append(_hypothesis(beams, place, parent, score, total))
                best.sort(key=lambda one: -one.score)  # stable: of equal ones the first that finished
                del best[self.n_best :]

    def _is_done(self, total: float, found: list[Hypothesis], ended: int, length: int, limit: int) -> bool:
        """Returns whether a sentence whose best open hypothesis has the sum `total` and `length` tokens is done."""
        if total == -float("inf") or ended >= self.beam:
            return True
        if len(found) < self.n_best:
            return False
        # The sum can only fall; what the penalty can still make of it stands at one end of the lengths left.
        lengths = (max(length, self.minimum_length) + 1, limit + 1)
        return max(total / self._penalty(length) for length in lengths) <= found[-1].score

    def _cut(self, beams: _Beams, place: int) -> list[Hypothesis]:
        """Returns the hypotheses of a sentence none of which could end, as far as they came."""
        totals = beams.scores[place].tolist()[: self.n_best]
        penalty = self._penalty(beams.tokens.shape[2])
        return [
            _hypothesis(beams, place, row, total / penalty, total, finished=False)
            for row, total in enumerate(totals)
            if total > -float("inf")
        ]

    def _penalty(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.length_penalty)


def _hypothesis(
    beams: _Beams, place: int, row: int, score: float, total: float, *, finished: bool = True
) -> Hypothesis:
    attention = None if beams.attention is None else tuple(beams.attention[place, row].tolist())
    return Hypothesis(tuple(beams.tokens[place, row].tolist()), score, total, attention, finished)


def _continued(
    beams: _Beams, kept: list[int], scores: Tensor, parents: Tensor, chosen: Tensor, attention: Tensor | None
) -> tuple[_Beams, Tensor]:
    """Returns the open hypotheses of the sentences at the places `kept`, and the row that each came from."""
    places = torch.tensor(kept, device=scores.device)
    width = beams.scores.shape[1]
    parents = parents[places]
    rows = (places[:, None] * width + parents).flatten()
    before = beams.tokens.flatten(0, 1)[rows].view(*parents.shape, -1)
    tokens = torch.cat([before, chosen[places][..., None]], dim=2)
    attended = None
    if attention is not None and beams.attention is not None:
        attended = torch.cat([beams.attention.flatten(0, 1)[rows], attention.argmax(1)[rows][:, None]], dim=1)
        attended = attended.view_as(tokens)
    return _Beams(scores[places], tokens, attended), rows
