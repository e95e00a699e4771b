"""A classifier of texts by the words and n-grams that they have (Joulin et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelembed.errors import ArgumentFaults


class BagOfWords(nn.Module):
    """The mean of the vectors of a text's words and n-grams, and a hidden layer if one is wanted.

    As in "Bag of tricks for efficient text classification" (Joulin et al. 2017): hidden = mean of E[w] over the
    features w of the text, which the objective's linear layer classifies. A text of which no feature is known has the
    mean 0.

    Args:
        input_shape: (features,): the length of one input.
        vocabulary_size: Numbers there are, 0 among them, which fills up inputs and has no vector.
        embedding_size: Width of the vectors; 10 in the paper.
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
        embedding_size: int = 32,
        layer_size: int | None = None,
        feature_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        faults.require(embedding_size >= 1, "embedding_size", embedding_size, "must be >= 1")
        faults.require(layer_size is None or layer_size >= 1, "layer_size", layer_size, "must be >= 1, or null")
        for name, value in (("feature_dropout", feature_dropout), ("dropout", dropout)):
            faults.require(0 <= value < 1, name, value, "must be in [0, 1)")
        faults.raise_if_any()
        self.feature_dropout = feature_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -1 / embedding_size, 1 / embedding_size)
        with torch.no_grad():
            self.embedding.weight[0].zero_()
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
            vectors = self.embedding(inputs) * present[..., None]
            means = vectors.sum(dim=1) / counts.clamp(min=1)[:, None]
        else:
            # inputs are mostly filling: the bags are summed over what is there
            ends = counts.cumsum(0)
            means = F.embedding_bag(inputs[present], self.embedding.weight, (ends - counts).int(), mode="mean")
        hidden: Tensor = self.dropout(means)
        return hidden if self.layer is None else self.dropout(F.relu(self.layer(means)))
