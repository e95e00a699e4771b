"""What a decoder reads of its source, a row a hypothesis; copied only where hypotheses change sentences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labelembed.special_tokens import BEGIN, END, PAD


@dataclass(frozen=True)
class SourceRows:
    """Values of the source, one row a hypothesis; hypotheses of one sentence read the same.

    Attributes:
        values: What row n reads, [N, S, ...].
        real: Which positions of row n are no padding, bool [N, S].
        sentence: The sentence of row n, [N]; sentences are numbered as they stood in the batch that was encoded.
    """

    values: Tensor
    real: Tensor
    sentence: Tensor

    @classmethod
    def of(cls, values: Tensor, real: Tensor) -> SourceRows:
        """Returns the rows of a batch just encoded, one a sentence."""
        return cls(values, real, torch.arange(len(values), device=values.device))

    def select(self, index: Tensor) -> SourceRows:
        """Returns the rows `index` [M] in this order."""
        sentence = self.sentence.index_select(0, index)
        # In most steps of a search hypotheses only change places with others of their sentence: nothing to copy.
        if torch.equal(sentence, self.sentence):
            return self
        return SourceRows(self.values.index_select(0, index), self.real.index_select(0, index), sentence)


def real_tokens(source: Tensor) -> Tensor:
    """Returns bool [B, S], which positions of `source` are no padding; an empty row counts as one token."""
    lengths = (source != PAD).sum(1).clamp_min(1)
    return torch.arange(source.shape[1], device=source.device) < lengths[:, None]


def empty_batch_stand_in(target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a source [1, 1] and a target [1, T] to compute in place of a batch without rows.

    The caller drops the row again; its gradients are zeros, but every parameter has one, which a process whose
    share of the batch is empty owes to the others.
    """
    source = torch.full((1, 1), END, dtype=torch.long, device=target.device)
    return source, torch.full((1, max(1, target.shape[1])), BEGIN, dtype=torch.long, device=target.device)
