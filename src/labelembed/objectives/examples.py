"""The examples of a forward pass: which count, how much each weighs, and the mean over the whole optimiser step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.distributed import Group, global_count, process_count


class Examples(NamedTuple):
    """The examples of a forward pass, [B, T] flattened to [N]; ignored ones have hidden states, labels and weights 0.

    Attributes:
        hidden: [N, H].
        labels: [N], in 0..C-1.
        counts: [N] bool: which examples take part.
        weights: [N], class weight times sample weight, in at least float32.
        scales: [N], what each example's loss is multiplied with, so that the sum is this process's share of the mean.
        total_weight: The weights of the whole optimiser step, over all processes; never quite 0.
        group: The processes that share the step.
    """

    hidden: Tensor
    labels: Tensor
    counts: Tensor
    weights: Tensor
    scales: Tensor
    total_weight: Tensor
    group: Group

    def mean(self, losses: Tensor) -> Tensor:
        """Returns this process's share of the weighted mean of losses [N] over the whole optimiser step."""
        return torch.dot(losses, self.scales)

    def step_share(self) -> Tensor:
        """Returns which share of the optimiser step's weight this pass has, over all processes."""
        return global_count(self.weights.sum(), group=self.group) / self.total_weight


def make_examples(
    hidden: Tensor,
    labels: Tensor,
    *,
    hidden_size: int,
    num_labels: int,
    ignore_index: int | None,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
    num_items_in_step: Tensor | int | None,
    group: Group,
) -> Examples:
    """Returns a batch flattened and checked; nothing of an ignored example, were it NaN, reaches a term.

    Args:
        hidden: [N, H] or [B, T, H].
        labels: [N] or [B, T].
        hidden_size: H.
        num_labels: C.
        ignore_index: The label of examples that take no part; None: all do.
        class_weight: [C], or None.
        sample_weight: As the labels, or None; 0 ignores an example.
        num_items_in_step: The weight of the whole optimiser step; None: the batch is the step.
        group: The processes that share the step.

    Raises:
        TypeError: An argument is no tensor.
        ValueError: The shapes do not fit, or a value is out of range (on a GPU the device checks, which needs no wait).
    """
    _require_shapes(hidden, labels, sample_weight, hidden_size=hidden_size)
    hidden, labels = hidden.flatten(0, -2), labels.flatten().long()
    counts = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    if sample_weight is not None:
        counts = counts & (sample_weight.flatten() != 0)
    if not (_may_look(counts) and bool(counts.all())):
        hidden, labels = hidden.masked_fill(~counts[:, None], 0), labels.masked_fill(~counts, 0)
    wrong = _out_of_range(labels, num_labels)
    if wrong is not None:
        allowed = "" if ignore_index is None else f" or {ignore_index} (ignored)"
        raise ValueError(f"`labels` must be in 0..{num_labels - 1}{allowed}, got {wrong}")
    weights = counts.to(torch.promote_types(hidden.dtype, torch.float32))
    if class_weight is not None:
        weights = weights * class_weight[labels]
    if sample_weight is not None:
        given = sample_weight.flatten().to(weights.dtype).masked_fill(~counts, 0)
        _require_all((given >= 0) & given.isfinite(), given, "`sample_weight` must be finite and >= 0")
        weights = weights * given
    if num_items_in_step is None:
        total_weight = global_count(weights.sum(), group=group)
    else:
        total_weight = torch.as_tensor(num_items_in_step, dtype=weights.dtype, device=weights.device)
        valid = (total_weight > 0) | ((total_weight == 0) & ~counts.any())
        rule = "`num_items_in_step` must be > 0, the number of examples that count in the whole optimiser step"
        _require_all(valid, total_weight, rule)
    total_weight = total_weight.clamp_min(1e-30)  # so that an empty sum stays 0
    scales = weights * (process_count(group) / total_weight)
    return Examples(hidden, labels, counts, weights, scales, total_weight, group)


def checked_indices(
    indices: Tensor | None, labels: Tensor, counts: Tensor, *, num_examples: int, reason: str
) -> Tensor:
    """Returns where the examples of a batch stand in the training set [N]; 0 where one is ignored.

    Args:
        indices: As the labels.
        labels: [N] or [B, T], as the caller gave them.
        counts: [N] bool, which examples take part.
        num_examples: Of the training set.
        reason: Why indices are needed, for the message.

    Raises:
        ValueError: `indices` is None, of another shape than the labels, or one is out of range (on a GPU the look-up
            itself is the check).
    """
    if indices is not None:
        _require_integers("indices", indices)
    if indices is None or indices.shape != labels.shape:
        found = None if indices is None else list(indices.shape)
        wanted = f"must be {list(labels.shape)}, where the examples stand in the training set"
        raise ValueError(f"`indices` {wanted}, got {found}: {reason}")
    indices = indices.flatten().long().masked_fill(~counts, 0)
    wrong = _out_of_range(indices, num_examples)
    if wrong is not None:
        raise ValueError(f"`indices` must be in 0..{num_examples - 1}, places in the training set, got {wrong}")
    return indices


def _require_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}; use torch.as_tensor")


def _require_integers(name: str, value: Tensor) -> None:
    _require_tensor(name, value)
    if value.is_floating_point() or value.dtype == torch.bool:
        raise ValueError(f"`{name}` must be integers (int64), got {value.dtype}")


def _require_shapes(hidden: Tensor, labels: Tensor, sample_weight: Tensor | None, *, hidden_size: int) -> None:
    _require_tensor("hidden", hidden)
    _require_integers("labels", labels)
    if hidden.ndim < 2 or hidden.shape[-1] != hidden_size:
        raise ValueError(
            f"`hidden` must be [N, {hidden_size}] or [B, T, {hidden_size}], got {list(hidden.shape)} "
            f"with labels {list(labels.shape)}"
        )
    wanted = f"must be {list(hidden.shape[:-1])} for hidden states {list(hidden.shape)}"
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"`labels` {wanted}, got {list(labels.shape)}")
    if sample_weight is not None:
        _require_tensor("sample_weight", sample_weight)
        if sample_weight.shape != labels.shape:
            raise ValueError(f"`sample_weight` {wanted}, got {list(sample_weight.shape)}")


def _may_look(values: Tensor) -> bool:
    """Tells whether Python may decide by the values: on a GPU it would wait for them, a compiled graph would break."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _require_all(valid: Tensor, values: Tensor, rule: str) -> None:
    """Raises ValueError with the first value that is not valid; on a GPU the device checks, and stops."""
    if not _may_look(valid):
        if valid.device.type in ("cpu", "cuda"):  # the only ones that can
            torch._assert_async(valid.all(), rule)
    elif not bool(valid.all()):
        raise ValueError(f"{rule}, got {values[~valid][0].item():g}")


def _out_of_range(numbers: Tensor, length: int) -> int | None:
    """Returns a number that is not in 0..length-1, where that can be told at once."""
    if not _may_look(numbers) or numbers.numel() == 0:
        return None
    lowest, highest = (int(end) for end in numbers.aminmax())
    if lowest < 0:
        return lowest
    return highest if highest >= length else None
