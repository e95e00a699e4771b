"""Sentences out of a trained network: greedy or by beam search, sentences of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.models import BeamSearch, Hypothesis
from labelembed.special_tokens import END, PAD
from labelembed.training.network import Network

# Hypotheses and source tokens of one batch: what attention holds for each step.
_TOKENS_AT_ONCE = 20_000

Tokens = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Decoding:
    """How sentences are found.

    Args:
        beam: Hypotheses kept for each sentence; 1: greedy.
        n_best: Hypotheses returned for each sentence.
        length_penalty: Scores are divided by ((5 + length) / 6) to this power; 0: wide beams prefer short sentences,
            the more so the softer the targets were.
        minimum_length: Tokens before a sentence may end.
        maximum_length: Tokens at most; None: twice the source's and ten.
        replace_unknown: Put the source word with the highest attention in the place of an unknown word.
    """

    beam: int = 1
    n_best: int = 1
    length_penalty: float = 1.0
    minimum_length: int = 0
    maximum_length: int | None = None
    replace_unknown: bool = False

    def search(self) -> BeamSearch:
        """Returns the search.

        Raises:
            ValueError: When an argument is out of its range.
        """
        return BeamSearch(
            beam=self.beam,
            n_best=self.n_best,
            length_penalty=self.length_penalty,
            minimum_length=self.minimum_length,
            maximum_length=self.maximum_length,
        )


def decode(
    network: Network,
    sources: Sequence[Tokens],
    decoding: Decoding,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[Hypothesis]]:
    """Returns the hypotheses of each sentence, best first, in the order of the sentences.

    Args:
        network: Of a sequence model; in evaluation mode for the time of this, its mode is put back.
        sources: Tokens of each sentence, without END.
        decoding: How they are found.
        autocast: Makes the precision to compute in; the log-probabilities are float32 in any.
        observe: Called with (done, total) after each batch.
    """
    found: list[list[Hypothesis]] = [[] for _ in sources]
    done = 0
    for places, hypotheses in decoded_batches(network, sources, decoding, autocast=autocast):
        for place, best in zip(places, hypotheses, strict=True):
            found[place] = best
        done += len(places)
        observe(done, len(sources))
    return found


def decoded_batches(
    network: Network,
    sources: Sequence[Tokens],
    decoding: Decoding,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[tuple[list[int], list[list[Hypothesis]]]]:
    """Gives the places of some sentences and their hypotheses, until all have had their turn; see `decode`."""
    search = decoding.search()
    device = next(network.parameters()).device
    encoder: Any = network.encoder
    objective = network.objective

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor | None]:
        with autocast():
            hidden, state, attention = encoder.step(tokens, state)
            logits = objective.logits(hidden)
        return logits.float().log_softmax(-1), state, attention

    was_training = network.training
    network.eval()
    try:
        for places in _batches_by_length([len(source) for source in sources], beam=decoding.beam):
            source = _padded([sources[place] for place in places]).to(device)
            with torch.no_grad():
                with autocast():
                    state = encoder.encode(source)
                lengths = (source != PAD).sum(1)
                yield places, search.search(step, state, batch_size=len(places), source_lengths=lengths, device=device)
    finally:
        network.train(was_training)


def _batches_by_length(lengths: Sequence[int], *, beam: int) -> Iterator[list[int]]:
    """Gives the places of sentences of like length, the longest first: what does not fit shows at once."""
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = longest or lengths[place] + 1
        if batch and (len(batch) + 1) * longest * beam > _TOKENS_AT_ONCE:
            yield batch
            batch, longest = [], lengths[place] + 1
        batch.append(place)
    if batch:
        yield batch


def _padded(sources: Sequence[Tokens]) -> Tensor:
    """Returns source tokens [B, S] with END behind each sentence."""
    table = np.full((len(sources), max(len(source) for source in sources) + 1), PAD, np.int64)
    for row, source in zip(table, sources, strict=True):
        row[: len(source)] = source
        row[len(source)] = END
    return torch.from_numpy(table)
