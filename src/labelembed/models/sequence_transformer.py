"""The Transformer encoder-decoder, of PyTorch's own layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults
from labelembed.models.source_rows import SourceRows, empty_batch_stand_in, real_tokens


@dataclass(frozen=True)
class TransformerState:
    """Where the decoder stands, one row a hypothesis.

    Attributes:
        source: Keys and values of the source for each decoder layer, [N, S, layers, 2, width].
        written: Keys and values of what is written so far, [N, t, layers, 2, width].
    """

    source: SourceRows
    written: Tensor

    def select(self, index: Tensor) -> TransformerState:
        """Returns the state with rows `index` [M] in this order; rows may be repeated or left out."""
        return TransformerState(self.source.select(index), self.written.index_select(0, index))


class TransformerSeq2Seq(nn.Module):
    """Encoder and decoder of `torch.nn`'s Transformer layers, each normalised before its parts.

    Positions are sinusoids, added to the embeddings times the root of the width. `step` keeps the keys and values
    of the source and of what is written, so that a step costs no more for what stands before it than reading them;
    its attention is that of the last layer, averaged over the heads.

    Args:
        source_vocabulary_size: Number of source tokens, the special ones among them.
        target_vocabulary_size: Number of target tokens, the special ones among them.
        width: Width of the embeddings and of every layer; even.
        heads: Attention heads; a divisor of the width.
        encoder_layers: Layers of the encoder.
        decoder_layers: Layers of the decoder.
        feedforward: Width inside the feed-forward parts.
        dropout: Probability of dropping a unit.
        shared_embeddings: Whether source and target use one embedding; takes a shared vocabulary.
        tied_output: Whether the output layer of the objective uses the weights of the target embedding; takes an
            objective with one output a label.
        maximum_length: Most tokens of a source or of a target, END or BEGIN counted.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: None: an output layer starts PyTorch's own way.
        target_embedding: The decoder's embedding, for an output layer that shares its weights.

    Shapes: source [B, S], target [B, T], output [B, T, hidden_size].

    Raises:
        ValueError: When an argument is out of range, or a sequence longer than `maximum_length`.

    References:
        Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        width: int = 256,
        heads: int = 4,
        encoder_layers: int = 3,
        decoder_layers: int = 3,
        feedforward: int = 1024,
        dropout: float = 0.1,
        shared_embeddings: bool = False,
        tied_output: bool = False,
        maximum_length: int = 1024,
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        sizes = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "heads": heads,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "feedforward": feedforward,
            "maximum_length": maximum_length,
        }
        for name, size in sizes.items():
            faults.require(size >= 1, name, size, "must be >= 1")
        divided = width >= 1 and width % 2 == 0 and (heads < 1 or width % heads == 0)
        faults.require(divided, "width", width, f"must be even and a multiple of the {heads} heads")
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        same = not shared_embeddings or source_vocabulary_size == target_vocabulary_size
        rule = f"must be the source's {source_vocabulary_size} for shared embeddings"
        faults.require(same, "target_vocabulary_size", target_vocabulary_size, rule)
        faults.raise_if_any()
        self.target_embedding = nn.Embedding(target_vocabulary_size, width)
        self.source_embedding = (
            self.target_embedding if shared_embeddings else nn.Embedding(source_vocabulary_size, width)
        )
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        settings: dict[str, Any] = {
            "dim_feedforward": feedforward,
            "dropout": dropout,
            "batch_first": True,
            "norm_first": True,
        }
        # Nested tensors would leave out padding in inference, but not with normalisation before the parts.
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, **settings),
            encoder_layers,
            norm=nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, **settings), decoder_layers)
        self.norm = nn.LayerNorm(width)
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.dim() > 1:  # the layers are copies of one, they would all start the same
                nn.init.xavier_uniform_(parameter)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("positions", sinusoids(maximum_length, width), persistent=False)
        self.maximum_length = maximum_length
        self.tied_output = tied_output
        self.hidden_size = width
        self.output_std: float | None = None

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Returns hidden rows [B, T, hidden_size] from (source [B, S], target [B, T]), the target given."""
        source, target = inputs
        if len(source) == 0:
            return self.forward(empty_batch_stand_in(target))[:0, : target.shape[1]]
        memory, real = self._read(source)
        # No mask for the target's padding: it stands at the end, where what is real does not look.
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device, dtype=torch.bool)
        written = self.decoder(
            self._embedded(self.target_embedding, target, "target"),
            memory,
            tgt_mask=causal,
            tgt_is_causal=True,
            memory_key_padding_mask=~real,
        )
        hidden: Tensor = self.norm(written)
        return hidden

    def encode(self, source: Tensor) -> TransformerState:
        """Returns the state that decoding starts from; source [B, S], PAD after the end of each row."""
        memory, real = self._read(source)
        layers = [_keys_and_values(layer.multihead_attn, memory) for layer in self._decoder_layers()]
        read = torch.stack(layers, dim=2)
        return TransformerState(SourceRows.of(read, real), read[:, :0])

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState, Tensor]:
        """Returns the hidden rows [N, hidden_size] after `tokens` [N], the next state and the attention [N, S]."""
        place = state.written.shape[1]
        rows = self._embedded(self.target_embedding, tokens[:, None], "target", first=place)
        written = []
        attention = rows.new_zeros(len(tokens), state.source.real.shape[1])
        for number, layer in enumerate(self._decoder_layers()):
            normed = layer.norm1(rows)
            new = _keys_and_values(layer.self_attn, normed).to(state.written.dtype)
            written.append(torch.cat([state.written[:, :, number], new], dim=1))
            rows = rows + layer.dropout1(_attended(layer.self_attn, normed, written[-1])[0])
            read, attention = _attended(
                layer.multihead_attn, layer.norm2(rows), state.source.values[:, :, number], state.source.real
            )
            rows = rows + layer.dropout2(read)
            inside = layer.dropout(layer.activation(layer.linear1(layer.norm3(rows))))
            rows = rows + layer.dropout3(layer.linear2(inside))
        hidden: Tensor = self.norm(rows)[:, 0]
        return hidden, TransformerState(state.source, torch.stack(written, dim=2)), attention

    def _read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the encoder's rows [B, S, width] and which are real [B, S]."""
        real = real_tokens(source)
        embedded = self._embedded(self.source_embedding, source, "source")
        if len(source) == 0:
            return embedded, real
        return self.encoder(embedded, src_key_padding_mask=~real), real

    def _embedded(self, embedding: nn.Module, tokens: Tensor, kind: str, *, first: int = 0) -> Tensor:
        """Returns [B, T, width] for tokens [B, T] whose positions begin at `first`."""
        length = first + tokens.shape[1]
        if length > self.maximum_length:
            raise ValueError(
                f"a {kind} of {length} tokens is longer than the network's `maximum_length` of {self.maximum_length}; "
                "shorten it, or build the network with a greater one"
            )
        rows: Tensor = embedding(tokens) * math.sqrt(self.hidden_size) + self.positions[first:length]
        dropped: Tensor = self.dropout(rows)
        return dropped

    def _decoder_layers(self) -> list[nn.TransformerDecoderLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, nn.TransformerDecoderLayer)]


def sinusoids(length: int, width: int) -> Tensor:
    """Returns [length, width]: sines, then cosines, of wavelengths from 2 pi to 20,000 pi."""
    rates = 10_000 ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _keys_and_values(attention: nn.MultiheadAttention, rows: Tensor) -> Tensor:
    """Returns the projected keys and values [N, S, 2, width] of rows [N, S, width]."""
    width = attention.embed_dim
    projected = F.linear(rows, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    return projected.view(*rows.shape[:2], 2, width)


def _attended(
    attention: nn.MultiheadAttention, rows: Tensor, read: Tensor, real: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns what rows [N, 1, width] read from keys and values [N, S, 2, width], and the weights [N, S]."""
    width, heads = attention.embed_dim, attention.num_heads
    query = F.linear(rows, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    query = query.view(len(rows), heads, 1, width // heads)
    keys, values = (part.view(*part.shape[:2], heads, width // heads).transpose(1, 2) for part in read.unbind(2))
    scores = (query @ keys.transpose(2, 3).to(query.dtype)).float() / math.sqrt(width // heads)
    if real is not None:
        scores = scores.masked_fill(~real[:, None, None], -torch.inf)
    weights = scores.softmax(-1)
    found = (weights.to(values.dtype) @ values).to(query.dtype).reshape(len(rows), 1, width)
    projected: Tensor = attention.out_proj(found)
    return projected, weights.mean(1)[:, 0]
