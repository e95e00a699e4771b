"""One optimiser step: the terms of all its micro-batches, in all processes, and the move."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed.objectives import clip_gradients
from labelembed.training.finite import refuse_terms
from labelembed.training.micro_batches import micro_batches, number_of_micro_batches
from labelembed.training.network import Network
from labelembed.training.placement import on_device
from labelembed.training.training_data import AnyBatch


class OptimizerSteps:
    """Makes optimiser steps.

    Args:
        accelerator: Of the run.
        model: The network as Accelerate has wrapped it.
        network: The network itself.
        optimizer: What moves it.
        scheduler: Counts the steps.
        micro_batches: In how many parts the rows of a step are taken.
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

    def make(self, batch: AnyBatch, *, step_rows: int, where: str) -> dict[str, float]:
        """Makes one step and returns the terms of all its rows.

        Args:
            batch: This process's share of the step.
            step_rows: Rows (of sentences labels) of the step over all processes together.
            where: The step, for messages.

        Raises:
            TrainingError: A term is not finite; the weights have not moved.
        """
        batch = on_device(batch, self.accelerator.device)
        processes = self.accelerator.num_processes
        count = number_of_micro_batches(batch, self.micro_batches, step_rows=step_rows, processes=processes)
        self.optimizer.zero_grad()
        values = self._backward(batch, count)
        if not all(map(math.isfinite, values.values())):
            refuse_terms(values, where=where)
        if self.max_gradient_norm is not None:
            self._clip(self.max_gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        return values

    def _clip(self, max_norm: float) -> None:
        if not self.network.is_split:
            self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm)
            return
        clip_gradients(self.network, max_norm)

    def _backward(self, batch: AnyBatch, count: int) -> dict[str, float]:
        """Goes back from the loss of every micro-batch and returns the step's terms."""
        parts = micro_batches(batch, count)
        sums: list[Tensor] = []
        names: tuple[str, ...] = ()
        with self.objective.accumulate([part.labels for part in parts]) if count > 1 else nullcontext():
            for number, part in enumerate(parts, start=1):
                # Gradients are sent once, with those of the last micro-batch.
                with self.accelerator.no_sync(self.model) if number < count else nullcontext():
                    terms = self.model(part.inputs, part.labels, part.rows)
                    self.accelerator.backward(terms.total)
                named = terms._asdict()
                names = tuple(named)
                sums.append(torch.stack([term.detach() for term in named.values()]))
        total = sums[0] if count == 1 else torch.stack(sums).sum(dim=0)
        # Each process' terms are its share, such that their average is the whole. With it every process sees what is
        # not finite anywhere, and none waits for another that has stopped.
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, reduction="mean")
        # One transfer for all terms; the sums are Python's, so that a resumed epoch adds up to the same digits.
        return dict(zip(names, total.tolist(), strict=True))
