"""A classifier of texts by the words and n-grams that they have (Joulin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelembed.errors import ArgumentErrors
from labelembed.lab.sparse_rows import SparseRows


def texts_with_feature(inputs: SparseRows) -> Tensor:
    """Returns how many texts have each feature [width], int64; at 0 the number of texts."""
    counts = torch.bincount(inputs.ids, minlength=inputs.width)
    counts[0] = len(inputs)
    return counts


class BagOfWords(nn.Module):
    """The sum of the weighted vectors of a text's words and n-grams, and a hidden layer if one is wanted.

    hidden = sum of a[w] E[w] over the features w of the text, which the objective's linear layer classifies. A text of
    which no feature is known has the sum 0. With `mean` the weight is 1 / (number of features), as in "Bag of tricks
    for efficient text classification" (Joulin et al. 2017). With `tf-idf` the weights are those of scikit-learn's
    `TfidfTransformer` for features that occur once in a text: idf[w] = log((1 + N) / (1 + texts that have w)) + 1,
    scaled so that the squares of a text's weights sum to 1.

    Args:
        input_shape: (vocabulary_size,).
        vocabulary_size: Ids there are, 0 among them, which fills up inputs and has no vector.
        texts_with_feature: Of the N training texts how many have each feature [vocabulary_size], at 0 N itself; None:
            not known yet, the inverse frequencies come with the saved weights.
        embedding_size: Width of the vectors; 10 in the paper.
        weighting: `mean`: every feature of a text has the same weight; `tf-idf`: rare features have more.
        layer_size: Width of a hidden layer with ReLU on the mean; null: none, as in the paper.
        feature_dropout: Probability of leaving a feature out of its text in training.
        dropout: Probability of dropping a hidden unit in training.

    Shapes: inputs `SparseRows` of N texts, or their ids [N, features] int32, 0 where there is none, which is the form
    that exported networks take; output [N, hidden_size].
    """

    #: Inputs are ids of words, which no scaling may touch.
    reads_words = True
    output_std: float | None = None

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        vocabulary_size: int,
        texts_with_feature: Tensor | None = None,
        embedding_size: int = 32,
        weighting: Literal["mean", "tf-idf"] = "mean",
        layer_size: int | None = None,
        feature_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        errors = ArgumentErrors()
        errors.require(embedding_size >= 1, "embedding_size", embedding_size, "must be >= 1")
        errors.require(layer_size is None or layer_size >= 1, "layer_size", layer_size, "must be >= 1, or null")
        for name, value in (("feature_dropout", feature_dropout), ("dropout", dropout)):
            errors.require(0 <= value < 1, name, value, "must be in [0, 1)")
        errors.raise_if_any()
        self.feature_dropout = feature_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        # Small where rare features weigh most: what a text has once is hardly learned.
        bound = 1 / embedding_size if weighting == "mean" else 0.01
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        with torch.no_grad():
            self.embedding.weight[0].zero_()
        self.inverse_frequency: Tensor | None
        inverse_frequency = None
        if weighting == "tf-idf":
            texts = torch.zeros(vocabulary_size) if texts_with_feature is None else texts_with_feature.float()
            inverse_frequency = torch.log((1 + texts[0]) / (1 + texts)) + 1
        self.register_buffer("inverse_frequency", inverse_frequency)
        self.dropout = nn.Dropout(dropout)
        self.layer = None if layer_size is None else nn.Linear(embedding_size, layer_size)
        self.hidden_size = layer_size or embedding_size

    def forward(self, inputs: SparseRows | Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        ids = inputs if isinstance(inputs, Tensor) else inputs.ids
        if self.training and self.feature_dropout > 0:
            ids = ids * (torch.rand(ids.shape, device=ids.device) >= self.feature_dropout)  # 0 has no vector
        weights = (ids != 0).to(self.embedding.weight.dtype)
        if self.inverse_frequency is not None:
            weights = weights * self.inverse_frequency[ids.long()]
        if isinstance(inputs, Tensor):
            sums = (self.embedding(ids) * weights[..., None]).sum(dim=1)
            squares = weights.square().sum(dim=1)
        else:
            offsets = inputs.offsets.to(ids.dtype)
            sums = _sums(ids, self.embedding.weight, offsets, weights)
            every = torch.arange(len(ids), dtype=ids.dtype, device=ids.device)
            squares = _sums(every, weights.square()[:, None], offsets)[:, 0]
        # the mean divides by the number of features, which is the sum of squares where all weights are 1
        scale = squares if self.inverse_frequency is None else squares.sqrt()
        means = sums / scale.clamp(min=1)[:, None]  # one feature alone has 1 or more
        hidden: Tensor = self.dropout(means if self.layer is None else F.relu(self.layer(means)))
        return hidden


def _sums(ids: Tensor, vectors: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns the weighted sum [N, D] of each text's vectors."""
    return F.embedding_bag(ids, vectors, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
