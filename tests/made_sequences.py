"""Made sentence pairs, and a network's decoder run over them one token at a time."""

from __future__ import annotations

import torch

from labelembed.lab.special_tokens import BEGIN, END, PAD

LENGTHS = [5, 1, 7, 2]  # of the sources, their END counted


def made_pairs(lengths=LENGTHS, target_length=6):
    generator = torch.Generator().manual_seed(0)
    source = torch.full((len(lengths), max(lengths, default=1)), PAD)
    for row, length in zip(source, lengths, strict=True):
        row[: length - 1] = torch.randint(4, 11, (length - 1,), generator=generator)
        row[length - 1] = END
    target = torch.randint(4, 13, (len(lengths), target_length), generator=generator)
    target[:, 0] = BEGIN
    return source, target


def stepped(model, source, target):
    """Returns hidden states [B, T, H] and attention [B, T, S], one token at a time."""
    state = model.encode(source)
    rows = []
    for tokens in target.unbind(1):
        hidden, state, attention = model.step(tokens, state)
        rows.append((hidden, attention))
    return [torch.stack(part, dim=1) for part in zip(*rows, strict=True)]
