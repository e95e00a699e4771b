"""Encoders of transformers in local folders, fine-tuned as a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors
from labelembed.lab.pretrained_text import load_encoder, mean_hidden, mean_hidden_by_length


class TextTransformer(nn.Module):
    """A pre-trained encoder from a local folder, fine-tuned.

    The last hidden states are averaged over the tokens of each text. Nothing is downloaded, and no code of the folder
    is run. Batches are padded to their own longest text.

    Args:
        input_shape: (tokens,): the length of one input.
        encoder_folder: Of the transformers model, which `data.encoder` names.
        encoder_filled: Begin with the folder's weights; otherwise with random ones, for others to be loaded into.
        learning_rate_factor: The encoder's learning rate as a multiple of the optimiser's, at which the output layers
            learn: 0.02 of 1e-3 is 2e-5.
        dropout: Probability of dropping a hidden unit of the mean; the encoder has its own inside.

    Shapes: inputs [N, tokens] int32, each token's number plus 1 and 0 where there is none; output [N, hidden_size].

    Raises DataError where the folder cannot be read, ValueError for arguments out of range.
    """

    #: Inputs are numbers of tokens, which no scaling may touch.
    reads_words = True
    output_std: float | None = None

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        encoder_folder: Path,
        encoder_filled: bool = True,
        learning_rate_factor: float = 0.02,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.check_arguments(learning_rate_factor=learning_rate_factor, dropout=dropout)
        self.layers: Any = load_encoder(encoder_folder, maximum_tokens=input_shape[0], filled=encoder_filled)
        self.layers.train()
        self.learning_rate_factor = learning_rate_factor
        self.dropout = nn.Dropout(dropout)
        self.hidden_size = int(self.layers.config.hidden_size)

    @staticmethod
    def check_arguments(*, learning_rate_factor: float, dropout: float, **_: Any) -> None:
        """Raises ValueError where an argument is out of its range, without building anything."""
        errors = ArgumentErrors()
        errors.require(learning_rate_factor > 0, "learning_rate_factor", learning_rate_factor, "must be > 0")
        errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        errors.raise_if_any()

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        at_once = torch.is_grad_enabled() or torch.compiler.is_exporting()
        hidden: Tensor = self.dropout((mean_hidden if at_once else mean_hidden_by_length)(self.layers, inputs))
        return hidden

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns what is trained, with its own learning rate; see `training.optimizers`."""
        return [{"params": list(self.parameters()), "learning_rate_factor": self.learning_rate_factor}]
