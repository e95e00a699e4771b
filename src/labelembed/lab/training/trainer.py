"""The one training loop, for every objective: epoch, batches, step, evaluation, selection, checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from labelembed import seeds
from labelembed.distributed import global_count
from labelembed.lab.data import PairBatch, TokenBudget
from labelembed.lab.errors import DivergedTraining, InterruptedTraining
from labelembed.lab.training import batches as batching
from labelembed.lab.training import check_finite
from labelembed.lab.training.batches import AnyBatch, TrainingData
from labelembed.lab.training.checkpoints import Checkpoint, SavingTimes, save_checkpoint
from labelembed.lab.training.compile_warmup import warm_up
from labelembed.lab.training.device import make_accelerator
from labelembed.lab.training.evaluation import evaluate, hidden_states
from labelembed.lab.training.files import saving
from labelembed.lab.training.network import Network
from labelembed.lab.training.progress import Progress, ignore_progress
from labelembed.lab.training.run_folder import HISTORY_LINE_BYTES, RESULT_FORMAT, RunFolder
from labelembed.lab.training.schedules import Schedule
from labelembed.lab.training.settings import TrainingSettings
from labelembed.lab.training.signals import Received, stop_after_step
from labelembed.lab.training.state import Position, RunState

_SECONDS_BETWEEN_PROGRESS = 0.2
# Of fp16's loss: it begins at 65,536 and is halved at every overflow, so a gradient that overflows here is above 1e9.
_LOWEST_SCALE = 2.0**-14


class Trainer:
    """Trains one network on one data set, into one run folder.

    Args:
        network: What is trained; moved to the device.
        make_optimizer: Builds the optimiser once the network is on the device.
        schedule: Factor on the learning rate, a step at a time.
        data: Splits; moved to the device where they fit (see `batches.placed`).
        settings: How the run goes; a recipe is one.
        folder: Where history and checkpoints go.
        observe: Called now and then with where the run stands.
        stop: Asked after every step whether to save and stop, as a signal would have it.
        device: `cpu`, `cuda`, ...; None: what Accelerate finds.

    Attributes:
        epochs: How many the run has.
        batches: Optimiser steps of an epoch.
    """

    def __init__(
        self,
        network: Network,
        make_optimizer: Callable[[Network], Optimizer],
        schedule: Schedule,
        data: TrainingData,
        settings: TrainingSettings,
        folder: RunFolder,
        *,
        observe: Callable[[Progress], None] = ignore_progress,
        stop: Callable[[], bool] = lambda: False,
        device: str | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.observe = observe
        self.stop = stop
        self.signal = Received()
        self.accelerator = make_accelerator(settings.precision, device=device)
        self.device: torch.device = self.accelerator.device
        self.network = network.to(self.device)
        self.network.autocast = self.accelerator.autocast
        self.data = batching.placed(data, self.device)
        self.batch_size = settings.step_size(data.num_labels)
        self.batches = data.train.number_of_batches(self.batch_size)
        self.epochs = settings.number_of_epochs(data)
        if settings.compile:
            self.network.encoder.compile()
        optimizer = make_optimizer(self.network)
        self.model, scaled = self.accelerator.prepare(self.network, optimizer)
        # Accelerate's own is for fp16's scaler; at every step it looks on the disk for a package that it may need.
        self.optimizer = optimizer if self.accelerator.scaler is None else scaled
        self.weights = list(self.network.parameters())
        self.schedule = schedule
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.state = RunState(self.network, self.optimizer, self.accelerator.scaler)
        self.selected_by = settings.selected_by(data)
        self.saving_times = SavingTimes(settings.checkpoints)
        self._shown_at = 0.0

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.state.position

    @property
    def last_epoch(self) -> int:
        """After how many epochs the run is over, by the recipe or by its patience if no better epoch comes."""
        since = max(self.position.best_epoch, self.position.patience_from)
        return min(self.epochs, since + (self.settings.selection.patience or self.epochs))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved."""
        self.state.restore(checkpoint)

    def run(self) -> dict[str, Any]:
        """Trains to the end and returns what the selected epoch reached, for ``result.json``.

        The network then has the weights of that epoch. The test set is measured here, once, unless it was measured
        after every epoch.

        Raises:
            TrainingError: When a term is not finite, or a checkpoint cannot be saved.
            InterruptedTraining: After a signal; the state is saved.
        """
        if self.settings.compile or self.device.type != "cpu":
            size, parts = self.batch_size, self.accelerator.num_processes * self.settings.micro_batches
            warm_up(self.network, self.data, -(-size // parts) if isinstance(size, int) else size)
        with stop_after_step() as self.signal:
            while self.position.epoch < self.last_epoch:
                self._train_epoch()
        if self.state.best_weights:
            self.network.load_prediction_state(self.state.best_weights)
        return self._result()

    # ---- an epoch

    def _train_epoch(self) -> None:
        position, objective = self.position, self.network.objective
        started = time.perf_counter() - position.epoch_seconds
        objective.start_epoch(position.epoch, self.epochs, self.batches)
        self.network.train()
        for batch in self._batches():
            self._step(batch)
            position.batch += 1
            position.step += 1
            if position.batch < self.batches:
                position.epoch_seconds = time.perf_counter() - started
                self._save_or_stop()
            self._show_progress(started)
        objective.end_epoch(partial(hidden_states, self.network, self.data.train))
        line = self._evaluate_epoch(started)
        position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
        position.seconds += line["seconds"]
        self.state.term_sums = {}
        # Of epochs that are selected by their number the network itself is the best there is.
        if position.take_if_best(self.selected_by, line) and self.selected_by != "last_epoch":
            self.state.best_weights = self.network.prediction_state()
        if self.accelerator.is_main_process:
            with saving(self.folder.path, needed_bytes=HISTORY_LINE_BYTES):
                self.folder.append_history(line)
        self._save_or_stop(line)

    def _batches(self) -> Iterator[AnyBatch]:
        """Returns this process's share of the batches of the epoch that are left."""
        position, examples = self.position, self.data.train
        return examples.batches(
            self.batch_size,
            order=seeds.example_order(len(examples), self.settings.seed, position.epoch),
            start=position.batch,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    # ---- a step

    def _step(self, batch: AnyBatch) -> None:
        """Makes one optimiser step on this process's share of a batch, unless something in it is not finite."""
        settings, accelerator = self.settings, self.accelerator
        seeds.seed_step(self.device, settings.seed, "step", self.position.step, accelerator.process_index)
        # What the step learns from, over all processes together; the last batch of an epoch may be smaller.
        if isinstance(batch, PairBatch):
            examples = batch.tokens
        else:
            assert isinstance(self.batch_size, int)
            examples = min(self.batch_size, len(self.data.train) - self.position.batch * self.batch_size)
        parts = batching.micro_batches(
            batch.to(self.device),
            settings.micro_batches,
            step_examples=examples,
            processes=accelerator.num_processes,
        )
        self._set_rates(self.position.step)
        self.optimizer.zero_grad()
        terms = self._finite_terms(*self._backward(parts), parts)
        if settings.max_gradient_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
        self.optimizer.step()
        self.state.add_terms(terms, examples)

    def _set_rates(self, step: int) -> None:
        """Gives the optimiser the learning rates of a step, from 0."""
        steps = self.batches * self.epochs
        factor = self.schedule(min(step, steps - 1), self.batches, steps)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor

    def _backward(self, parts: Sequence[AnyBatch]) -> tuple[tuple[str, ...], Tensor]:
        """Goes back from the loss of every micro-batch; returns this process's terms of the step [T] by name."""
        items = self._items_in_step(parts) if len(parts) > 1 else None
        found: list[Tensor] = []
        for number, part in enumerate(parts, start=1):
            # Gradients are sent once, with those of the last micro-batch.
            with self.accelerator.no_sync(self.model) if number < len(parts) else nullcontext():
                terms = self.model(part.inputs, part.labels, part.indices, num_items_in_step=items)
                self.accelerator.backward(terms.total)
            found.append(torch.stack([term.detach() for term in terms]))
        return terms._fields, torch.stack(found).sum(dim=0) if len(found) > 1 else found[0]

    def _items_in_step(self, parts: Sequence[AnyBatch]) -> Tensor:
        """Returns how many labels count in the step over all processes; with class weights the sum of those."""
        objective = self.network.objective
        labels = torch.cat([part.labels.flatten() for part in parts])
        counts = labels >= 0
        weights = counts.float() if objective.weight is None else objective.weight[labels.clamp_min(0)] * counts
        return global_count(weights.sum(), group=objective.process_group)

    def _finite_terms(self, names: tuple[str, ...], terms: Tensor, parts: Sequence[AnyBatch]) -> dict[str, float]:
        """Returns the terms of the step over all processes; raises DivergedTraining before anything has moved.

        Each process's terms [T] are its share, such that their average is the whole. With it every process sees what is
        not finite anywhere, and none waits for another that has stopped.
        """
        # fp16 scales its gradients, finds those that overflow by itself, and leaves out such a step. A fused optimiser
        # does not tell which ones, so it is the scale that is asked.
        scaler = self.accelerator.scaler
        is_checked = scaler is None or scaler.get_scale() < _LOWEST_SCALE
        gradients = [value.grad for value in self.weights if value.grad is not None and is_checked]
        found = torch.cat([terms, get_total_norm(gradients).to(terms)[None]])
        if self.accelerator.num_processes > 1:
            found = self.accelerator.reduce(found, reduction="mean")
        *values, norm = found.tolist()
        made = dict(zip(names, values, strict=True))
        if not all(map(math.isfinite, (*values, norm))):
            place = f"epoch {self.position.epoch + 1}, batch {self.position.batch + 1} of {self.batches}"
            check_finite.refuse_step(self.network, made, parts, step=self.position.step + 1, place=place)
        return made

    def time_steps(self, steps: int, *, batch_size: int | TokenBudget | None = None) -> list[float]:
        """Makes optimiser steps on the first batches and returns the seconds of each; for estimates, not for training.

        Args:
            steps: At most so many, no more than an epoch has.
            batch_size: Of these steps; None: that of the run.
        """
        times: list[float] = []
        self.network.train()
        batches: Iterator[AnyBatch] = self.data.train.batches(batch_size or self.batch_size)
        for batch in itertools.islice(batches, steps):
            began = time.perf_counter()
            self._step(batch)
            times.append(time.perf_counter() - began)
        return times

    # ---- the end of an epoch

    def _evaluate_epoch(self, started: float) -> dict[str, Any]:
        """Returns the epoch's line of the history."""
        check_finite.refuse_weights(self.network, step=self.position.step, when=f"after {self._here()}")
        trained, examples = time.perf_counter() - started, self.data.train.num_examples
        line: dict[str, Any] = {
            "epoch": self.position.epoch + 1,
            "seconds": 0.0,
            "training_seconds": round(trained, 4),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train": {name: total / examples for name, total in self.state.term_sums.items()},
            "validation": self._evaluate("validation", self._here()),
            "test": self._evaluate("test", self._here()) if self.settings.test_every_epoch else None,
        }
        return line | {"seconds": round(time.perf_counter() - started, 4)}

    def _evaluate(self, split: str, where: str) -> dict[str, Any] | None:
        # Every process evaluates all of it: no examples to gather, and the same choice everywhere.
        try:
            return evaluate(self.network, self.data, split)
        except ValueError as error:
            message = f"the predictions are not finite after {where}: {error}. {check_finite.WAY_OUT}"
            raise DivergedTraining(message, step=self.position.step) from error

    def _here(self) -> str:
        return f"step {self.position.step} (epoch {self.position.epoch + 1})"

    def _result(self) -> dict[str, Any]:
        position, line = self.position, self.position.best_line
        test = line["test"] or self._evaluate("test", f"epoch {position.best_epoch}, the selected one")
        return {
            "format": RESULT_FORMAT,
            "status": "finished",
            "message": None,
            "epochs": position.epoch,
            "selected_epoch": position.best_epoch,
            "selected_by": self.selected_by.replace("_", " "),
            "seconds": round(position.seconds, 3),
            "parameters": self.network.parameter_count(),
            "batch_size": getattr(self.batch_size, "tokens", self.batch_size),
            "train": line["train"],
            "validation": line["validation"],
            "test": test,
        }

    # ---- checkpoints, stopping, progress

    def _save_or_stop(self, line: dict[str, Any] | None = None) -> None:
        """Saves where a save is due and stops where that is asked, all processes after the same step.

        Args:
            line: Of an epoch that has just ended.
        """
        position, is_over = self.position, self.position.epoch >= self.last_epoch
        # The clock that says when to save is that of the process that writes.
        is_due = self.accelerator.is_main_process and self.saving_times.is_due(position.step, epoch_ends=bool(line))
        wishes = [self.signal.number is not None or self.stop(), is_due]
        if self.accelerator.num_processes > 1:
            votes = torch.tensor(wishes, dtype=torch.int32, device=self.device)
            wishes = self.accelerator.reduce(votes, reduction="sum").bool().tolist()
        if any(wishes) or is_over:
            self.save()
        if line is not None:
            self.observe(Progress(position.epoch, self.epochs, 0, self.batches, position.seconds, line))
        if wishes[0] and not is_over:
            where = f"epoch {position.epoch + 1} of {self.epochs}"
            message = f"stopped in {where}; to go on: labelembed resume {self.folder.path}"
            raise InterruptedTraining(message, signal_number=self.signal.number or 2)

    def save(self) -> None:
        """Saves a checkpoint of where the run stands."""
        check_finite.refuse_weights(self.network, step=self.position.step, when=f"after {self._here()}")
        with self.saving_times.saving():
            checkpoint = self.state.checkpoint()
            if self.accelerator.is_main_process:
                save_checkpoint(self.folder.checkpoints, checkpoint, keep=self.settings.checkpoints.keep)

    def _show_progress(self, started: float) -> None:
        now = time.perf_counter()
        if now - self._shown_at > _SECONDS_BETWEEN_PROGRESS:
            self._shown_at = now
            seconds = self.position.seconds + now - started
            self.observe(Progress(self.position.epoch, self.epochs, self.position.batch, self.batches, seconds, None))
