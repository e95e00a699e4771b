"""The one training loop, for every objective."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed import seeds
from labelembed.errors import InterruptedTraining
from labelembed.training.checkpoints import Checkpoint, SavingTimes, save_checkpoint
from labelembed.training.files import saving
from labelembed.training.finite import refuse_loaded, refuse_moments, refuse_predictions, refuse_weights
from labelembed.training.measuring import measure, selected_by, selection_score
from labelembed.training.network import Network
from labelembed.training.optimizer_steps import OptimizerSteps
from labelembed.training.placement import free_bytes, placed
from labelembed.training.precision import make_accelerator, prepared
from labelembed.training.progress import Progress, ignore_progress
from labelembed.training.run_folder import JOURNAL_LINE_BYTES, RunFolder
from labelembed.training.run_state import RunState
from labelembed.training.schedules import Schedule
from labelembed.training.settings import Position, TrainingSettings
from labelembed.training.signals import Received, stop_after_step
from labelembed.training.training_data import AnyBatch, TrainingData, batches, number_of_batches, rows_of_step
from labelembed.training.training_pass import hidden_states
from labelembed.training.warm_up import warm_up

_ESTIMATE_SECONDS = 10.0


class Trainer:
    """Trains one network on one data set, into one run folder.

    Args:
        network: What is trained; moved to the device.
        make_optimizer: Builds the optimiser once the network is on the device.
        schedule: Factor on the learning rate, a step at a time.
        data: Splits; moved to the device where they fit (see `placement`).
        settings: How the run goes.
        folder: Where journal and checkpoints go.
        observe: Called now and then with where the run stands.
        stop: Asked after every step whether to save and stop, as a signal would have it.
        device: `cpu`, `cuda`, ...; None: what Accelerate finds.
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
        self.network = network.to(self.accelerator.device)
        self.data = placed(data, self.accelerator.device, free=free_bytes(self.accelerator.device))
        if settings.compile:
            self.network.encoder.compile()
        optimizer = make_optimizer(self.network)
        self.batches = number_of_batches(self.data.train, settings.batch_size)
        steps = self.batches * settings.epochs
        self.model, self.optimizer = prepared(self.accelerator, self.network, optimizer)
        # The schedule's own scheduler, not Accelerate's, which would step once for every process.
        scheduler = LambdaLR(optimizer, lambda step: schedule(min(step, steps - 1), self.batches, steps))
        self.state = RunState(self.network, self.optimizer, scheduler, self.accelerator.scaler)
        self.steps = OptimizerSteps(
            self.accelerator,
            self.model,
            self.network,
            self.optimizer,
            scheduler,
            micro_batches=settings.micro_batches,
            max_gradient_norm=settings.max_gradient_norm,
        )
        self.saving_times = SavingTimes(settings.checkpoints)
        self._shown_at = 0.0

    @property
    def position(self) -> Position:
        """Where the run stands."""
        return self.state.position

    def run(self) -> dict[str, Any]:
        """Trains to the end and returns what the selected epoch reached, for ``result.json``.

        The network then has the weights of that epoch. The test set is measured here, once, unless it was measured
        after every epoch.

        Raises:
            TrainingError: When a term is not finite, or a checkpoint cannot be saved.
            InterruptedTraining: After a signal; the state is saved.
        """
        source = (
            "what the run begins with" if self.position.step == 0 else f"the checkpoint of step {self.position.step}"
        )
        refuse_loaded(self.network, source=f"{self.folder.path}: {source}")
        if self.position.step == 0:
            seeds.seed_everything(self.settings.seed, "training")
        if self.settings.compile or self.accelerator.device.type != "cpu":
            size, parts = self.settings.batch_size, self.accelerator.num_processes * self.settings.micro_batches
            rows = -(-size // parts) if isinstance(size, int) else size
            warm_up(self.network, self.data, rows, autocast=self.accelerator.autocast)
        with stop_after_step() as self.signal:
            while self.position.epoch < self.settings.epochs and not self._out_of_patience():
                self._train_epoch()
        self.network.load_prediction_state(self.selected_weights())
        return self._result()

    def _train_epoch(self) -> None:
        position, settings = self.position, self.settings
        started = time.perf_counter() - position.epoch_seconds
        order = seeds.row_order(len(self.data.train), settings.seed, position.epoch)
        self.network.objective.start_epoch(position.epoch, settings.epochs, self.batches)
        self.network.train()
        of_epoch = batches(
            self.data.train,
            settings.batch_size,
            order=order,
            start=position.batch,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        for batch in of_epoch:
            self._step(batch)
            position.batch += 1
            position.step += 1
            if position.batch < self.batches:
                stopping, due = self._stopping_or_saving(epoch_ends=False)
                if stopping or due:
                    position.epoch_seconds = time.perf_counter() - started
                    self.save()
                if stopping:
                    self._leave()
            self._show(started)
        examples = partial(hidden_states, self.network, self.data.train, autocast=self.accelerator.autocast)
        self.network.objective.end_epoch(examples)
        self._finish_epoch(started)

    def time_steps(self, steps: int) -> list[float]:
        """Makes up to `steps` optimiser steps and returns the seconds of each; for estimates, not for training.

        Of steps so long that they take more than `_ESTIMATE_SECONDS` together there are fewer, but two at least.
        """
        times = []
        self.network.train()
        for batch in itertools.islice(batches(self.data.train, self.settings.batch_size), steps):
            began = time.perf_counter()
            self._step(batch)
            times.append(time.perf_counter() - began)
            if len(times) >= 2 and sum(times) > _ESTIMATE_SECONDS:
                break
        return times

    def _step(self, batch: AnyBatch) -> None:
        """Makes one optimiser step and adds its terms, each times the rows of the step, to the epoch's sums."""
        number = self.position.batch
        rows = rows_of_step(batch, self.data.train, batch_size=self.settings.batch_size, number=number)
        where = f"epoch {self.position.epoch + 1}, batch {number + 1} of {self.batches}"
        step = self.position.step + 1
        values = self.steps.make(batch, step_rows=rows, step=step, where=f"step {step} ({where})")
        for name, value in values.items():
            self.state.term_sums[name] = self.state.term_sums.get(name, 0.0) + value * rows

    def _finish_epoch(self, started: float) -> None:
        position, data = self.position, self.data
        refuse_weights(self.network, when=f"after {self._here()}", step=position.step)
        trained = time.perf_counter() - started
        rows = data.train.num_examples
        line: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "seconds": 0.0,
            "training_seconds": round(trained, 4),
            "learning_rate": self.state.scheduler.get_last_lr()[0],
            "train": {name: value / rows for name, value in self.state.term_sums.items()},
            "development": self._measure("development", self._here()),
            "test": self._measure("test", self._here()) if self.settings.test_every_epoch else None,
        }
        seconds = time.perf_counter() - started
        line["seconds"] = round(seconds, 4)
        position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
        position.seconds += seconds
        self.state.term_sums = {}
        self._select(line)
        if self.accelerator.is_main_process:
            with saving(self.folder.path, needed_bytes=JOURNAL_LINE_BYTES):
                self.folder.append_journal(line)
        stopping, due = self._stopping_or_saving(epoch_ends=True)
        if stopping or due or position.epoch == self.settings.epochs:
            self.save()
        self.observe(Progress(position.epoch, self.settings.epochs, 0, self.batches, position.seconds, line))
        if stopping and position.epoch < self.settings.epochs:
            self._leave()

    def _measure(self, split: str, where: str) -> dict[str, Any] | None:
        # Every process measures all of it: no rows to gather, and the same choice everywhere.
        try:
            return measure(self.network, self.data, split, autocast=self.accelerator.autocast)
        except ValueError as error:
            raise refuse_predictions(error, where=where, step=self.position.step) from error

    def _here(self) -> str:
        return f"step {self.position.step} (epoch {self.position.epoch + 1})"

    def selected_by(self) -> str:
        """Returns what the selection goes by, with `auto` resolved."""
        return selected_by(self.settings.selection, self.data)

    def _select(self, line: dict[str, Any]) -> None:
        by = self.selected_by()
        position, (score, tie) = self.position, selection_score(by, line)
        broken = score == position.best_score and position.best_tie is not None and tie < position.best_tie
        if position.best_score is None or score < position.best_score or broken:
            position.best_score, position.best_tie = score, tie
            position.best_epoch, position.best_line = line["epoch"], line
            if by != "last_epoch":  # otherwise the network itself is the best there is
                self.state.best_weights = self.network.prediction_state()

    def _out_of_patience(self) -> bool:
        patience = self.settings.selection.patience
        return patience is not None and self.position.epoch - self.position.best_epoch >= patience

    def selected_weights(self) -> dict[str, Tensor]:
        """Returns the state of the selected epoch, on the CPU."""
        return self.state.best_weights or self.network.prediction_state()

    def _result(self) -> dict[str, Any]:
        line = self.position.best_line
        test = line["test"]
        if test is None:
            test = self._measure("test", f"epoch {self.position.best_epoch}, the selected one")
        return {
            "format": 1,
            "status": "finished",
            "message": None,
            "epochs": self.position.epoch,
            "selected_epoch": self.position.best_epoch,
            "selected_by": self.selected_by().replace("_", " "),
            "seconds": round(self.position.seconds, 3),
            "parameters": self.network.parameter_count(),
            "batch_size": getattr(self.settings.batch_size, "tokens", self.settings.batch_size),
            "train": line["train"],
            "development": line["development"],
            "test": test,
        }

    def _stopping_or_saving(self, *, epoch_ends: bool) -> tuple[bool, bool]:
        """Tells whether a process was asked to stop, and whether a save is due: all do the same after the same step."""
        # The clock that says when to save is that of the process that writes.
        main = self.accelerator.is_main_process
        due = main and self.saving_times.is_due(self.position.step, epoch_ends=epoch_ends)
        wishes = self.signal.number is not None or self.stop(), due
        if self.accelerator.num_processes == 1:
            return wishes
        votes = torch.tensor(wishes, dtype=torch.int32, device=self.accelerator.device)
        stopping, saving = self.accelerator.reduce(votes, reduction="sum").tolist()
        return bool(stopping), bool(saving)

    def _leave(self) -> NoReturn:
        where = f"epoch {self.position.epoch + 1} of {self.settings.epochs}"
        message = f"stopped in {where}; to go on: labelembed resume {self.folder.path}"
        raise InterruptedTraining(message, signal_number=self.signal.number or 2)

    def _show(self, started: float) -> None:
        now = time.monotonic()
        if now - self._shown_at > 0.2:
            self._shown_at = now
            position = self.position
            seconds = position.seconds + time.perf_counter() - started
            epochs = self.settings.epochs
            self.observe(Progress(position.epoch, epochs, position.batch, self.batches, seconds, None))

    def save(self) -> None:
        """Saves a checkpoint of where the run stands."""
        step, when = self.position.step, f"after {self._here()}"
        refuse_weights(self.network, when=when, step=step)
        refuse_moments(self.network, self.optimizer, when=when, step=step)
        with self.saving_times.saving():
            checkpoint = self.state.checkpoint()
            if self.accelerator.is_main_process:
                save_checkpoint(self.folder.checkpoints, checkpoint, keep=self.settings.checkpoints.keep)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved."""
        self.state.restore(checkpoint)
