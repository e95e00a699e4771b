"""What is wrong with the arguments of the heads: names, both shapes, both devices."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from labelembed.errors import ArgumentFaults

Implementation = Literal["auto", "reference", "closed_form", "chunked"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("auto", "reference", "closed_form", "chunked")


def head_faults(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    *,
    impl: Implementation,
    chunk_rows: int | None,
) -> ArgumentFaults:
    """Returns what is wrong with the arguments that both heads have."""
    faults = ArgumentFaults()
    faults.choice("impl", impl, IMPLEMENTATIONS)
    faults.require(chunk_rows is None or chunk_rows >= 1, "chunk_rows", chunk_rows, "must be >= 1, or None")
    sizes = f"for hidden rows {list(hidden.shape)}"
    fits = weight.ndim == 2 and hidden.ndim == 2 and weight.shape[1] == hidden.shape[1]
    faults.require(fits, "weight", list(weight.shape), f"must be [C, H] {sizes} [n, H]")
    if labels is not None:
        faults.require(labels.shape == hidden.shape[:1], "labels", list(labels.shape), f"must be [n] {sizes} [n, H]")
    _require_bias(faults, "bias", bias, weight)
    _require_device(faults, hidden, {"weight": weight, "bias": bias, "labels": labels})
    return faults


def require_targets(
    faults: ArgumentFaults,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor | None,
    soft_targets: Tensor | None,
    *,
    impl: Implementation,
) -> None:
    """Notes where there are not either labels or soft targets, or these do not fit."""
    given = "both" if labels is not None else "neither"
    rule = "must be given in the place of `labels`, which is then None: one of them"
    faults.require((labels is None) != (soft_targets is None), "soft_targets", given, rule)
    if soft_targets is None:
        return
    shape = [hidden.shape[0], weight.shape[0]]
    rule = f"must be [n, C] = {shape} for hidden rows {list(hidden.shape)} and `weight` {list(weight.shape)}"
    faults.require(list(soft_targets.shape) == shape, "soft_targets", list(soft_targets.shape), rule)
    kind = soft_targets.dtype
    faults.require(kind.is_floating_point, "soft_targets", str(kind), "must be floating point: labels go to `labels`")
    _require_device(faults, hidden, {"soft_targets": soft_targets})
    if torch.is_grad_enabled() and soft_targets.requires_grad:
        rule = "must need no gradient with impl='chunked'; detach them, or use impl='reference'"
        faults.require(impl != "chunked", "soft_targets", "requires_grad=True", rule)


def require_tables(
    faults: ArgumentFaults,
    hidden: Tensor,
    weight: Tensor,
    auxiliary_weight: Tensor | None,
    auxiliary_bias: Tensor | None,
    embedding: Tensor | tuple[Tensor, Tensor],
) -> None:
    """Notes where the second layer or the embedding do not fit the first layer, or are on another device."""
    parts = embedding if isinstance(embedding, tuple) else (embedding,)
    elsewhere = next((part for part in parts if part.device != hidden.device), None)
    layer = {"auxiliary_weight": auxiliary_weight, "auxiliary_bias": auxiliary_bias}
    _require_device(faults, hidden, layer | {"embedding": elsewhere})
    like = f"for `weight` {list(weight.shape)}"
    if auxiliary_weight is not None:
        same = auxiliary_weight.shape == weight.shape
        faults.require(same, "auxiliary_weight", list(auxiliary_weight.shape), f"must be [C, H] {like}")
        _require_bias(faults, "auxiliary_bias", auxiliary_bias, weight)
    count = weight.shape[0]
    if isinstance(embedding, tuple):
        left, right = (list(part.shape) for part in embedding)
        fits = len(left) == len(right) == 2 and left[0] == right[1] == count and left[1] == right[0]
        faults.require(fits, "embedding", f"{left} and {right}", f"must be A [C, K] and B [K, C] {like}")
    else:
        fits = list(embedding.shape) == [count, count]
        faults.require(fits, "embedding", list(embedding.shape), f"must be [C, C] {like}")


def _require_bias(faults: ArgumentFaults, name: str, bias: Tensor | None, weight: Tensor) -> None:
    if bias is not None:
        fits = bias.shape == weight.shape[:1]
        faults.require(fits, name, list(bias.shape), f"must be [C] for `weight` {list(weight.shape)}")


def _require_device(faults: ArgumentFaults, hidden: Tensor, named: dict[str, Tensor | None]) -> None:
    for name, value in named.items():
        if value is not None and value.device != hidden.device:
            rule = f"must be on the device of the hidden rows, {hidden.device}"
            faults.require(False, name, str(value.device), rule)
