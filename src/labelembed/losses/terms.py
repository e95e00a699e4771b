from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LabelEmbeddingTerms(NamedTuple):
    """Terms of `LabelEmbedding`: scalars; all but `total` unweighted, 0 where a term has no part."""

    total: Tensor
    output: Tensor
    target: Tensor
    auxiliary: Tensor
    hinge: Tensor
    embedding: Tensor
    uniform: Tensor
