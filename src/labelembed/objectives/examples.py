"""The examples of a forward pass: which count, how much each weighs, and the mean over the whole optimiser step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.distributed import Group, global_count, global_sum, process_count


class Examples(NamedTuple):
    """The examples of a forward pass, [B, T] flattened to [N]; ignored ones have hidden states, labels and weights 0.

    Attributes:
        hidden: [N, H].
        labels: [N], in 0..C-1.
        mask: [N] bool: which examples take part.
        sample_weight: [N], 0 for an ignored example; in at least float32.
        loss_weights: [N], the factor of each example's loss, so that the sum is this process's share of the mean.
        total_weight: The weights of the whole optimiser step, over all processes; never quite 0.
        group: The processes that share the step.
    """

    hidden: Tensor
    labels: Tensor
    mask: Tensor
    sample_weight: Tensor
    loss_weights: Tensor
    total_weight: Tensor
    group: Group

    def mean(self, losses: Tensor) -> Tensor:
        """Returns this process's share of the weighted mean of losses [N] over the whole optimiser step."""
        return torch.dot(losses, self.loss_weights)

    def step_share(self) -> Tensor:
        """Returns the share of the optimiser step's weight that this pass has, over all processes."""
        return global_count(self.loss_weights.sum(), group=self.group) / process_count(self.group)


def make_examples(
    hidden: Tensor,
    labels: Tensor,
    *,
    hidden_size: int,
    num_labels: int,
    ignore_index: int | None,
    class_weight: Tensor | None,
    group: Group,
    sample_weight: Tensor | None = None,
    num_items_in_step: Tensor | int | None = None,
) -> Examples:
    """Returns a batch flattened and checked, see `Objective.forward`; a NaN of an ignored example reaches no term."""
    _check_shapes(hidden, labels, sample_weight, hidden_size=hidden_size)
    hidden, labels = hidden.flatten(0, -2), labels.flatten().long()
    mask = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    if sample_weight is not None:
        mask = mask & (sample_weight.flatten() != 0)
    if not (_may_look(mask) and bool(mask.all())):
        hidden, labels = hidden.masked_fill(~mask[:, None], 0), labels.masked_fill(~mask, 0)
    ignored = "" if ignore_index is None else f" or {ignore_index} (ignored)"
    _check_range("labels", labels, num_labels, ignored)
    own_weight = mask.to(torch.promote_types(hidden.dtype, torch.float32))
    if sample_weight is not None:
        own_weight = sample_weight.flatten().to(own_weight.dtype).masked_fill(~mask, 0)
        _check_all((own_weight >= 0) & own_weight.isfinite(), own_weight, "`sample_weight` must be finite and >= 0")
    weights = own_weight if class_weight is None else own_weight * class_weight[labels]
    if num_items_in_step is None:
        total_weight = (global_sum if weights.requires_grad else global_count)(weights.sum(), group=group)
    else:
        total_weight = torch.as_tensor(num_items_in_step, dtype=weights.dtype, device=weights.device)
        valid = (total_weight > 0) | ((total_weight == 0) & ~mask.any())
        rule = "`num_items_in_step` must be > 0, the number of examples that count in the whole optimiser step"
        _check_all(valid, total_weight, rule)
    total_weight = total_weight.clamp_min(1e-30)  # so that an empty sum stays 0
    loss_weights = weights * (process_count(group) / total_weight)
    return Examples(hidden, labels, mask, own_weight, loss_weights, total_weight, group)


def checked_indices(indices: Tensor | None, labels: Tensor, mask: Tensor, *, num_examples: int, reason: str) -> Tensor:
    """Returns the positions of a batch's examples in the training set [N], checked; 0 for an ignored one."""
    if indices is not None:
        _check_whole_numbers("indices", indices)
    if indices is None or indices.shape != labels.shape:
        shape = None if indices is None else list(indices.shape)
        wanted = f"must be {list(labels.shape)}, positions of the examples in the training set"
        raise ValueError(f"`indices` {wanted}, got {shape}: {reason}")
    indices = indices.flatten().long().masked_fill(~mask, 0)
    _check_range("indices", indices, num_examples, ", positions in the training set")
    return indices


def _check_whole_numbers(name: str, value: Tensor) -> None:
    if value.is_floating_point() or value.dtype == torch.bool:
        raise ValueError(f"`{name}` must be whole numbers (int64), got {value.dtype}")


def _check_shapes(hidden: Tensor, labels: Tensor, sample_weight: Tensor | None, *, hidden_size: int) -> None:
    for name, value in ("hidden", hidden), ("labels", labels), ("sample_weight", sample_weight):
        if not isinstance(value, Tensor | None):
            raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}; use torch.as_tensor")
    _check_whole_numbers("labels", labels)
    if hidden.ndim < 2 or hidden.shape[-1] != hidden_size:
        raise ValueError(
            f"`hidden` must be [N, {hidden_size}] or [B, T, {hidden_size}], got {list(hidden.shape)} "
            f"with labels {list(labels.shape)}"
        )
    wanted = f"must be {list(hidden.shape[:-1])} for hidden states {list(hidden.shape)}"
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"`labels` {wanted}, got {list(labels.shape)}")
    if sample_weight is not None and sample_weight.shape != labels.shape:
        raise ValueError(f"`sample_weight` {wanted}, got {list(sample_weight.shape)}")


def _may_look(values: Tensor) -> bool:
    """Tells whether Python may decide by the values: on a GPU it would wait for them, a compiled graph would break."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _check_all(valid: Tensor, values: Tensor, rule: str) -> None:
    """Raises ValueError with the first value that is not valid; on a GPU the device checks, and stops."""
    if not _may_look(valid):
        if valid.device.type in ("cpu", "cuda"):  # the only ones that can
            torch._assert_async(valid.all(), rule)
    elif not bool(valid.all()):
        raise ValueError(f"{rule}, got {values[~valid][0].item()}")


def _check_range(name: str, numbers: Tensor, length: int, more: str) -> None:
    _check_all((numbers >= 0) & (numbers < length), numbers, f"`{name}` must be in 0..{length - 1}{more}")
