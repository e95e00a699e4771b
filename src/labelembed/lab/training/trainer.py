"""The one training loop, for every objective and task: epoch, batches, step, evaluation, selection, checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from accelerate.utils import broadcast
from torch import Tensor
from torch.nn.utils import get_total_norm

from labelembed import seeds
from labelembed.distributed import global_count
from labelembed.lab.data import PairBatch, TextCorpus
from labelembed.lab.errors import DivergedTraining, InterruptedTraining, RunFolderError
from labelembed.lab.training.checkpoints import Checkpoint, Position, load_newest, save_checkpoint
from labelembed.lab.training.device import Received, make_accelerator, stop_after_step
from labelembed.lab.training.evaluation import hidden_states
from labelembed.lab.training.files import resume_command, saving
from labelembed.lab.training.network import AnyBatch, Network, TrainingData, micro_batches, to_device_if_fits
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES, load_state, state_tensors
from labelembed.lab.training.reporter import Progress, Reporter
from labelembed.lab.training.run_folder import RESULT_FORMAT, RunFolder
from labelembed.lab.training.settings import TrainingSettings, arguments_of

_SECONDS_BETWEEN_PROGRESS = 0.2
_WAY_OUT = "Try a lower optimizer.learning_rate"


class Trainer:
    """Trains one network on the data of one task, into one run folder.

    The task has `data` and `evaluate(network, split)`, which returns metrics, or None where there is no such split.
    The device is `cpu`, or what Accelerate finds (None). `log` gets the history's line of each epoch.
    """

    def __init__(
        self,
        task: Any,
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
        self.data: TrainingData = to_device_if_fits(task.data, self.device)
        self.batch_size = settings.step_size(self.data.num_labels)
        self.batches = self.data.train.number_of_batches(self.batch_size)
        self.epochs = settings.number_of_epochs(self.data)
        by_metric = "validation_bleu" if isinstance(self.data, TextCorpus) else "validation_error"
        by_default = "last_epoch" if self.data.validation is None else by_metric
        self.selected_by = by_default if settings.selection.by == "auto" else settings.selection.by
        if settings.compile:
            self.network.encoder.compile()
        self.optimizer = OPTIMIZERS[settings.optimizer["name"]](self.network, **arguments_of(settings.optimizer))
        self.schedule = SCHEDULES[settings.schedule["name"]](**arguments_of(settings.schedule))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.model, self.weights = self.accelerator.prepare(self.network), list(self.network.parameters())
        self._writes = self.accelerator.is_main_process
        self.position = Position()
        self.best_weights: dict[str, Tensor] = {}  # of the selected epoch, on the CPU
        self._saved_at, self._shown_at = time.monotonic(), 0.0

    @property
    def last_epoch(self) -> int:
        """After how many epochs the run is over, by the recipe or by its patience."""
        since = max(self.position.best_epoch, self.position.patience_from)
        return min(self.epochs, since + (self.settings.selection.patience or self.epochs))

    def restore(self) -> None:
        """Restores the newest whole checkpoint; raises RunFolderError where it is of another run."""
        checkpoint, damaged = load_newest(self.folder.checkpoints)
        for line in damaged:
            self.reporter.warn(f"damaged checkpoint skipped: {line}")
        if checkpoint is None:
            if damaged or self.folder.history():
                self.reporter.warn(f"{self.folder.path}: has no whole checkpoint; the run starts over")
            return
        try:
            position = Position.model_validate(checkpoint.values)
            if best := checkpoint.tensors.get("best"):  # through the network, which refuses those of another one
                self.network.load_prediction_state(best)
                self.best_weights = self.network.prediction_state()
            self.network.load_state_dict(checkpoint.tensors["network"])
            load_state(self.optimizer, checkpoint.tensors.get("optimizer", {}))
            self.position = position
        except Exception as error:  # what is damaged, or of another run, makes torch raise nearly anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            what = f"the checkpoint of step {checkpoint.step} does not fit this recipe ({reason})"
            raise RunFolderError(f"{self.folder.checkpoints}: {what}; train again in another folder") from error

    def save(self) -> None:
        """Saves a checkpoint of where the run stands."""
        self._check_weights()
        if self._writes:
            tensors = {"network": self.network.state_dict(), "optimizer": state_tensors(self.optimizer)}
            tensors["best"] = self.best_weights
            checkpoint = Checkpoint(self.position.step, tensors, self.position.model_dump())
            save_checkpoint(self.folder.checkpoints, checkpoint, keep=self.settings.checkpoints.keep)
        self._saved_at = time.monotonic()

    def fit(self) -> dict[str, Any]:
        """Trains to the end and returns what the selected epoch reached, whose weights the network then has.

        The test set is measured here, once, unless it was after every epoch. InterruptedTraining: a signal came, and
        the state is saved; DivergedTraining: something is not finite, and has updated nothing.
        """
        position = self.position
        with stop_after_step() as self.signal:
            while position.epoch < self.last_epoch:
                self._train_epoch()
        if self.best_weights:
            self.network.load_prediction_state(self.best_weights)
        line = position.best_line
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
            "test": line["test"] or self._evaluate("test", f"epoch {position.best_epoch}, the selected one"),
        }

    def _train_epoch(self) -> None:
        position, objective, examples = self.position, self.network.objective, self.data.train
        started = time.perf_counter() - position.epoch_seconds
        objective.start_epoch(position.epoch, self.epochs, self.batches)
        self.network.train()
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
            if (now := time.perf_counter()) - self._shown_at > _SECONDS_BETWEEN_PROGRESS:
                self._shown_at = now
                self._show_progress()
        if self.accelerator.num_processes > 1:  # each has statistics of its own, as of batch normalisation
            broadcast(list(self.network.encoder.buffers()))
        objective.end_epoch(partial(hidden_states, self.network, self.data.train))
        self._check_weights()
        here = self._here()
        line: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "training_seconds": round(time.perf_counter() - started, 4),
            "learning_rate": self.settings.optimizer["learning_rate"] * self.rate_factor,
            "train": {name: total / examples.num_examples for name, total in position.term_sums.items()},
            "validation": self._evaluate("validation", here),
            "test": self._evaluate("test", here) if self.settings.test_every_epoch else None,
        }
        line["seconds"] = round(time.perf_counter() - started, 4)
        position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
        position.seconds += line["seconds"]
        position.term_sums = {}
        # Of epochs that are selected by their number the network itself is the best there is.
        if position.take_if_best(self.selected_by, line) and self.selected_by != "last_epoch":
            self.best_weights = self.network.prediction_state()
        if self._writes:
            with saving(self.folder.path):
                self.folder.append_history(line)
            self.log(line)
        self._save_or_stop(line)

    def _evaluate(self, split: str, where: str) -> dict[str, Any] | None:
        try:  # every process evaluates all of it: the same choice everywhere
            return cast(dict[str, Any] | None, self.task.evaluate(self.network, split))
        except ValueError as error:
            what = f"the predictions are not finite after {where}: {error}. {_WAY_OUT}"
            raise DivergedTraining(what, step=self.position.step) from error

    def _step(self, batch: AnyBatch) -> None:
        """Makes one optimiser step on this process's share of a batch, unless something in it is not finite."""
        settings, accelerator, step = self.settings, self.accelerator, self.position.step
        # What a step draws, as dropout masks, follows from its number: a resumed run needs no state of generators.
        seed = seeds.derived_seed(settings.seed, "step", step, accelerator.process_index)
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would take a tenth of a millisecond
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)
        # What the step learns from, over all processes together; the last batch of an epoch may be smaller.
        size, number = cast(int, self.batch_size), self.position.batch
        examples = batch.tokens if isinstance(batch, PairBatch) else min(size, len(self.data.train) - number * size)
        count, processes = settings.micro_batches, accelerator.num_processes
        parts = micro_batches(batch.to(self.device), count, step_examples=examples, processes=processes)
        self.rate_factor = self.schedule(step, self.batches, self.batches * self.epochs)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * self.rate_factor
        self.optimizer.zero_grad()
        means = self._finite_means(*self._backward(parts))
        if settings.max_gradient_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), settings.max_gradient_norm)
        self.optimizer.step()
        sums = self.position.term_sums
        sums |= {name: sums.get(name, 0.0) + mean * examples for name, mean in means.items()}

    def _backward(self, parts: Sequence[AnyBatch]) -> tuple[tuple[str, ...], Tensor]:
        """Backpropagates the loss of every micro-batch; returns this process's terms of the step [T] by name."""
        sums: list[Tensor] = []
        items, objective = None, self.network.objective
        if len(parts) > 1:  # how many labels count, over all processes; with class weights the sum of those
            labels = torch.cat([part.labels.flatten() for part in parts])
            weights = 1.0 if objective.weight is None else objective.weight[labels.clamp_min(0)]
            items = global_count(((labels >= 0) * weights).sum(), group=objective.process_group)
        for number, part in enumerate(parts, start=1):
            # Gradients are sent once, with those of the last micro-batch.
            with self.accelerator.no_sync(self.model) if number < len(parts) else nullcontext():
                terms = self.model(part.inputs, part.labels, part.indices, num_items_in_step=items)
                self.accelerator.backward(terms.total)
            sums.append(torch.stack([term.detach() for term in terms]))
        return terms._fields, torch.stack(sums).sum(dim=0) if len(sums) > 1 else sums[0]

    def time_steps(self, steps: int) -> list[float]:
        """Makes so many optimiser steps, at most an epoch, and returns the seconds of each; for estimates."""
        self.network.train()
        self.network.objective.start_epoch(0, self.epochs, self.batches)
        times = [time.perf_counter()]
        batches: Iterator[AnyBatch] = self.data.train.batches(self.batch_size)
        for batch in itertools.islice(batches, steps):
            self._step(batch)
            times.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(times)]

    def _finite_means(self, names: Sequence[str], terms: Tensor) -> dict[str, float]:
        """Returns the terms of the step over all processes; raises DivergedTraining before anything has moved.

        Each process's terms [T] average to the whole: every process sees what is not finite anywhere, and all stop.
        """
        of_gradients = get_total_norm([value.grad for value in self.weights if value.grad is not None])
        sums = torch.cat([terms, of_gradients.to(terms)[None]])
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(sums, reduction="mean")
        *means, norm = sums.tolist()
        by_name = dict(zip(names, means, strict=True))
        if all(map(math.isfinite, (*means, norm))):
            return by_name
        wrong = [name for name, value in by_name.items() if not math.isfinite(value)]
        gradient = _first_not_finite((name, value.grad) for name, value in self.network.named_parameters())
        what = f"the gradient is not finite: that of `{gradient or 'all weights together'}`"
        if wrong:  # the total is wrong whenever a term is; the term says where to look
            term = (wrong[1:] or wrong)[0]
            what = f"the loss is not finite: term `{term}` is {by_name[term]}"
        position, step = self.position, self.position.step + 1
        what += f" at step {step} (epoch {position.epoch + 1}, batch {position.batch + 1} of {self.batches})"
        raise DivergedTraining(f"{what}. {_WAY_OUT}", step=step)

    def _check_weights(self) -> None:
        """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name."""
        state = itertools.chain(self.network.named_parameters(), self.network.named_buffers())
        if (name := _first_not_finite(state)) is not None:
            what = f"the weights are not finite after {self._here()}: `{name}`. {_WAY_OUT}"
            raise DivergedTraining(what, step=self.position.step)

    def _here(self) -> str:
        return f"step {self.position.step} (epoch {self.position.epoch + 1})"

    def _save_or_stop(self, line: dict[str, Any] | None = None) -> None:
        """Saves a checkpoint when one is due, and stops on a signal; all processes do so after the same step."""
        position, policy = self.position, self.settings.checkpoints
        is_over = position.epoch >= self.last_epoch
        is_old = bool(line) and time.monotonic() - self._saved_at >= policy.minimum_seconds
        is_due = is_old or (policy.every_steps is not None and position.step % policy.every_steps == 0)
        # The clock that says when to save is that of the process that writes.
        wishes = [self.signal.number is not None or self.reporter.wants_stop(), is_due and self._writes]
        if self.accelerator.num_processes > 1:
            votes = torch.tensor(wishes, dtype=torch.int32, device=self.device)
            wishes = self.accelerator.reduce(votes, reduction="sum").bool().tolist()
        if any(wishes) or is_over:
            self.save()
        if line is not None:
            self._show_progress(line)
        if wishes[0] and not is_over:
            where, way_on = f"epoch {position.epoch + 1} of {self.epochs}", resume_command(self.folder.path)
            raise InterruptedTraining(f"stopped in {where}; to go on: {way_on}", signal_number=self.signal.number or 2)

    def _show_progress(self, line: dict[str, Any] | None = None) -> None:
        self.reporter.progress(Progress(self.position.epoch, self.epochs, self.position.batch, self.batches, line))


def _first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Returns the name of the first floating-point tensor that holds a NaN or an infinity; None where none does."""
    for name, value in named:
        if value is not None and value.is_floating_point() and not value.isfinite().all():
            return name
    return None
