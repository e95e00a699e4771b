"""The encoder-decoder LSTM with global attention of Sun et al. 2017, sections 3.3 and 3.4."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from labelembed.errors import ArgumentFaults
from labelembed.models.source_rows import SourceRows, empty_batch_stand_in, real_tokens


@dataclass(frozen=True)
class AttentionLSTMState:
    """Where the decoder stands, one row a hypothesis.

    Attributes:
        source: Contexts [B, S, width] and which of them are real [B, S], and the sentence that each row reads.
        hidden: Hidden states [layers, N, width].
        cell: Cell states [layers, N, width].
    """

    source: SourceRows
    hidden: Tensor
    cell: Tensor

    def select(self, index: Tensor) -> AttentionLSTMState:
        """Returns the state with rows `index` [M] in this order; rows may be repeated or left out."""
        return AttentionLSTMState(
            self.source.select(index), self.hidden.index_select(1, index), self.cell.index_select(1, index)
        )


class AttentionLSTM(nn.Module):
    """An LSTM reads the source, a second one writes the target and attends to all of the source at each word.

    Luong's global attention with the "general" score, computed after the recurrent layers (no input feeding), so
    that training runs the decoder over the whole target in one call:

        weights = softmax(context . W h_t)      hidden = tanh(W_o [c_t; h_t])

    The bridge has no parameters: the decoder starts from the encoder's last hidden and cell states, layer by layer.
    Of a bidirectional encoder each direction is half as wide, and the two are put side by side. Dropout acts on
    the embeddings, between the layers, and on the rows returned.

    Args:
        source_vocabulary_size: Number of source tokens, the special ones among them.
        target_vocabulary_size: Number of target tokens, the special ones among them.
        embedding_size: Width of the token embeddings.
        width: Width of encoder, decoder and attention.
        layers: Layers of the encoder and of the decoder.
        bidirectional: Whether the encoder reads from both ends; takes an even width.
        dropout: Probability of dropping a unit.
        shared_embeddings: Whether source and target use one embedding; takes a shared vocabulary.
        tied_output: Whether the output layer of the objective uses the weights of the target embedding; takes an
            `embedding_size` that is `width`, and an objective with one output a label.
        initial_range: r of the paper's start, every parameter from U(-r, r); None: PyTorch's own.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: Standard deviation the output layer should start with, that of U(-r, r); None for PyTorch's own.
        target_embedding: The decoder's embedding, for an output layer that shares its weights; for that,
            `embedding_size` must be `width`.

    Shapes: source [B, S], target [B, T], output [B, T, hidden_size].

    Raises:
        ValueError: When an argument is out of range.

    References:
        Luong, Pham, Manning 2015, https://arxiv.org/abs/1508.04025.
    """

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        embedding_size: int = 256,
        width: int = 256,
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.2,
        shared_embeddings: bool = False,
        tied_output: bool = False,
        initial_range: float | None = 0.1,
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        sizes = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "embedding_size": embedding_size,
            "width": width,
            "layers": layers,
        }
        for name, size in sizes.items():
            faults.require(size >= 1, name, size, "must be >= 1")
        faults.require(not bidirectional or width % 2 == 0, "width", width, "must be even for a bidirectional encoder")
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        same = not shared_embeddings or source_vocabulary_size == target_vocabulary_size
        rule = f"must be the source's {source_vocabulary_size} for shared embeddings"
        faults.require(same, "target_vocabulary_size", target_vocabulary_size, rule)
        tied = not tied_output or embedding_size == width
        faults.require(tied, "embedding_size", embedding_size, f"must be the width {width} for a tied output layer")
        faults.require(initial_range is None or initial_range > 0, "initial_range", initial_range, "must be > 0")
        faults.raise_if_any()
        self.target_embedding = nn.Embedding(target_vocabulary_size, embedding_size)
        self.source_embedding = (
            self.target_embedding if shared_embeddings else nn.Embedding(source_vocabulary_size, embedding_size)
        )
        between = dropout if layers > 1 else 0.0  # PyTorch warns of dropout between layers that are not there
        self.encoder = nn.LSTM(
            embedding_size,
            width // 2 if bidirectional else width,
            layers,
            batch_first=True,
            dropout=between,
            bidirectional=bidirectional,
        )
        self.decoder = nn.LSTM(embedding_size, width, layers, batch_first=True, dropout=between)
        self.query = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(2 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.tied_output = tied_output
        self.hidden_size = width
        self.output_std = None if initial_range is None else initial_range / math.sqrt(3)
        if initial_range is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -initial_range, initial_range)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Returns hidden rows [B, T, hidden_size] from (source [B, S], target [B, T]), the target given."""
        source, target = inputs
        if len(source) == 0:
            return self.forward(empty_batch_stand_in(target))[:0, : target.shape[1]]
        state = self.encode(source)
        written, _ = self.decoder(self.dropout(self.target_embedding(target)), (state.hidden, state.cell))
        return self._attend(written, state.source)[0]

    def encode(self, source: Tensor) -> AttentionLSTMState:
        """Returns the state that decoding starts from; source [B, S], PAD after the end of each row."""
        real = real_tokens(source)
        embedded = self.dropout(self.source_embedding(source))
        if len(source) == 0:
            nothing = embedded.new_zeros(self.decoder.num_layers, 0, self.hidden_size)
            contexts = embedded.new_zeros(0, source.shape[1], self.hidden_size)
            return AttentionLSTMState(SourceRows.of(contexts, real), nothing, nothing)
        # Packed: the direction that reads from the end must not begin in the padding.
        packed = pack_padded_sequence(embedded, real.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        read, (hidden, cell) = self.encoder(packed)
        contexts, _ = pad_packed_sequence(read, batch_first=True, total_length=source.shape[1])
        return AttentionLSTMState(SourceRows.of(contexts, real), self._bridge(hidden), self._bridge(cell))

    def step(self, tokens: Tensor, state: AttentionLSTMState) -> tuple[Tensor, AttentionLSTMState, Tensor]:
        """Returns the hidden rows [N, hidden_size] after `tokens` [N], the next state and the attention [N, S]."""
        embedded = self.dropout(self.target_embedding(tokens))[:, None]
        if len(tokens) == 0:
            nothing = embedded.new_zeros(0, self.hidden_size)
            return nothing, state, embedded.new_zeros(0, state.source.real.shape[1])
        written, (hidden, cell) = self.decoder(embedded, (state.hidden, state.cell))
        rows, weights = self._attend(written, state.source)
        return rows[:, 0], replace(state, hidden=hidden, cell=cell), weights[:, 0]

    def _bridge(self, states: Tensor) -> Tensor:
        """Returns [layers, B, width] from the encoder's last states, [layers * directions, B, width / directions]."""
        if not self.encoder.bidirectional:
            return states
        by_layer = states.reshape(-1, 2, *states.shape[1:])
        return torch.cat([by_layer[:, 0], by_layer[:, 1]], dim=-1)

    def _attend(self, written: Tensor, source: SourceRows) -> tuple[Tensor, Tensor]:
        """Returns the rows [N, T, width] and the weights [N, T, S] for the decoder's outputs [N, T, width]."""
        contexts = source.values
        scores = self.query(written) @ contexts.transpose(1, 2).to(written.dtype)
        weights = scores.float().masked_fill(~source.real[:, None], -torch.inf).softmax(-1)
        read = weights.to(contexts.dtype) @ contexts
        return self.dropout(torch.tanh(self.output(torch.cat([read, written], dim=-1)))), weights
