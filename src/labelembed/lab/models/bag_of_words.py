"""A classifier of texts by the words and n-grams that they have (Joulin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelembed.errors import ArgumentErrors

# Vectors start as small as this where rare features weigh most: what a text has once is hardly learned.
_BOUND = 0.01


def texts_with_feature(inputs: Tensor, vocabulary_size: int) -> Tensor:
    """Returns how many texts have each feature [vocabulary_size], int64; at 0, which fills up, their number.

    Args:
        inputs: Features of each text [N, features], each once, and zeros.
        vocabulary_size: Numbers there are, 0 among them.
    """
    counts = torch.bincount(inputs.flatten(), minlength=vocabulary_size)
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
        input_shape: (features,): the length of one input.
        vocabulary_size: Numbers there are, 0 among them, which fills up inputs and has no vector.
        texts_with_feature: Of the N training texts how many have each feature [vocabulary_size], at 0 N itself; None:
            not known yet, the inverse frequencies come with the saved weights.
        embedding_size: Width of the vectors; 10 in the paper.
        weighting: `mean`: every feature of a text has the same weight; `tf-idf`: rare features have more.
        layer_size: Width of a hidden layer with ReLU on the mean; null: none, as in the paper.
        feature_dropout: Probability of leaving a feature out of its text in training.
        dropout: Probability of dropping a hidden unit in training.

    Shapes: inputs [N, features] int32, 0 where there is none; output [N, hidden_size].
    """

    #: Inputs are numbers of words, which no scaling may touch.
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
        bound = 1 / embedding_size if weighting == "mean" else _BOUND
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

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        present = inputs != 0
        if self.training and self.feature_dropout > 0:
            present = present & (torch.rand(inputs.shape, device=inputs.device) >= self.feature_dropout)
        counts = present.sum(dim=1)
        if torch.compiler.is_exporting() or torch.compiler.is_compiling():  # shapes may not depend on the numbers
            frequency = self.inverse_frequency
            weights = present.float() if frequency is None else frequency[inputs.long()] * present  # ONNX wants int64
            vectors = self.embedding(inputs) * weights[..., None]
            sums = vectors.sum(dim=1) / self._scale(weights)[:, None]
        else:
            # inputs are mostly filling: the bags are summed over what is there
            begins = (counts.cumsum(0) - counts).int()
            features = inputs[present]
            if self.inverse_frequency is None:
                sums = F.embedding_bag(features, self.embedding.weight, begins, mode="mean")
            else:
                scale = self._scale(self.inverse_frequency[inputs] * present)
                weights = self.inverse_frequency[features] / scale.repeat_interleave(counts)
                sums = F.embedding_bag(features, self.embedding.weight, begins, mode="sum", per_sample_weights=weights)
        hidden: Tensor = self.dropout(sums)
        return hidden if self.layer is None else self.dropout(F.relu(self.layer(sums)))

    def _scale(self, weights: Tensor) -> Tensor:
        """Returns what the weights [N, features] of each text are divided by [N]."""
        if self.inverse_frequency is None:
            return weights.sum(dim=1).clamp(min=1)
        return weights.square().sum(dim=1).sqrt().clamp(min=1)  # one feature alone has 1 or more
