"""The Transformer encoder-decoder, of PyTorch's own layers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.lab.models.encoder_decoder import DecoderState, EncoderDecoder, real_tokens, sequence_errors


class TransformerSeq2Seq(EncoderDecoder):
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

    Shapes: source [B, S], target [B, T], output [B, T, hidden_size].

    Raises:
        ValueError: When an argument is out of range, or a sequence longer than `maximum_length`.

    References:
        Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.
    """

    positions: Tensor
    output_std: float | None = None

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
        sizes = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "heads": heads,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "feedforward": feedforward,
            "maximum_length": maximum_length,
        }
        errors = sequence_errors(sizes, shared_embeddings=shared_embeddings, dropout=dropout)
        divided = width >= 1 and width % 2 == 0 and (heads < 1 or width % heads == 0)
        errors.require(divided, "width", width, f"must be even and a multiple of the {heads} heads")
        errors.raise_if_any()
        super().__init__()
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

    def _all_at_once(self, source: Tensor, target: Tensor) -> Tensor:
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

    def encode(self, source: Tensor) -> DecoderState:
        """Returns the state that decoding starts from; source [B, S], PAD after the end of each sentence."""
        memory, real = self._read(source)
        read = [_keys_and_values(layer.multihead_attn, memory) for layer in self._decoder_layers()]
        nothing_written = tuple(part[:, :0] for part in read)
        return DecoderState.of_batch(torch.stack(read, dim=2), real, nothing_written)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        """Returns the hidden states [N, hidden_size] after `tokens` [N], the next state and the attention [N, S]."""
        length = state.cache[0].shape[1]
        hidden = self._embedded(self.target_embedding, tokens[:, None], "target", first=length)
        written = []
        sources = state.source.unbind(2)
        for layer, before, source in zip(self._decoder_layers(), state.cache, sources, strict=True):
            normed = layer.norm1(hidden)
            written.append(torch.cat([before, _keys_and_values(layer.self_attn, normed).to(before.dtype)], dim=1))
            hidden = hidden + layer.dropout1(_attended(layer.self_attn, normed, written[-1])[0])
            read, attention = _attended(layer.multihead_attn, layer.norm2(hidden), source, state.real)
            hidden = hidden + layer.dropout2(read)
            inside = layer.dropout(layer.activation(layer.linear1(layer.norm3(hidden))))
            hidden = hidden + layer.dropout3(layer.linear2(inside))
        last: Tensor = self.norm(hidden)[:, 0]
        return last, replace(state, cache=tuple(written)), attention

    def _read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the encoder makes of the source [B, S, width], and which positions are real [B, S]."""
        real = real_tokens(source)
        embedded = self._embedded(self.source_embedding, source, "source")
        return self.encoder(embedded, src_key_padding_mask=~real), real

    def _embedded(self, embedding: nn.Module, tokens: Tensor, kind: str, *, first: int = 0) -> Tensor:
        """Returns [B, T, width] for tokens [B, T] whose positions begin at `first`."""
        length = first + tokens.shape[1]
        if length > self.maximum_length:
            raise ValueError(
                f"a {kind} of {length} tokens is longer than the network's `maximum_length` of {self.maximum_length}; "
                "shorten it, or build the network with a greater one"
            )
        embedded: Tensor = embedding(tokens) * math.sqrt(self.hidden_size) + self.positions[first:length]
        dropped: Tensor = self.dropout(embedded)
        return dropped

    def _decoder_layers(self) -> list[nn.TransformerDecoderLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, nn.TransformerDecoderLayer)]


def sinusoids(length: int, width: int) -> Tensor:
    """Returns [length, width]: sines, then cosines, of wavelengths from 2 pi to 20,000 pi."""
    rates = 10_000 ** -(torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


# `nn.MultiheadAttention` projects all of its keys and values at every call. With it instead of the two functions below
# the same translations took 1.8 times as long (sources of 15 tokens, beam 10), and 3.2 times (50 tokens).
def _keys_and_values(attention: nn.MultiheadAttention, inputs: Tensor) -> Tensor:
    """Returns the projected keys and values [N, S, 2, width] of inputs [N, S, width]."""
    width = attention.embed_dim
    projected = F.linear(inputs, attention.in_proj_weight[width:], attention.in_proj_bias[width:])
    return projected.view(*inputs.shape[:2], 2, width)


def _attended(
    attention: nn.MultiheadAttention, inputs: Tensor, read: Tensor, real: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns what inputs [N, 1, width] read from keys and values [N, S, 2, width], and the weights [N, S]."""
    width, heads = attention.embed_dim, attention.num_heads
    query = F.linear(inputs, attention.in_proj_weight[:width], attention.in_proj_bias[:width])
    query = query.view(len(inputs), heads, 1, width // heads)
    keys, values = (part.view(*part.shape[:2], heads, width // heads).transpose(1, 2) for part in read.unbind(2))
    scores = (query @ keys.transpose(2, 3).to(query.dtype)).float() / math.sqrt(width // heads)
    if real is not None:
        scores = scores.masked_fill(~real[:, None, None], -torch.inf)
    weights = scores.softmax(-1)
    found = (weights.to(values.dtype) @ values).to(query.dtype).reshape(len(inputs), 1, width)
    projected: Tensor = attention.out_proj(found)
    return projected, weights.mean(1)[:, 0]
