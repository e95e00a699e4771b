"""How a run goes: the numbers that are neither data, network, objective nor optimiser; a recipe holds them too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field

from labelembed.lab.data import TokenBudget
from labelembed.lab.training.network import TrainingData

# Strict: pydantic would take `true` for 1. The limit only keeps a slip of the finger from running for years.
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {value}")
    return value


def _one_of(forms: str) -> pydantic.WrapValidator:
    """Refuses in one message a value that has none of these forms, where pydantic would name each apart."""

    def check(value: Any, handler: pydantic.ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except pydantic.ValidationError:
            raise ValueError(f"must be {forms}, got {value!r:.60}") from None

    return pydantic.WrapValidator(check)


Number = Annotated[float, pydantic.BeforeValidator(_no_truth_value)]
BatchSize = Annotated[
    PositiveInt | Annotated[dict[Literal["per_label", "tokens"], PositiveInt], Field(min_length=1, max_length=1)],
    _one_of("a whole number >= 1, or {per_label: N}, or {tokens: N}"),
]
Epochs = Annotated[
    PositiveInt | Annotated[dict[Literal["steps", "at_least"], PositiveInt], Field(min_length=1)],
    _one_of("a whole number >= 1, or {steps: N}, or {steps: N, at_least: N}"),
]


def arguments_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments in a block of a recipe that has a `name`."""
    return {key: value for key, value in block.items() if key != "name"}


class Block(pydantic.BaseModel):
    """A part of a recipe: unknown keys are refused, and so are infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Selection(Block):
    """Which epoch's weights are kept: of equal errors those with the lowest NLL, of equal epochs the first."""

    by: Literal["auto", "validation_error", "validation_nll", "validation_bleu", "last_epoch"] = Field(
        "auto", description="auto: validation_error (of a corpus validation_bleu), without a validation set last_epoch"
    )
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without a new best on validation")


class CheckpointPolicy(Block):
    """When to save what resuming needs. On Ctrl-C and at the end of the run it is saved in any case."""

    minimum_seconds: Annotated[Number, Field(ge=0)] = Field(
        10.0, description="save at the end of an epoch when the last save is this old"
    )
    every_steps: PositiveInt | None = Field(None, description="and after every so many steps, for long epochs")
    keep: Annotated[int, Field(ge=2, le=1000, strict=True)] = Field(2, description="how many are kept, if one breaks")


class TrainingSettings(Block):
    """Everything the trainer must know besides what it trains; a recipe is one."""

    optimizer: dict[str, Any] = Field({"name": "adam"}, description="how the weights are moved")
    schedule: dict[str, Any] = Field({"name": "constant"}, description="how the learning rate goes")
    epochs: Epochs = Field(description="or {steps: 1000, at_least: 30}: as many as make 1,000 steps, minimum 30")
    batch_size: BatchSize = Field(description="examples of a step; {per_label: 50}: 50 times the number of labels")
    micro_batches: PositiveInt = Field(1, description="parts of a batch, where it does not fit into memory")
    seed: Seed = Field(0, description="of the start, the order of the examples, dropout")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: mixed precision")
    compile: Flag = Field(False, description="torch.compile: a minute at the start, then faster steps on a GPU")
    max_gradient_norm: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="scale gradients down to this norm, all parameters together; null: never"
    )
    selection: Selection = Field(Selection(), description="which epoch's weights are kept")
    checkpoints: CheckpointPolicy = Field(CheckpointPolicy(), description="when to save what resuming needs")
    test_every_epoch: Flag = Field(False, description="the test set after every epoch; false: once, at the end")

    def step_size(self, num_labels: int) -> int | TokenBudget:
        """Returns the batch size in examples, or of a corpus in sentences or tokens."""
        size = self.batch_size
        if isinstance(size, int):
            return size
        return TokenBudget(size["tokens"]) if "tokens" in size else size["per_label"] * num_labels

    def number_of_epochs(self, data: TrainingData) -> int:
        """Returns the number of epochs, for data that may have to be counted in steps."""
        if isinstance(self.epochs, int):
            return self.epochs
        steps = data.train.number_of_batches(self.step_size(data.num_labels))
        return max(math.ceil(self.epochs.get("steps", 1) / steps), self.epochs.get("at_least", 1))
