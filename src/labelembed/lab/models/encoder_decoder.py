"""What the networks that read a source and write a target share: the call, the checks, and a decoder's state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors
from labelembed.lab.special_tokens import BEGIN, END, PAD


@dataclass(frozen=True)
class DecoderState:
    """Where a decoder stands, for N hypotheses.

    Attributes:
        source: What each hypothesis reads of its source, [N, S, ...].
        real: Which positions of it are no padding, bool [N, S].
        sentence: The sentence of each hypothesis, [N], by its place in the batch that was encoded.
        cache: What the decoder hands on from step to step, each [N, ...].
    """

    source: Tensor
    real: Tensor
    sentence: Tensor
    cache: tuple[Tensor, ...]

    @classmethod
    def of_batch(cls, source: Tensor, real: Tensor, cache: tuple[Tensor, ...]) -> DecoderState:
        """Returns the state of a batch just encoded, one hypothesis a sentence."""
        return cls(source, real, torch.arange(len(source), device=source.device), cache)

    def select(self, index: Tensor) -> DecoderState:
        """Returns the state of the hypotheses `index` [M] in this order; they may be repeated or left out."""
        sentence = self.sentence.index_select(0, index)
        cache = tuple(part.index_select(0, index) for part in self.cache)
        # In most steps of a search hypotheses only change places with others of their sentence: nothing to copy.
        if torch.equal(sentence, self.sentence):
            return replace(self, cache=cache)
        return DecoderState(self.source.index_select(0, index), self.real.index_select(0, index), sentence, cache)


class EncoderDecoder(nn.Module, ABC):
    """The call of both networks; each adds `encode`, `step` and `_all_at_once`.

    Each has `target_embedding`, the decoder's, and `tied_output`, whether an output layer is to share its weights.
    """

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Returns hidden states [B, T, hidden_size] from (source [B, S], target [B, T]), the target given."""
        source, target = inputs
        if len(source) > 0:
            return self._all_at_once(source, target)
        # A process whose share of a batch is empty owes the others a gradient of every parameter: here zeros.
        source = target.new_full((1, 1), END)
        stand_in = target.new_full((1, max(1, target.shape[1])), BEGIN)
        return self._all_at_once(source, stand_in)[:0, : target.shape[1]]

    @abstractmethod
    def _all_at_once(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns hidden states [B, T, hidden_size]; the batch is not empty."""


def sequence_errors(sizes: Mapping[str, int], *, shared_embeddings: bool, dropout: float) -> ArgumentErrors:
    """Returns what is wrong with the arguments that both networks have; `sizes` are numbers from 1 on, by name."""
    errors = ArgumentErrors()
    for name, size in sizes.items():
        errors.require(size >= 1, name, size, "must be >= 1")
    errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
    source, target = sizes["source_vocabulary_size"], sizes["target_vocabulary_size"]
    rule = f"must be the source's {source} for shared embeddings"
    errors.require(not shared_embeddings or source == target, "target_vocabulary_size", target, rule)
    return errors


def real_tokens(source: Tensor) -> Tensor:
    """Returns bool [B, S], which positions of `source` are no padding; an empty sentence counts as one token."""
    lengths = (source != PAD).sum(1).clamp_min(1)
    return torch.arange(source.shape[1], device=source.device) < lengths[:, None]
