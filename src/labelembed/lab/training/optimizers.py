"""Optimisers (torch's own, fused where torch has a fused form) and learning-rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from labelembed.errors import ArgumentErrors
from labelembed.lab.training.network import Network


def parameter_groups(
    network: Network, *, learning_rate: float, weight_decay: float, head_weight_decay: float | None
) -> list[dict[str, Any]]:
    """Returns the encoder's groups and those the objective asks for, some with a learning rate of their own.

    A weight that both have, as an embedding tied to the output layer, counts as the objective's.
    """
    of_objective = {id(parameter) for parameter in network.objective.parameters()}
    asked = getattr(network.encoder, "parameter_groups", None)
    of_encoder: list[dict[str, Any]] = [{"params": network.encoder.parameters()}] if asked is None else asked()
    for group in of_encoder:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in of_objective]
        group["weight_decay"] = weight_decay
    of_head = weight_decay if head_weight_decay is None else head_weight_decay
    groups = [group for group in (*of_encoder, *network.objective.parameter_groups(of_head)) if group["params"]]
    for group in groups:
        if "learning_rate_factor" in group:
            group["lr"] = learning_rate * group.pop("learning_rate_factor")
    return groups


def _build(
    kind: Callable[..., Optimizer],
    network: Network,
    errors: ArgumentErrors,
    learning_rate: float,
    weight_decay: float,
    head_weight_decay: float | None,
    **own: Any,
) -> Optimizer:
    """Builds torch's optimiser with the arguments that all share and its own; raises ValueError with all errors."""
    head = head_weight_decay
    if "betas" in own:
        in_range = all(0 <= beta < 1 for beta in own["betas"])
        errors.require(in_range, "betas", list(own["betas"]), "must both be in [0, 1)")
        errors.require(own["eps"] > 0, "epsilon", own["eps"], "must be > 0")
    errors.require(learning_rate > 0, "learning_rate", learning_rate, "must be > 0")
    errors.require(weight_decay >= 0, "weight_decay", weight_decay, "must be >= 0")
    errors.require(head is None or head >= 0, "head_weight_decay", head, "must be >= 0, or None")
    errors.raise_if_any()
    groups = parameter_groups(network, learning_rate=learning_rate, weight_decay=weight_decay, head_weight_decay=head)
    # The fused step saves about a sixth of a small step.
    fused = all(value.is_floating_point() and value.device.type in ("cpu", "cuda") for value in network.parameters())
    return kind(groups, lr=learning_rate, fused=fused or None, **own)


def adam(
    network: Network,
    *,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    head_weight_decay: float | None = None,
) -> Optimizer:
    """Adam (Kingma, Ba 2014); weight decay is added to the gradient.

    Args:
        network: What to optimise.
        learning_rate: Step size before the schedule's factor.
        betas: Decay of the running mean and of the running square of the gradient.
        epsilon: Added to the root of the running square.
        weight_decay: L2 penalty; label embeddings are left out of it.
        head_weight_decay: The same for the output layers of the objective; None: `weight_decay`.
    """
    shared = learning_rate, weight_decay, head_weight_decay
    return _build(Adam, network, ArgumentErrors(), *shared, betas=betas, eps=epsilon)


def adamw(
    network: Network,
    *,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    head_weight_decay: float | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019).

    Args:
        network: What to optimise.
        learning_rate: Step size before the schedule's factor.
        betas: Decay of the running mean and of the running square of the gradient.
        epsilon: Added to the root of the running square.
        weight_decay: Share of a weight, times the learning rate, taken away each step; label embeddings are left out.
        head_weight_decay: The same for the output layers of the objective; None: `weight_decay`.
    """
    shared = learning_rate, weight_decay, head_weight_decay
    return _build(AdamW, network, ArgumentErrors(), *shared, betas=betas, eps=epsilon)


def sgd(
    network: Network,
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    head_weight_decay: float | None = None,
) -> Optimizer:
    """Stochastic gradient descent.

    Args:
        network: What to optimise.
        learning_rate: Step size before the schedule's factor.
        momentum: Share of the last step that is taken again.
        nesterov: Nesterov's form of the momentum.
        weight_decay: L2 penalty; label embeddings are left out of it.
        head_weight_decay: The same for the output layers of the objective; None: `weight_decay`.
    """
    errors = ArgumentErrors()
    errors.require(0 <= momentum < 1, "momentum", momentum, "must be in [0, 1)")
    errors.require(momentum > 0 or not nesterov, "nesterov", nesterov, "needs a momentum > 0")
    shared = learning_rate, weight_decay, head_weight_decay
    return _build(SGD, network, errors, *shared, momentum=momentum, nesterov=nesterov)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}


def state_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Returns what an optimiser keeps of each weight, such as ``0.exp_avg``."""
    kept = optimizer.state_dict()["state"].items()
    named = {f"{index}.{name}": value for index, entries in kept for name, value in entries.items()}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def load_state(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores what `state_tensors` returned; learning rates, betas and the like are the optimiser's own.

    Raises:
        ValueError: It is the state of another optimiser.
    """
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # A file holds every tensor row by row. The fused steps walk through the memory of weight and moments side by side,
    # whatever their strides: for weights that lie channels last they would take the moments of other weights.
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if value.ndim:
                if not isinstance(parameter, Tensor) or value.shape != parameter.shape:
                    raise ValueError(f"the optimiser's {name} is not of this run's weights")
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


# ---- schedules

# What the arguments of the schedules must be.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "warmup_fraction": ("must be in [0, 1)", lambda share: 0 <= share < 1),
    "final_fraction": ("must be in [0, 1]", lambda share: 0 <= share <= 1),
    "factor": ("must be in (0, 1]", lambda factor: 0 < factor <= 1),
    "epochs": ("must be numbers >= 1", lambda epochs: all(epoch >= 1 for epoch in epochs)),
    "start_epoch": ("must be >= 2, for the first epoch has the whole rate", lambda epoch: epoch >= 2),
}


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout.

    Args:
        warmup_fraction: Share of the run over which the rate rises linearly from 0.
    """

    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        errors = ArgumentErrors()
        for name, value in vars(self).items():
            rule, holds = _RULES[name]
            errors.require(holds(value), name, list(value) if isinstance(value, tuple) else value, rule)
        errors.raise_if_any()

    def __call__(self, step: int, steps_per_epoch: int, steps: int) -> float:
        """Returns the factor on the learning rate.

        Args:
            step: From 0.
            steps_per_epoch: Of an epoch.
            steps: Of the run.
        """
        warmup_steps = round(self.warmup_fraction * steps)
        # step + 1: the first step should move something.
        rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        progress = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
        return rise * self._factor(step, steps_per_epoch, min(1.0, progress))

    def _factor(self, step: int, steps_per_epoch: int, progress: float) -> float:
        """Returns the factor without the rise; `progress` is the share of the steps after it that are made."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Constant):
    """The learning rate is multiplied with a factor at given epochs.

    Args:
        epochs: Numbers of whole epochs after which the rate is multiplied, for instance 40 and 80.
        factor: What it is multiplied with; 0.2 divides by 5.
    """

    epochs: Sequence[int] = ()
    factor: float = 0.1

    def _factor(self, step: int, steps_per_epoch: int, progress: float) -> float:
        return float(self.factor ** sum(step >= epoch * steps_per_epoch for epoch in self.epochs))


@dataclass(frozen=True, kw_only=True)
class Halving(Constant):
    """The learning rate is multiplied with a factor before a given epoch and before every one after it.

    Args:
        start_epoch: The first epoch, from 1, with a lower rate.
        factor: What the rate is multiplied with each time.
    """

    start_epoch: int = 8
    factor: float = 0.5

    def _factor(self, step: int, steps_per_epoch: int, progress: float) -> float:
        return float(self.factor ** max(0, step // steps_per_epoch + 2 - self.start_epoch))


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """The learning rate falls along a line.

    Args:
        final_fraction: Share of the learning rate that is left at the end.
    """

    final_fraction: float = 0.0

    def _factor(self, step: int, steps_per_epoch: int, progress: float) -> float:
        return self.final_fraction + (1 - self.final_fraction) * self._left(progress)

    def _left(self, progress: float) -> float:
        return 1 - progress


class Cosine(Linear):
    """The learning rate falls along half a cosine (Loshchilov, Hutter 2017)."""

    def _left(self, progress: float) -> float:
        return (1 + math.cos(math.pi * progress)) / 2


SCHEDULES = {"constant": Constant, "step": Step, "halving": Halving, "cosine": Cosine, "linear": Linear}
