"""The numbers a recipe may hold, checked strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

# Strict: pydantic would take `true` for 1. The limit only keeps a slip of the finger from running for years.
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {value}")
    return value


Number = Annotated[float, pydantic.BeforeValidator(_no_truth_value)]


def _number_or_another_measure(value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return check(value)
    (way,) = value if len(value) == 1 else (None,)
    if way not in ("per_label", "tokens"):
        raise ValueError(
            "must be a number of rows, {per_label: ROWS} for so many for each label, or, of a corpus, "
            f"{{tokens: TOKENS}} for as many sentences as have so many, got {value}"
        )
    return {way: check(value[way])}


def _number_or_steps(value: Any, check: pydantic.ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return check(value)
    if list(value) != ["steps"]:
        raise ValueError(
            f"must be a number of epochs, or {{steps: STEPS}} for as many as have so many optimiser steps, got {value}"
        )
    return {"steps": check(value["steps"])}


if TYPE_CHECKING:
    BatchSize = int | dict[str, int]
    Epochs = int | dict[str, int]
else:  # checked as a number, so that what is wrong is said of a number
    BatchSize = Annotated[
        PositiveInt,
        pydantic.WrapValidator(_number_or_another_measure),
        pydantic.PlainSerializer(lambda value: value, return_type=Any),
    ]
    Epochs = Annotated[
        Annotated[int, Field(ge=1, le=1_000_000, strict=True)],
        pydantic.WrapValidator(_number_or_steps),
        pydantic.PlainSerializer(lambda value: value, return_type=Any),
    ]
