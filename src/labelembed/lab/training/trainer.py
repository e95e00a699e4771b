"""The one training loop, for every objective and task: epoch, batches, step, evaluation, selection, checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from labelembed import seeds
from labelembed.distributed import gather, global_count
from labelembed.lab.data import PairBatch
from labelembed.lab.errors import DivergedTraining, InterruptedTraining, RunFolderError
from labelembed.lab.training.checkpoints import Position, RunState, load_newest, save_checkpoint
from labelembed.lab.training.device import Received, make_accelerator, stop_after_step
from labelembed.lab.training.evaluation import hidden_states
from labelembed.lab.training.files import saving
from labelembed.lab.training.network import AnyBatch, Network, TrainingData, micro_batches, to_device_if_fits
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.lab.training.reporter import Progress, Reporter
from labelembed.lab.training.run_folder import RESULT_FORMAT, RunFolder
from labelembed.lab.training.settings import TrainingSettings

WAY_OUT = "Try a lower optimizer.learning_rate, or precision: float32"
_SECONDS_BETWEEN_PROGRESS = 0.2
# Of fp16's loss: it begins at 65,536 and is halved at every overflow, so a gradient that overflows here is above 1e9.
_LOWEST_SCALE = 2.0**-14


class Task(Protocol):
    """What a run learns, as the trainer sees it: data, and how good a network is on a split of them."""

    data: TrainingData

    def evaluate(self, network: Network, split: str) -> dict[str, Any] | None:
        """Returns the metrics of a split, None where there is none; raises ValueError where they are not finite."""


class Trainer:
    """Trains one network on the data of one task, into one run folder.

    Args:
        task: Its data are moved to the device where they fit.
        network: What is trained; moved to the device.
        settings: How the run goes; a recipe is one.
        folder: Where history and checkpoints go.
        reporter: Who watches, and may ask to stop.
        device: `cpu`, `cuda`, ...; None: what Accelerate finds.

    Attributes:
        epochs: How many the run has, and in `batches` the optimiser steps of each.
        log: Called with the history's line of each epoch, for trackers.
    """

    def __init__(
        self,
        task: Task,
        network: Network,
        settings: TrainingSettings,
        folder: RunFolder,
        reporter: Reporter,
        *,
        device: str | None = None,
    ) -> None:
        self.task, self.settings, self.folder, self.reporter = task, settings, folder, reporter
        self.log: Callable[[dict[str, Any]], None] = lambda line: None
        self.signal = Received()
        self.accelerator = make_accelerator(settings.precision, device=device)
        self.device: torch.device = self.accelerator.device
        self.network = network.to(self.device)
        self.network.autocast = self.accelerator.autocast
        self.data = to_device_if_fits(task.data, self.device)
        self.batch_size = settings.step_size(self.data.num_labels)
        self.batches = self.data.train.number_of_batches(self.batch_size)
        self.epochs = settings.number_of_epochs(self.data)
        self.selected_by = settings.selected_by(self.data)
        if settings.compile:
            self.network.encoder.compile()
        optimizer = _component(OPTIMIZERS, settings.optimizer, self.network)
        self.schedule = _component(SCHEDULES, settings.schedule)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.model, scaled = self.accelerator.prepare(self.network, optimizer)
        # Accelerate's own is for fp16's scaler; at every step it looks on the disk for a package that it may need.
        self.optimizer = optimizer if self.accelerator.scaler is None else scaled
        self.weights = list(self.network.parameters())
        self.state = RunState(self.network, self.optimizer, self.accelerator.scaler)
        self._saved_at, self._shown_at = time.monotonic(), 0.0

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.state.position

    @property
    def last_epoch(self) -> int:
        """After how many epochs the run is over, by the recipe or by its patience if no better epoch comes."""
        since = max(self.position.best_epoch, self.position.patience_from)
        return min(self.epochs, since + (self.settings.selection.patience or self.epochs))

    def restore(self) -> None:
        """Goes to where the newest whole checkpoint was saved; without one the run stays at its beginning.

        Raises:
            RunFolderError: The checkpoint is of another run.
        """
        checkpoint, damaged = load_newest(self.folder.checkpoints)
        for line in damaged:
            self.reporter.warn(f"damaged checkpoint skipped: {line}")
        if checkpoint is None:
            if damaged:
                self.reporter.warn(f"{self.folder.path}: none of its checkpoints is whole; the run starts over")
            return
        try:
            self.state.restore(checkpoint)
        except Exception as error:  # what is damaged, or of another run, makes torch raise nearly anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            what = f"the checkpoint of step {checkpoint.step} does not fit this recipe ({reason})"
            raise RunFolderError(f"{self.folder.checkpoints}: {what}; train again in another folder") from error

    def fit(self) -> dict[str, Any]:
        """Trains to the end and returns what the selected epoch reached, for ``result.json``.

        The network then has the weights of that epoch. The test set is measured here, once, unless it was measured
        after every epoch.

        Raises:
            TrainingError: When a term is not finite, or a checkpoint cannot be saved.
            InterruptedTraining: After a signal; the state is saved.
        """
        position = self.position
        with stop_after_step() as self.signal:
            while position.epoch < self.last_epoch:
                self._train_epoch()
        if self.state.best_weights:
            self.network.load_prediction_state(self.state.best_weights)
        line = position.best_line
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

    # ---- an epoch

    def _train_epoch(self) -> None:
        position, objective = self.position, self.network.objective
        started = time.perf_counter() - position.epoch_seconds
        objective.start_epoch(position.epoch, self.epochs, self.batches)
        self.network.train()
        examples = self.data.train
        batches: Iterator[AnyBatch] = examples.batches(
            self.batch_size,
            order=seeds.example_order(len(examples), self.settings.seed, position.epoch),
            start=position.batch,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        for batch in batches:
            self._step(batch)
            position.batch += 1
            position.step += 1
            if position.batch < self.batches:
                position.epoch_seconds = time.perf_counter() - started
                self._save_or_stop()
            self._show_progress(started)
        objective.end_epoch(partial(hidden_states, self.network, self.data.train))
        line = self._history_line(started)
        position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
        position.seconds += line["seconds"]
        self.state.term_sums = {}
        # Of epochs that are selected by their number the network itself is the best there is.
        if position.take_if_best(self.selected_by, line) and self.selected_by != "last_epoch":
            self.state.best_weights = self.network.prediction_state()
        if self.accelerator.is_main_process:
            with saving(self.folder.path):
                self.folder.append_history(line)
            self.log(line)
        self._save_or_stop(line)

    def _history_line(self, started: float) -> dict[str, Any]:
        """Returns the epoch's line of the history, evaluated."""
        self._check_weights()
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
            return self.task.evaluate(self.network, split)
        except ValueError as error:
            message = f"the predictions are not finite after {where}: {error}. {WAY_OUT}"
            raise DivergedTraining(message, step=self.position.step) from error

    def _check_weights(self) -> None:
        """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name."""
        name = _first_not_finite(_state(self.network))
        if name is not None:
            what = f"the weights are not finite after {self._here()}: `{name}`"
            raise DivergedTraining(f"{what}. {WAY_OUT}", step=self.position.step)

    def _here(self) -> str:
        return f"step {self.position.step} (epoch {self.position.epoch + 1})"

    # ---- a step

    def _step(self, batch: AnyBatch) -> None:
        """Makes one optimiser step on this process's share of a batch, unless something in it is not finite."""
        settings, accelerator, step = self.settings, self.accelerator, self.position.step
        seeds.seed_step(self.device, settings.seed, "step", step, accelerator.process_index)
        # What the step learns from, over all processes together; the last batch of an epoch may be smaller.
        if isinstance(batch, PairBatch):
            examples = batch.tokens
        else:
            assert isinstance(self.batch_size, int)
            examples = min(self.batch_size, len(self.data.train) - self.position.batch * self.batch_size)
        count, processes = settings.micro_batches, accelerator.num_processes
        parts = micro_batches(batch.to(self.device), count, step_examples=examples, processes=processes)
        steps = self.batches * self.epochs
        factor = self.schedule(min(step, steps - 1), self.batches, steps)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        self.optimizer.zero_grad()
        terms = self._finite_terms(*self._backward(parts), parts)
        if settings.max_gradient_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
        self.optimizer.step()
        self.state.add_terms(terms, examples)

    def _backward(self, parts: Sequence[AnyBatch]) -> tuple[tuple[str, ...], Tensor]:
        """Backpropagates the loss of every micro-batch; returns this process's terms of the step [T] by name."""
        items = self._items_in_step(parts) if len(parts) > 1 else None
        sums: list[Tensor] = []
        for number, part in enumerate(parts, start=1):
            # Gradients are sent once, with those of the last micro-batch.
            with self.accelerator.no_sync(self.model) if number < len(parts) else nullcontext():
                terms = self.model(part.inputs, part.labels, part.indices, num_items_in_step=items)
                self.accelerator.backward(terms.total)
            sums.append(torch.stack([term.detach() for term in terms]))
        return terms._fields, torch.stack(sums).sum(dim=0) if len(sums) > 1 else sums[0]

    def _items_in_step(self, parts: Sequence[AnyBatch]) -> Tensor:
        """Returns how many labels count in the step over all processes; with class weights the sum of those."""
        objective = self.network.objective
        labels = torch.cat([part.labels.flatten() for part in parts])
        mask = labels >= 0
        weights = mask.float() if objective.weight is None else objective.weight[labels.clamp_min(0)] * mask
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
        sums = torch.cat([terms, get_total_norm(gradients).to(terms)[None]])
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums, reduction="mean")
        *values, norm = sums.tolist()
        by_name = dict(zip(names, values, strict=True))
        if not all(map(math.isfinite, (*values, norm))):
            place = f"epoch {self.position.epoch + 1}, batch {self.position.batch + 1} of {self.batches}"
            _check_step(self.network, by_name, parts, step=self.position.step + 1, place=place)
        return by_name

    def time_steps(self, steps: int) -> list[float]:
        """Makes so many optimiser steps, at most an epoch, and returns the seconds of each; for estimates."""
        times: list[float] = []
        self.network.train()
        self.network.objective.start_epoch(0, self.epochs, self.batches)
        batches: Iterator[AnyBatch] = self.data.train.batches(self.batch_size)
        for batch in itertools.islice(batches, steps):
            began = time.perf_counter()
            self._step(batch)
            times.append(time.perf_counter() - began)
        return times

    # ---- checkpoints, stopping, progress

    def _save_or_stop(self, line: dict[str, Any] | None = None) -> None:
        """Saves where a save is due and stops where that is asked, all processes after the same step."""
        position, policy = self.position, self.settings.checkpoints
        is_over = position.epoch >= self.last_epoch
        is_old = bool(line) and time.monotonic() - self._saved_at >= policy.minimum_seconds
        is_due = is_old or (policy.every_steps is not None and position.step % policy.every_steps == 0)
        # The clock that says when to save is that of the process that writes.
        is_due = is_due and self.accelerator.is_main_process
        wishes = [self.signal.number is not None or self.reporter.wants_stop(), is_due]
        if self.accelerator.num_processes > 1:
            votes = torch.tensor(wishes, dtype=torch.int32, device=self.device)
            wishes = self.accelerator.reduce(votes, reduction="sum").bool().tolist()
        if any(wishes) or is_over:
            self.save()
        if line is not None:
            self.reporter.progress(Progress(position.epoch, self.epochs, 0, self.batches, position.seconds, line))
        if wishes[0] and not is_over:
            where = f"epoch {position.epoch + 1} of {self.epochs}"
            message = f"stopped in {where}; to go on: labelembed resume {self.folder.path}"
            raise InterruptedTraining(message, signal_number=self.signal.number or 2)

    def save(self) -> None:
        """Saves a checkpoint of where the run stands."""
        self._check_weights()
        checkpoint = self.state.checkpoint()
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder.checkpoints, checkpoint, keep=self.settings.checkpoints.keep)
        self._saved_at = time.monotonic()

    def _show_progress(self, started: float) -> None:
        now, position = time.perf_counter(), self.position
        if now - self._shown_at > _SECONDS_BETWEEN_PROGRESS:
            self._shown_at = now
            seconds = position.seconds + now - started
            self.reporter.progress(Progress(position.epoch, self.epochs, position.batch, self.batches, seconds, None))


def _component(table: Mapping[str, Callable[..., Any]], block: Mapping[str, Any], *given: Any) -> Any:
    """Returns what a block of a recipe names, with its arguments."""
    return table[block["name"]](*given, **{key: value for key, value in block.items() if key != "name"})


# ---- NaN and infinity stop a run where they first show, before a weight moves and before anything is saved or selected


@torch.no_grad()
def _check_step(
    network: Network, terms: Mapping[str, float], parts: Sequence[AnyBatch], *, step: int, place: str
) -> None:
    """Raises DivergedTraining for the term or gradient of a step that is not finite, with what is behind it.

    The weights have not moved yet. The norm of finite gradients may be infinite, for their squares overflow first:
    then nothing is raised. All processes of a run call it together, for each its own micro-batches may be the cause.
    """
    wrong_examples = [parts[0].indices.new_empty(0)]
    for part in parts:
        if isinstance(part.inputs, Tensor) and part.inputs.is_floating_point():
            wrong_examples.append(part.indices[~part.inputs.isfinite().flatten(1).all(dim=1)])
    (of_all,) = gather(torch.cat(wrong_examples))
    examples = sorted(set(of_all.tolist()))
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    gradient = _first_not_finite((name, value.grad) for name, value in network.named_parameters())
    if wrong:  # the total is wrong whenever a term is; the term says where to look
        term = next((name for name in wrong if name != "total"), "total")
        what = f"the loss is not finite: term `{term}` is {terms[term]} at step {step} ({place})"
    elif gradient is not None:
        what = f"the gradient is not finite: that of `{gradient}` at step {step} ({place})"
    else:
        return
    if examples:
        which = ("example " if len(examples) == 1 else "examples ") + ", ".join(map(str, examples[:5]))
        more = ", ..." if len(examples) > 5 else ""
        raise DivergedTraining(f"{what}; the input is not finite: training {which}{more}", step=step)
    before = _first_not_finite(_state(network))
    what += "" if before is None else f"; before it `{before}` is not finite"
    raise DivergedTraining(f"{what}. {WAY_OUT}", step=step)


def _state(network: Network) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(network.named_parameters(), network.named_buffers())


def _first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Returns the name of the first floating-point tensor that holds a NaN or an infinity; None where none does."""
    for name, value in named:
        if value is not None and value.is_floating_point() and not value.isfinite().all():
            return name
    return None
