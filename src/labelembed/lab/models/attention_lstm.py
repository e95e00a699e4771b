"""The encoder-decoder LSTM with global attention of Sun et al. 2017, sections 3.3 and 3.4."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from labelembed.errors import ArgumentErrors
from labelembed.lab.special_tokens import BEGIN, END, PAD


@dataclass(frozen=True)
class DecoderState:
    """Where a decoder stands, for N hypotheses."""

    source: Tensor  # what each reads of its source [N, S, ...]
    mask: Tensor  # which positions of it are no padding, bool [N, S]
    sentence: Tensor  # its position in the batch that was encoded [N]
    cache: tuple[Tensor, ...]  # what the decoder hands on from step to step, each [N, ...]

    def select(self, index: Tensor) -> DecoderState:
        """Returns the state of the hypotheses `index` [M] in this order; they may be repeated or left out."""
        sentence = self.sentence.index_select(0, index)
        cache = tuple(part.index_select(0, index) for part in self.cache)
        # In most steps of a search hypotheses only change places with others of their sentence: nothing to copy.
        if torch.equal(sentence, self.sentence):
            return replace(self, cache=cache)
        return DecoderState(self.source.index_select(0, index), self.mask.index_select(0, index), sentence, cache)


class AttentionLSTM(nn.Module):
    """An LSTM reads the source, a second one writes the target and attends to all of the source at each word.

    Luong's global attention with the "general" score, computed after the recurrent layers (no input feeding), so
    that training runs the decoder over the whole target in one call:

        weights = softmax(context . W h_t)      hidden = tanh(W_o [c_t; h_t])

    The bridge has no parameters: the decoder starts from the encoder's last hidden and cell states, layer by layer.
    Of a bidirectional encoder each direction is half as wide, and the two are put side by side. Dropout acts on
    the embeddings, between the layers, and on the hidden states returned.

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
        initial_range: r of the paper's start, every parameter from U(-r, r), and an output layer of the same
            deviation; None: PyTorch's own.

    Shapes: source [B, S], target [B, T], output [B, T, hidden_size].

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
        errors = ArgumentErrors()
        for name, size in (("embedding_size", embedding_size), ("width", width), ("layers", layers)):
            errors.require(size >= 1, name, size, "must be >= 1")
        errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        source, target = source_vocabulary_size, target_vocabulary_size
        rule = f"must be the source's {source} for shared embeddings"
        errors.require(not shared_embeddings or source == target, "target_vocabulary_size", target, rule)
        errors.require(not bidirectional or width % 2 == 0, "width", width, "must be even for a bidirectional encoder")
        tied = not tied_output or embedding_size == width
        errors.require(tied, "embedding_size", embedding_size, f"must be the width {width} for a tied output layer")
        errors.require(initial_range is None or initial_range > 0, "initial_range", initial_range, "must be > 0")
        errors.raise_if_any()
        super().__init__()
        self.target_embedding = nn.Embedding(target_vocabulary_size, embedding_size)
        self.source_embedding = self.target_embedding
        if not shared_embeddings:
            self.source_embedding = nn.Embedding(source_vocabulary_size, embedding_size)
        between = dropout if layers > 1 else 0.0  # PyTorch warns of dropout between layers that are not there
        recurrent = partial(nn.LSTM, embedding_size, num_layers=layers, batch_first=True, dropout=between)
        self.encoder = recurrent(width // 2 if bidirectional else width, bidirectional=bidirectional)
        self.decoder = recurrent(width)
        self.query = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(2 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.tied_output = tied_output
        self.hidden_size = width
        self.output_std = None if initial_range is None else initial_range / math.sqrt(3)  # that of U(-r, r)
        if initial_range is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -initial_range, initial_range)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Returns hidden states [B, T, hidden_size] from (source [B, S], target [B, T]), the target given."""
        source, target = inputs
        if len(source) > 0:
            return self._decode(target, self.encode(source))[0]
        # A process whose share of a batch is empty owes the others a gradient of every parameter: here zeros.
        source = target.new_full((1, 1), END)
        stand_in = target.new_full((1, max(1, target.shape[1])), BEGIN)
        return self._decode(stand_in, self.encode(source))[0][:0, : target.shape[1]]

    def encode(self, source: Tensor) -> DecoderState:
        """Returns the state that decoding starts from; source [B, S], PAD after the end of each sentence."""
        lengths = (source != PAD).sum(1).clamp_min(1)  # an empty sentence counts as one token
        embedded = self.dropout(self.source_embedding(source))
        # Packed: the direction that reads from the end must not begin in the padding.
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        encoded, last = self.encoder(packed)
        contexts, _ = pad_packed_sequence(encoded, batch_first=True, total_length=source.shape[1])
        cache = tuple(self._bridge(part).transpose(0, 1) for part in last)
        mask = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        return DecoderState(contexts, mask, torch.arange(len(source), device=source.device), cache)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Returns the hidden states [N, hidden_size] after `tokens` [N], the next state and the attention [N, S]."""
        hidden, weights, cache = self._decode(tokens[:, None], state)
        return hidden[:, 0], replace(state, cache=cache), weights[:, 0]

    def _bridge(self, last: Tensor) -> Tensor:
        """Returns [layers, B, width] from the encoder's last states, [layers * directions, B, width / directions]."""
        if not self.encoder.bidirectional:
            return last
        by_layer = last.reshape(-1, 2, *last.shape[1:])
        return torch.cat([by_layer[:, 0], by_layer[:, 1]], dim=-1)

    def _decode(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Returns the hidden states [N, T, width] after tokens [N, T], the attention [N, T, S], and the cache."""
        hidden, cell = (part.transpose(0, 1).contiguous() for part in state.cache)
        decoded, last = self.decoder(self.dropout(self.target_embedding(tokens)), (hidden, cell))
        contexts = state.source
        scores = self.query(decoded) @ contexts.transpose(1, 2).to(decoded.dtype)
        weights = scores.float().masked_fill(~state.mask[:, None], -torch.inf).softmax(-1)
        context = weights.to(contexts.dtype) @ contexts
        attended = self.dropout(torch.tanh(self.output(torch.cat([context, decoded], dim=-1))))
        return attended, weights, tuple(part.transpose(0, 1) for part in last)
