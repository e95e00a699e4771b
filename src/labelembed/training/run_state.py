"""A run's whole state as a checkpoint, and back: what it takes to end with the same numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed import seeds
from labelembed.training.checkpoints import Checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import load_state, state_tensors
from labelembed.training.random_states import states_of_others, take_own_state
from labelembed.training.settings import Position


@dataclasses.dataclass
class RunState:
    """Everything that a run changes while it trains.

    Args:
        network: With the objective's buffers.
        optimizer: With its moments.
        scheduler: Counts the steps.
        scaler: Of fp16; None otherwise.
        position: Where the run stands, and its best epoch.
        term_sums: Sums of the terms over the rows of the epoch in progress.
        best_weights: State of the selected epoch's network, on the CPU; empty while there is none.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: GradScaler | None
    position: Position = dataclasses.field(default_factory=Position)
    term_sums: dict[str, float] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def checkpoint(self) -> Checkpoint:
        """Returns it all, with the random states of all processes, which must call it together."""
        random_tensors, random_values = seeds.capture()
        random_tensors |= states_of_others(next(self.network.parameters()).device)
        optimizer_tensors, optimizer_values = state_tensors(self.optimizer)
        values: dict[str, Any] = {
            "position": dataclasses.asdict(self.position),
            "term_sums": dict(self.term_sums),
            "optimizer": optimizer_values,
            "scheduler": {key: value for key, value in self.scheduler.state_dict().items() if key != "lr_lambdas"},
            "scaler": self.scaler.state_dict() if self.scaler is not None else {},
            "random": random_values,
        }
        tensors = {
            "network": self.network.state_dict(),
            "optimizer": optimizer_tensors,
            "random": random_tensors,
        }
        if self.best_weights:
            tensors["best"] = self.best_weights
        return Checkpoint(self.position.step, tensors, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved.

        Args:
            checkpoint: What `checkpoint` returned, read back.
        """
        values = checkpoint.values
        position = _position(values["position"])
        if position.step != checkpoint.step:
            raise ValueError(f"it is of step {checkpoint.step} by one number and of step {position.step} by another")
        best = checkpoint.tensors.get("best", {})
        if best:  # through the network, which refuses those of another one and knows names of earlier versions
            self.network.load_prediction_state(best)
            self.best_weights = self.network.prediction_state()
        self.network.load_state_dict(checkpoint.tensors["network"])
        load_state(self.optimizer, checkpoint.tensors["optimizer"], values["optimizer"])
        self._restore_scheduler(values["scheduler"])
        if self.scaler is not None and values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        seeds.restore(checkpoint.tensors["random"], values["random"])
        take_own_state(checkpoint.tensors["random"], next(self.network.parameters()).device)
        self.term_sums = {name: _number(value, "a sum of terms") for name, value in values["term_sums"].items()}
        self.position = position

    def _restore_scheduler(self, saved: Mapping[str, Any]) -> None:
        """Counts on from the step that was saved; base rates and their factors are those of the recipe."""
        scheduler = self.scheduler
        # Fewer than the run's own where fp16 left a step out.
        scheduler.last_epoch = _whole(saved["last_epoch"], "the scheduler's step")
        scheduler._step_count = scheduler.last_epoch + 1
        rates = [
            base * factor(scheduler.last_epoch)
            for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        ]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = list(rates)


def _position(saved: Mapping[str, Any]) -> Position:
    """Returns where a run stood; raises ValueError or TypeError where that is nowhere."""
    position = Position(**saved)
    for name in ("epoch", "batch", "step", "best_epoch"):
        _whole(getattr(position, name), f"position.{name}")
    for name in ("seconds", "epoch_seconds"):
        _number(getattr(position, name), f"position.{name}")
    for name in ("best_score", "best_tie"):
        if getattr(position, name) is not None:
            _number(getattr(position, name), f"position.{name}")
    line = position.best_line
    known = isinstance(line, dict) and (position.best_epoch == 0 or {"train", "development", "test"} <= line.keys())
    if not known or position.best_epoch > position.epoch or (position.epoch > 0 and position.best_epoch == 0):
        raise ValueError("it does not say which epoch was the best")
    return position


def _whole(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{what} is {value!r:.60}, no whole number from 0 up")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{what} is {value!r:.60}, no number")
    return value
