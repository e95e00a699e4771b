"""What every objective is: the output layer and the loss, in the place of `nn.Linear` + `cross_entropy`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.losses import chunk_size
from labelembed.objectives import step_rows
from labelembed.objectives.search_space import SearchSpace
from labelembed.objectives.terms import Terms


class Objective(nn.Module, ABC):
    """Base of the objectives: owns the output layer `output`, predicts, and yields a label geometry.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        output_size: D, width of the output layer; None: C, one output a label.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part in any term, normaliser or state; None: every row counts.
        output_std: Start the output layer from N(0, output_std) cut at two standard deviations with bias 0;
            None: PyTorch's own way.
        faults: What a subclass found wrong with its own arguments, to be raised together.

    Attributes:
        process_group: The processes that share a training step, as DistributedDataParallel was given them; None: all
            that are up. In evaluation mode a process waits for no other.

    Raises:
        ValueError: When an argument is out of its range; one line for each.
    """

    #: Buffers that training remembers by and prediction does not need: checkpoints hold them, saved models do not.
    training_buffers: ClassVar[frozenset[str]] = frozenset()
    search_space: ClassVar[SearchSpace] = {}  # what `labelembed tune` looks for good values of

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        output_size: int | None = None,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
        faults: ArgumentFaults | None = None,
    ) -> None:
        super().__init__()
        faults = faults or ArgumentFaults()
        faults.require(hidden_size >= 1, "hidden_size", hidden_size, "must be >= 1")
        faults.require(num_labels >= 1, "num_labels", num_labels, "must be >= 1")
        faults.require(output_size is None or output_size >= 1, "output_size", output_size, "must be >= 1, or None")
        faults.require(output_std is None or output_std > 0, "output_std", output_std, "must be > 0, or None")
        faults.raise_if_any()
        self.hidden_size = hidden_size
        self.num_labels = num_labels
        self.output_size = num_labels if output_size is None else output_size
        self.ignore_index = ignore_index
        self.process_group: dist.ProcessGroup | None = None
        self.output_std = output_std
        # Of a mixed step: 0 for the first labels of the rows, 1 for the second.
        self._half = 0
        # The output layer comes first, so that every objective with the same seed starts with the same one.
        self.output = self.new_layer(bias=bias)

    def new_layer(self, *, bias: bool = True) -> nn.Linear:
        """Returns a layer [H -> D] that starts as the output layer does."""
        layer = nn.Linear(self.hidden_size, self.output_size, bias=bias)
        if self.output_std is not None:
            limit = 2 * self.output_std
            nn.init.trunc_normal_(layer.weight, std=self.output_std, a=-limit, b=limit)
            if bias:
                nn.init.zeros_(layer.bias)
        return layer

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D], the module itself with its weights.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            num_labels: C, where it is not the layer's width D.
            arguments: The objective's own keyword arguments.

        Raises:
            TypeError: `layer` is something else.
            ValueError: The objective would build an output layer of another width.
        """
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"`layer` must be an nn.Linear, got {type(layer).__name__}")
        num_labels = layer.out_features if num_labels is None else num_labels
        objective = cls(layer.in_features, num_labels, bias=layer.bias is not None, **arguments)
        if objective.output_size != layer.out_features:
            wanted = f"must have {objective.output_size} outputs for {num_labels} labels"
            raise ValueError(f"`layer` {wanted}, got {layer.out_features}")
        objective.to(device=layer.weight.device, dtype=layer.weight.dtype)
        objective.output = layer
        return objective

    @abstractmethod
    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> Terms:
        """Computes the terms of one batch.

        Args:
            hidden: [N, H] or [B, T, H].
            labels: [N] or [B, T], int64, 0..C-1 or `ignore_index`.
            rows: [N] or [B, T] positions of the rows in the training set, for objectives that remember rows.

        Raises:
            ValueError: When the shapes do not fit; the message has both.
        """

    @property
    def mixing_refusal(self) -> str | None:
        """Why this objective cannot learn from rows that belong to two labels; None where it can (see `mixed`)."""
        return None

    def mixed(
        self,
        hidden: Tensor,
        labels: Tensor,
        others: Tensor,
        share: Tensor | float,
        *,
        rows: Tensor | None = None,
        other_rows: Tensor | None = None,
    ) -> Terms:
        """Computes the terms of rows that each belong to two labels (mixup, CutMix).

        Every term is ``share * term(labels) + (1 - share) * term(others)``. For a term that is linear in the target,
        as every cross entropy is, this is the term of the target ``share onehot(labels) + (1 - share)
        onehot(others)``. A term over the rows that a head gets right (of `LabelEmbedding`, and what
        `OnlineLabelSmoothing` remembers) counts a row for the label that the head sees in it.

        Args:
            hidden: [N, H] of the mixed inputs.
            labels: [N], the first label of each row.
            others: [N], the second.
            share: How much of the first there is, one number for the batch, in [0, 1].
            rows: [N] positions in the training set of the inputs that the first labels are of.
            other_rows: The same for the second.

        Raises:
            ValueError: When the objective cannot; `mixing_refusal` says why.
        """
        if self.mixing_refusal is not None:
            raise ValueError(f"{type(self).__name__} cannot learn from mixed rows: {self.mixing_refusal}")
        first = self(hidden, labels, rows)
        self._half = 1
        try:
            second = self(hidden, others, other_rows)
        finally:
            self._half = 0
        both = {name: share * term + (1 - share) * getattr(second, name) for name, term in first._asdict().items()}
        found: Terms = type(first)(**both)
        return found

    def accumulate(self, labels: Iterable[Tensor]) -> AbstractContextManager[None]:
        """Makes one optimiser step of several micro-batches: means are over all their rows, state moves once.

        In the block call the objective with each micro-batch and go back from its ``total``; gradients and terms add
        up to those of one batch, in however many processes, unless the objective couples rows (`row_coupling`). Passes
        in evaluation mode are no part of it.

        Args:
            labels: The labels of each micro-batch of this process, in each process as many.

        Raises:
            RuntimeError: A step is being accumulated already.
        """
        counts = step_rows.row_counts(labels, ignore_index=self.ignore_index)
        return whole_batch.accumulating(counts, device=self.output.weight.device, group=self.process_group)

    @property
    def row_coupling(self) -> str | None:
        """Why micro-batches add up to something else than one batch; None where they add up to that."""
        return None

    @property
    def step_group(self) -> whole_batch.Group:
        """The processes that share this forward pass; in evaluation mode this one alone."""
        return self.process_group if self.training else whole_batch.ALONE

    def moves_state(self) -> bool:
        """Tells whether this forward pass moves what the objective remembers: in training mode, with gradients.

        Raises:
            RuntimeError: Activation checkpointing computes the pass a second time.
        """
        return self.training and step_rows.is_differentiated(type(self).__name__)

    def begins_step(self) -> bool:
        """Tells whether this forward pass, of those that move state, is the first of its optimiser step."""
        return self._half == 0 and whole_batch.is_first_in_step(self)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns scores [..., C] whose argmax predicts and whose softmax is the predicted distribution."""
        scores: Tensor = self.output(hidden)
        return scores

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns the k highest logits [..., k] of hidden rows [..., H] and their labels [..., k], highest first.

        Of many rows and labels the logits are never held all at once.

        Raises:
            ValueError: `k` is not in 1..C.
        """
        faults = ArgumentFaults()
        faults.require(1 <= k <= self.num_labels, "k", k, f"must be in 1..{self.num_labels}, the number of labels")
        faults.raise_if_any()
        rows = torch.split(hidden.reshape(-1, hidden.shape[-1]), chunk_size(self.num_labels))
        best = [self.logits(some).topk(k, dim=-1) for some in rows]
        scores, labels = (torch.cat(parts).view(*hidden.shape[:-1], k) for parts in zip(*best, strict=True))
        return scores, labels

    def outputs(self, hidden: Tensor) -> Tensor:
        """Returns what the output layer says [..., D]; class means are taken of this."""
        out: Tensor = self.output(hidden)
        return out

    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns where the labels stand to each other.

        Here, where the objective learns nothing of its own about labels: the class means, by Euclidean distance;
        without them the rows of the output layer, by cosine.

        Args:
            names: The labels' names; None: their numbers.
            class_means: [C, D] means of the outputs (or of the hidden rows) over the training rows of each label,
                in evaluation mode; see `training.class_means`.
        """
        names, source = self.label_names(names), type(self).__name__
        if class_means is not None:
            vectors = class_means.detach().float().cpu().clone()
            return LabelGeometry(names, vectors=vectors, source=f"{source}, class means")
        vectors = self.output.weight.detach().float().cpu().clone()
        return LabelGeometry(names, vectors=vectors, metric="cosine", source=source)

    def label_names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Returns `names`, or the labels' numbers as text."""
        return tuple(names) if names is not None else tuple(str(label) for label in range(self.num_labels))

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups that decay what should be decayed.

        Args:
            weight_decay: For the parameters that are decayed.
        """
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]

    def begin_training(self, steps: int) -> None:
        """Tells the objective before the first step how many optimiser steps the run will have at most."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tells the objective that epoch `epoch` (from 0) of `epochs` begins."""

    def end_epoch(self) -> None:
        """Tells the objective that the epoch is over."""

    def needs_training_pass(self) -> bool:
        """Tells whether the objective wants to see every training row, now that the epoch is over.

        If so the loop calls `begin_pass`, then `observe` with each row once, in evaluation mode and without
        gradients, then `end_pass`. In several processes each of them sees every row.
        """
        return False

    def begin_pass(self) -> None:
        """Tells the objective that `observe` will now be called with every training row."""

    def observe(self, hidden: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Takes in training rows in evaluation mode: hidden [N, H], labels [N], rows [N]."""

    def end_pass(self) -> None:
        """Tells the objective that it has seen every training row."""

    def counted(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rows that count, hidden [n, H] and labels [n], from [N, H] or [B, T, H].

        Rows are selected rather than masked, so that nothing of an ignored row, were it NaN, reaches a term.
        """
        return step_rows.counted_rows(hidden, labels, hidden_size=self.hidden_size, ignore_index=self.ignore_index)
