"""Learning-rate schedules by name: a factor for every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from labelembed.errors import ArgumentErrors

# (step from 0, steps of an epoch, steps of the run) -> factor on the learning rate
Schedule = Callable[[int, int, int], float]


def _warm(factor: Schedule, warmup_fraction: float, errors: ArgumentErrors) -> Schedule:
    """Returns `factor` behind a linear rise from 0 over the first `warmup_fraction` of the run."""
    errors.require(0 <= warmup_fraction < 1, "warmup_fraction", warmup_fraction, "must be in [0, 1)")
    errors.raise_if_any()

    def warmed(step: int, steps_per_epoch: int, steps: int) -> float:
        warmup_steps = round(warmup_fraction * steps)
        # step + 1: the first step should move something.
        rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return rise * factor(step, steps_per_epoch, steps)

    return warmed


def constant(*, warmup_fraction: float = 0.0) -> Schedule:
    """The same learning rate throughout.

    Args:
        warmup_fraction: Share of the run over which the rate rises linearly from 0.
    """
    return _warm(lambda step, steps_per_epoch, steps: 1.0, warmup_fraction, ArgumentErrors())


def step(*, epochs: Sequence[int] = (), factor: float = 0.1, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate is multiplied with a factor at given epochs.

    Args:
        epochs: Numbers of whole epochs after which the rate is multiplied, for instance 40 and 80.
        factor: What it is multiplied with; 0.2 divides by 5.
        warmup_fraction: Share of the run over which the rate rises linearly from 0.
    """
    errors = ArgumentErrors()
    errors.require(all(epoch >= 1 for epoch in epochs), "epochs", list(epochs), "must be numbers >= 1")
    errors.require(0 < factor <= 1, "factor", factor, "must be in (0, 1]")
    return _warm(
        lambda step, steps_per_epoch, steps: factor ** sum(step >= epoch * steps_per_epoch for epoch in epochs),
        warmup_fraction,
        errors,
    )


def halving(*, start_epoch: int = 8, factor: float = 0.5, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate is multiplied with a factor before a given epoch and before every one after it.

    Args:
        start_epoch: The first epoch, from 1, with a lower rate.
        factor: What the rate is multiplied with each time.
        warmup_fraction: Share of the run over which the rate rises linearly from 0.
    """
    errors = ArgumentErrors()
    errors.require(start_epoch >= 2, "start_epoch", start_epoch, "must be >= 2, for the first epoch has the whole rate")
    errors.require(0 < factor <= 1, "factor", factor, "must be in (0, 1]")
    return _warm(
        lambda step, steps_per_epoch, steps: factor ** max(0, step // steps_per_epoch + 2 - start_epoch),
        warmup_fraction,
        errors,
    )


def cosine(*, final_fraction: float = 0.0, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate falls along half a cosine (Loshchilov, Hutter 2017).

    Args:
        final_fraction: Share of the learning rate that is left at the end.
        warmup_fraction: Share of the run over which the rate rises linearly from 0, before it falls.
    """
    return _falling(lambda progress: (1 + math.cos(math.pi * progress)) / 2, final_fraction, warmup_fraction)


def linear(*, final_fraction: float = 0.0, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate falls along a line.

    Args:
        final_fraction: Share of the learning rate that is left at the end.
        warmup_fraction: Share of the run over which the rate rises linearly from 0, before it falls.
    """
    return _falling(lambda progress: 1 - progress, final_fraction, warmup_fraction)


def _falling(shape: Callable[[float], float], final_fraction: float, warmup_fraction: float) -> Schedule:
    errors = ArgumentErrors()
    errors.require(0 <= final_fraction <= 1, "final_fraction", final_fraction, "must be in [0, 1]")

    def factor(step: int, steps_per_epoch: int, steps: int) -> float:
        warmup_steps = round(warmup_fraction * steps)
        progress = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
        return final_fraction + (1 - final_fraction) * shape(min(1.0, progress))

    return _warm(factor, warmup_fraction, errors)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step,
    "halving": halving,
    "cosine": cosine,
    "linear": linear,
}
