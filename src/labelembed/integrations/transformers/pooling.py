"""One row for a text: which hidden rows of an encoder stand for the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

POOLINGS = ("pooler", "first", "last", "mean")


def pooling_for(encoder: Any) -> str:
    """Returns the way that suits an encoder: its own pooler, the last token of a causal model, else the first."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    if getattr(encoder, "pooler", None) is not None:
        return "pooler"
    kind = encoder.config.model_type
    return "last" if kind in CAUSAL and kind not in MASKED else "first"


def pooled(outputs: Any, mask: Tensor | None, pooling: str) -> Tensor:
    """Returns one row [B, H] a text.

    Args:
        outputs: Of the encoder.
        mask: [B, T], 1 where a token counts; None: all do.
        pooling: One of `POOLINGS`.
    """
    if pooling == "pooler":
        row: Tensor = outputs.pooler_output
        return row
    hidden: Tensor = outputs.last_hidden_state
    if pooling == "first" and mask is None:
        return hidden[:, 0]
    if mask is None:
        return hidden[:, -1] if pooling == "last" else hidden.mean(dim=1)
    if pooling == "mean":
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
    # Padding may stand on either side; of equal numbers argmax finds the first.
    counts = (mask != 0).to(torch.int32)
    chosen = (counts.cumsum(dim=1) * counts if pooling == "last" else counts).argmax(dim=1)
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), chosen]
