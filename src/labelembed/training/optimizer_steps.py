"""One optimiser step: the terms of all its micro-batches, in all processes, and the move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed.distributed import global_count
from labelembed.training.finite import gradients_of, refuse_endless_overflow, refuse_step
from labelembed.training.micro_batches import micro_batches, number_of_micro_batches
from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import AnyBatch

# Of fp16's loss: it begins at 65,536 and is halved at every overflow, so a gradient that overflows here is above 1e9.
_LOWEST_SCALE = 2.0**-14


class OptimizerSteps:
    """Makes optimiser steps.

    Args:
        accelerator: Of the run.
        model: The network as Accelerate has wrapped it.
        network: The network itself.
        optimizer: What moves it.
        scheduler: Counts the steps.
        micro_batches: In how many parts the examples of a step are taken.
        max_gradient_norm: Gradients are scaled down to this norm; None: never.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        network: Network,
        optimizer: Optimizer,
        scheduler: LambdaLR,
        *,
        micro_batches: int,
        max_gradient_norm: float | None,
    ) -> None:
        self.accelerator = accelerator
        self.model = model
        self.network = network
        self.objective = network.objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.micro_batches = micro_batches
        self.max_gradient_norm = max_gradient_norm
        self.parameters = [value for value in network.parameters() if value.requires_grad]

    def make(self, batch: AnyBatch, *, step_rows: int, step: int, where: str) -> dict[str, float]:
        """Makes one step and returns the terms of all its examples.

        Args:
            batch: This process's share of the step.
            step_rows: Rows (of sentences labels) of the step over all processes together.
            step: Its number, from 1.
            where: The step, for messages.

        Raises:
            DivergedTraining: A term or a gradient is not finite; the weights have not moved.
        """
        batch = on_device(batch, self.accelerator.device)
        processes = self.accelerator.num_processes
        count = number_of_micro_batches(batch, self.micro_batches, step_rows=step_rows, processes=processes)
        self.optimizer.zero_grad()
        parts = micro_batches(batch, count)
        terms = self._backward(parts)
        # fp16 scales its gradients, finds those that overflow by itself, and leaves out such a step.
        scaler = self.accelerator.scaler
        gradients = gradients_of(self.parameters) if scaler is None else []
        norms = torch._foreach_norm(gradients) if gradients else ()
        # One transfer for all; the sums are Python's, so that a resumed epoch adds up to the same digits.
        numbers = self._of_all_processes(torch.stack([*terms.values(), *norms])).tolist()
        values = dict(zip(terms, numbers, strict=False))
        if not all(map(math.isfinite, numbers)):
            with self.accelerator.autocast():
                refuse_step(self.network, values, parts, step=step, where=where)
        # A fused optimiser does not tell which steps it left out, so it is the scale that is asked.
        if scaler is not None and scaler.get_scale() < _LOWEST_SCALE:
            refuse_endless_overflow(self.network, step=step, where=where)
        if self.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        return values

    def _backward(self, parts: Sequence[AnyBatch]) -> dict[str, Tensor]:
        """Goes back from the loss of every micro-batch; returns the step's terms of this process."""
        count = len(parts)
        found: list[dict[str, Tensor]] = []
        items = self._items_in_step(parts) if count > 1 else None
        for number, part in enumerate(parts, start=1):
            # Gradients are sent once, with those of the last micro-batch.
            with self.accelerator.no_sync(self.model) if number < count else nullcontext():
                terms = self.model(part.inputs, part.labels, part.indices, num_items_in_step=items)
                self.accelerator.backward(terms.total)
            found.append({name: term.detach() for name, term in terms._asdict().items()})
        if count == 1:
            return found[0]
        sums = torch.stack([torch.stack([*one.values()]) for one in found]).sum(dim=0)
        return dict(zip(found[0], sums.unbind(), strict=True))

    def _items_in_step(self, parts: Sequence[AnyBatch]) -> Tensor:
        """Returns how many examples count in the step over all processes; with class weights the sum of those."""
        labels = torch.cat([part.labels.flatten() for part in parts])
        counts, weight = labels >= 0, self.objective.weight
        weights = counts.float() if weight is None else weight[labels.clamp_min(0)] * counts
        return global_count(weights.sum(), group=self.objective.process_group)

    def _of_all_processes(self, numbers: Tensor) -> Tensor:
        """Returns the mean over the processes of a step's terms and gradients' norms.

        Each process' terms are its share, such that their average is the whole. With it every process sees what is not
        finite anywhere, and none waits for another that has stopped.
        """
        if self.accelerator.num_processes == 1:
            return numbers
        found: Tensor = self.accelerator.reduce(numbers, reduction="mean")
        return found
