"""How a run goes: the numbers that are neither data, network, objective nor optimiser."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from labelembed.data import TokenBudget

Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Selection:
    """Which epoch's weights are kept.

    Args:
        by: `development_error`: the epoch with the lowest, of equal errors the one with the lowest NLL;
            `development_nll`: with the lowest NLL; `development_bleu` (of a corpus): with the highest. Of epochs that
            are equal in all of it the first. `last_epoch`: the last one. `auto`: development_error, of a corpus
            development_bleu, where there is a development set.
        patience: Stop after this many epochs without a new lowest; None: never.
    """

    by: Literal["auto", "development_error", "development_nll", "development_bleu", "last_epoch"] = "auto"
    patience: int | None = None


@dataclass(frozen=True)
class CheckpointPolicy:
    """When to save what resuming needs.

    A checkpoint is made at the end of an epoch when the last is `minimum_seconds` old, on Ctrl-C, and at the end.

    Args:
        minimum_seconds: What a kill may cost at most, besides the epoch in progress.
        every_steps: Save after every so many optimiser steps as well, for long epochs; None: never.
        time_share: Share of the time that saving may take: what would come sooner after the last save is left out.
            1: nothing is.
        keep: How many are kept.
    """

    minimum_seconds: float = 10.0
    every_steps: int | None = None
    time_share: float = 0.05
    keep: int = 2


@dataclass(frozen=True)
class TrainingSettings:
    """Everything `train` must know besides what it trains.

    Args:
        epochs: Passes over the training rows.
        batch_size: Rows (of a corpus sentences, or a budget of tokens) of one optimiser step, over all processes
            together.
        micro_batches: In how many parts the rows of a step are taken, one after the other, in each process.
        seed: Of the run: start, order of rows, dropout.
        precision: `float32`, or mixed precision `bf16` or `fp16` (a GPU).
        compile: Whether torch.compile makes the encoder.
        max_gradient_norm: Gradients are scaled down to this norm, all parameters taken together; None: never.
        selection: Which epoch's weights are kept.
        checkpoints: When to save what resuming needs.
        test_every_epoch: Measure the test set after every epoch as well. False: once, with the selected weights.
    """

    epochs: int
    batch_size: int | TokenBudget
    micro_batches: int = 1
    seed: int = 0
    precision: Precision = "float32"
    compile: bool = False
    max_gradient_norm: float | None = None
    selection: Selection = field(default_factory=Selection)
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    test_every_epoch: bool = False


@dataclass
class Position:
    """Where a run stands; everything in it travels with a checkpoint as JSON.

    Attributes:
        epoch: Epochs finished.
        batch: Batches finished of the epoch in progress.
        step: Optimiser steps made.
        seconds: Time spent in finished epochs, and in the present one before it was resumed.
        epoch_seconds: Of that, in the epoch in progress.
        best_score: Lowest selection score so far, and the epoch (from 1) it was reached in.
        best_epoch: See `best_score`; 0 when there is none.
        best_line: The journal's line of that epoch.
        best_tie: What breaks ties of the score: the lowest among the epochs with `best_score`. None: not known, as in
            older checkpoints; a tie then leaves the epoch as it is.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int = 0
    best_line: dict[str, Any] = field(default_factory=dict)
    best_tie: float | None = None
