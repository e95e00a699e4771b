"""A run's whole state as a checkpoint, and back: what it takes to end with the same numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from labelembed.lab.training.checkpoints import Checkpoint
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import load_state, state_tensors

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
_Number = Annotated[float, Field(strict=True)]


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Position:
    """Where a run stands; everything in it travels with a checkpoint as JSON.

    Attributes:
        epoch: Epochs finished.
        batch: Batches finished of the epoch in progress.
        step: Optimiser steps made.
        seconds: Time spent in finished epochs, and in the present one before it was resumed.
        epoch_seconds: Of that, in the epoch in progress.
        best_score: Lowest selection score so far.
        best_epoch: The epoch (from 1) it was reached in; 0 when there is none.
        best_line: The history's line of that epoch.
        best_tie: What breaks ties of the score: the lowest among the epochs with `best_score`.
        patience_from: Epochs finished when a run that patience had ended was taken up again.
    """

    epoch: _Count = 0
    batch: _Count = 0
    step: _Count = 0
    seconds: _Number = 0.0
    epoch_seconds: _Number = 0.0
    best_score: _Number | None = None
    best_epoch: _Count = 0
    best_line: dict[str, Any] = dataclasses.field(default_factory=dict)
    best_tie: _Number = 0.0
    patience_from: _Count = 0

    @pydantic.model_validator(mode="after")
    def _knows_its_best_epoch(self) -> Position:
        known = self.best_epoch == 0 or {"train", "validation", "test"} <= self.best_line.keys()
        if not known or self.best_epoch > self.epoch or (self.epoch > 0 and self.best_epoch == 0):
            raise ValueError("it does not say which epoch was the best")
        return self

    def take_if_best(self, by: str, line: dict[str, Any]) -> bool:
        """Notes an epoch where it is the best so far; tells whether it is.

        A small validation set has few possible errors, so that many epochs tie; the NLL tells them apart. Of epochs
        that are equal in both the first is kept.

        Args:
            by: What the selection goes by: `last_epoch`, or `validation_` and a metric.
            line: The epoch's line of the history.
        """
        tie = 0.0
        if by == "last_epoch":
            score = -float(line["epoch"])
        else:
            metric = by.removeprefix("validation_")
            score = float(line["validation"][metric]) * (-1 if metric == "bleu" else 1)
            tie = float(line["validation"]["nll"]) if metric == "error" else 0.0
        if self.best_score is not None and (score, tie) >= (self.best_score, self.best_tie):
            return False
        self.best_score, self.best_tie, self.best_epoch, self.best_line = score, tie, line["epoch"], line
        return True


class _Saved(pydantic.BaseModel):
    """The JSON values of a checkpoint that a run goes on with; what is out of range is refused."""

    model_config = ConfigDict(allow_inf_nan=False)

    position: Position
    term_sums: dict[str, _Number]
    scaler: dict[str, Any]


class RunState:
    """Everything that a run changes while it trains.

    Args:
        network: With the objective's buffers.
        optimizer: With its moments.
        scaler: Of fp16; None otherwise.

    Attributes:
        position: Where the run stands, and its best epoch.
        best_weights: State of the selected epoch's network, on the CPU; empty while there is none.
        term_sums: Each term summed over the examples of the epoch in progress.
    """

    def __init__(self, network: Network, optimizer: Optimizer, scaler: GradScaler | None) -> None:
        self.network = network
        self.optimizer = optimizer
        self.scaler = scaler
        self.position = Position()
        self.best_weights: dict[str, Tensor] = {}
        self.term_sums: dict[str, float] = {}

    def add_terms(self, terms: Mapping[str, float], examples: int) -> None:
        """Adds the terms of a step, means over so many examples."""
        for name, mean in terms.items():
            self.term_sums[name] = self.term_sums.get(name, 0.0) + mean * examples

    def checkpoint(self) -> Checkpoint:
        """Returns it all."""
        values: dict[str, Any] = {
            "position": dataclasses.asdict(self.position),
            "term_sums": self.term_sums,
            "scaler": self.scaler.state_dict() if self.scaler is not None else {},
        }
        tensors = {"network": self.network.state_dict(), "optimizer": state_tensors(self.optimizer)}
        if self.best_weights:
            tensors["best"] = self.best_weights
        return Checkpoint(self.position.step, tensors, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved.

        Raises:
            ValueError: It says something that cannot be, or is of another network or optimiser.
        """
        try:
            saved = _Saved.model_validate(checkpoint.values)
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False)[0]
            raise ValueError(f"{'.'.join(map(str, found['loc']))}: {found['msg']}") from error
        if saved.position.step != checkpoint.step:
            raise ValueError(f"it is of step {checkpoint.step} by one number and {saved.position.step} by another")
        best = checkpoint.tensors.get("best", {})
        if best:  # through the network, which refuses those of another one
            self.network.load_prediction_state(best)
            self.best_weights = self.network.prediction_state()
        self.network.load_state_dict(checkpoint.tensors["network"])
        load_state(self.optimizer, checkpoint.tensors["optimizer"])
        if self.scaler is not None and saved.scaler:
            self.scaler.load_state_dict(saved.scaler)
        self.term_sums = saved.term_sums
        self.position = saved.position
