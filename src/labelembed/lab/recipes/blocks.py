"""The parts of a recipe that are no component: which examples are held out, what is compared."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from labelembed.lab.data import ValidationSplit
from labelembed.lab.recipes.wording import shown
from labelembed.lab.training.settings import Block, Number, PositiveInt, Seed

MOST_SEEDS = 1_000


class ValidationBlock(Block):
    """Which training examples are held out to choose by; exactly one of `first`, `fraction` and `examples`."""

    first: PositiveInt | None = Field(None, description="the first so many examples of the training set")
    fraction: Annotated[Number, Field(gt=0, lt=1)] | None = Field(None, description="a share, at random, stratified")
    examples: PositiveInt | None = Field(None, description="so many examples, at random, stratified")
    seed: Seed = Field(0, description="of the random choice; the run's own seed does not change it")

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> ValidationBlock:
        values = {name: getattr(self, name) for name in ("first", "fraction", "examples")}
        given = [f"{name}: {value}" for name, value in values.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"must give exactly one of first, fraction and examples, got {' and '.join(given) or 'none'}"
            )
        return self

    def split(self) -> ValidationSplit:
        """Returns it as the data room takes it."""
        return ValidationSplit(first=self.first, fraction=self.fraction, examples=self.examples, seed=self.seed)


class ComparisonBlock(Block):
    """What `labelembed compare` runs by default."""

    objectives: list[str | dict[str, Any]] = Field(
        ["one_hot", "label_smoothing", "label_embedding"],
        description="variants: a name, name:key=value, or a mapping with name and keys",
    )
    seeds: int | list[int] = Field(3, description="how many, from the recipe's seed on, or which")
    baseline: str | None = Field(None, description="the variant the others are compared with; null: the first")

    @pydantic.field_validator("objectives", mode="before")
    @classmethod
    def _are_variants(cls, value: Any) -> Any:
        if not isinstance(value, list) or not value:
            raise ValueError(f"must be a list of one or more objectives, got {shown(value)}")
        for place, variant in enumerate(value, start=1):
            if not isinstance(variant, str) and not (
                isinstance(variant, dict) and all(isinstance(k, str) for k in variant)
            ):
                wanted = "a text (name:key=value) or a mapping with a name"
                raise ValueError(f"entry {place} must be {wanted}, got {shown(variant)}")
        return value

    @pydantic.field_validator("seeds", mode="before")
    @classmethod
    def _are_seeds(cls, value: Any) -> Any:
        checked_seeds(value)
        return value


class PublishedBlock(Block):
    """A figure that a paper reports for this recipe, which the report shows beside ours."""

    objective: str | dict[str, Any] = Field(description="a name, or a mapping with name and the arguments that matter")
    metric: Literal["test_error", "top5_error", "best_accuracy", "bleu", "chrf", "rouge_l"] = Field(
        "test_error", description="what was measured"
    )
    value: Annotated[Number, Field(ge=0, le=1)] = Field(description="a fraction: 0.0193 is 1.93 %")
    deviation: Annotated[Number, Field(ge=0, le=1)] | None = Field(None, description="over the runs, a fraction")
    runs: PositiveInt | None = Field(None, description="how many runs it is the mean of")
    source: str = Field(description="paper and table")


def checked_seeds(given: Any, *, first: int = 0) -> list[int]:
    """Returns the seeds meant by a number of seeds, counted from `first` on, or by a list of them.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(given, list):
        if not given or not all(type(seed) is int and 0 <= seed < 2**63 for seed in given):
            raise ValueError(f"must be whole numbers from 0 up, got {shown(given)}")
        twice = sorted({seed for seed in given if given.count(seed) > 1})
        if twice:
            raise ValueError(f"must be different numbers, got {twice[0]} more than once")
        return list(given)
    if type(given) is not int or given < 1:
        raise ValueError(f"must be a number of seeds from 1 up, or a list of seeds, got {shown(given)}")
    if given > MOST_SEEDS:
        raise ValueError(f"must be at most {MOST_SEEDS:,} seeds, got {given:,}; to name one seed give a list of one")
    if first + given > 2**63:
        raise ValueError(f"must be whole numbers below 2**63, got {given:,} from {first} on")
    return list(range(first, first + given))


class DataCommon(Block):
    """Keys of `data` that every reader has."""

    validation: ValidationBlock | None = Field(
        None,
        description="held out of the training set to choose by: {first: N}, {fraction: F, seed: S} or {examples: N}",
    )
    train_examples: PositiveInt | None = Field(None, description="train on so many examples only; null: all")
    scaling: Literal["unit", "standard"] = Field(
        "unit", description="unit: the range of training inputs to [0, 1]; standard: mean 0 and deviation 1 a channel"
    )
    augmentation: Literal["none", "flip", "crop_flip"] = Field(
        "none", description="of training pictures: flip: mirrored; crop_flip: also moved by up to 4 pixels"
    )
    cutout: PositiveInt | None = Field(
        None, description="cut a square of so many pixels a side out of each training picture; null: none"
    )
    mixing: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="mix training inputs in pairs: mixup: faded; cutmix: a rectangle of the other"
    )
    mixing_alpha: Annotated[Number, Field(gt=0)] = Field(
        1.0, description="shares are drawn from Beta(alpha, alpha); less than 1: mostly near 0 and 1"
    )
