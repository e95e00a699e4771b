"""Optimisers (torch's own, fused where torch has a fused form) and learning-rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from labelembed.errors import ArgumentErrors
from labelembed.lab.training.network import Network

#: From a step (from 0), the steps of an epoch and those of the run to the factor on the learning rate.
Schedule = Callable[[int, int, int], float]
Made = TypeVar("Made", bound=Callable[..., Any])

# What the arguments of optimisers and schedules must be.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "betas": ("must both be in [0, 1)", lambda betas: all(0 <= beta < 1 for beta in betas)),
    "epsilon": ("must be > 0", lambda epsilon: epsilon > 0),
    "learning_rate": ("must be > 0", lambda rate: rate > 0),
    "momentum": ("must be in [0, 1)", lambda share: 0 <= share < 1),
    "weight_decay": ("must be >= 0", lambda decay: decay >= 0),
    "warmup_fraction": ("must be in [0, 1)", lambda share: 0 <= share < 1),
    "final_fraction": ("must be in [0, 1]", lambda share: 0 <= share <= 1),
    "factor": ("must be in (0, 1]", lambda factor: 0 < factor <= 1),
    "epochs": ("must be numbers >= 1", lambda epochs: all(epoch >= 1 for epoch in epochs)),
    "start_epoch": ("must be >= 2, for the first epoch has the whole rate", lambda epoch: epoch >= 2),
}


def _check(arguments: Mapping[str, Any]) -> None:
    """Raises InvalidArguments with all that are out of range."""
    errors = ArgumentErrors()
    for name, value in arguments.items():
        rule, holds = _RULES.get(name, ("", lambda value: True))
        errors.require(holds(value), name, list(value) if isinstance(value, tuple) else value, rule)
    is_possible = arguments.get("momentum") != 0 or not arguments["nesterov"]
    errors.require(is_possible, "nesterov", arguments.get("nesterov"), "needs a momentum > 0")
    errors.raise_if_any()


def parameter_groups(network: Network, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the encoder's groups and those the objective asks for, some with a learning rate of their own.

    A weight that both have, as an embedding tied to the output layer, counts as the objective's.
    """
    of_objective = {id(parameter) for parameter in network.objective.parameters()}
    asked = getattr(network.encoder, "parameter_groups", None)
    of_encoder: list[dict[str, Any]] = [{"params": network.encoder.parameters()}] if asked is None else asked()
    for group in of_encoder:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in of_objective]
        group["weight_decay"] = weight_decay
    groups = [group for group in (*of_encoder, *network.objective.parameter_groups(weight_decay)) if group["params"]]
    for group in groups:
        if "learning_rate_factor" in group:
            group["lr"] = learning_rate * group.pop("learning_rate_factor")
    return groups


_MEANINGS = {
    "learning_rate": "Step size before the schedule's factor.",
    "betas": "Decay of the running mean and of the running square of the gradient.",
    "epsilon": "Added to the root of the running square.",
    "momentum": "Share of the last step that is taken again.",
    "nesterov": "Nesterov's form of the momentum.",
    "weight_decay": "Pulls the weights to 0; label embeddings are left out of it.",
    "warmup_fraction": "Share of the run over which the rate rises linearly from 0.",
    "epochs": "Numbers of whole epochs after which the rate is multiplied, for instance 40 and 80.",
    "start_epoch": "The first epoch, from 1, with a lower rate.",
    "factor": "What the rate is multiplied with each time; 0.2 divides by 5.",
    "final_fraction": "Share of the learning rate that is left at the end.",
}


def _documented(make: Made) -> Made:
    """Adds the meaning of its arguments to the docstring of an optimiser or a schedule."""
    lines = [f"    {name}: {_MEANINGS[name]}" for name in signature(make).parameters if name in _MEANINGS]
    make.__doc__ = "\n".join([make.__doc__ or "", "", "Args:", *lines])
    return make


@_documented
def adam(
    network: Network,
    *,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam (Kingma, Ba 2014); weight decay is added to the gradient."""
    return _build(Adam, **locals())


@_documented
def adamw(
    network: Network,
    *,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019)."""
    return _build(AdamW, **locals())


@_documented
def sgd(
    network: Network,
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Stochastic gradient descent; weight decay is added to the gradient."""
    return _build(SGD, **locals())


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}


def _build(kind: Callable[..., Optimizer], network: Network, **arguments: Any) -> Optimizer:
    _check(arguments)
    rate, decay = arguments.pop("learning_rate"), arguments.pop("weight_decay")
    if "epsilon" in arguments:
        arguments["eps"] = arguments.pop("epsilon")
    # The fused step saves about a sixth of a small step.
    fused = all(value.is_floating_point() and value.device.type in ("cpu", "cuda") for value in network.parameters())
    groups = parameter_groups(network, learning_rate=rate, weight_decay=decay)
    return kind(groups, lr=rate, fused=fused or None, **arguments)


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


def _schedule(arguments: Mapping[str, Any], factor: Callable[[int, float], float]) -> Schedule:
    """Returns a schedule: `factor` by the epoch, from 0, and the share of the steps after the rise that are made."""
    _check(arguments)

    def of_step(step: int, steps_per_epoch: int, steps: int) -> float:
        warmup_steps = round(arguments["warmup_fraction"] * steps)
        # step + 1: the first step should move something.
        rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        progress = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
        return rise * float(factor(step // steps_per_epoch, min(1.0, progress)))

    return of_step


@_documented
def constant(*, warmup_fraction: float = 0.0) -> Schedule:
    """The same learning rate throughout."""
    return _schedule(locals(), lambda epoch, progress: 1.0)


@_documented
def step(*, epochs: Sequence[int] = (), factor: float = 0.1, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate is multiplied with a factor at given epochs."""
    return _schedule(locals(), lambda epoch, progress: factor ** sum(epoch >= whole for whole in epochs))


@_documented
def halving(*, start_epoch: int = 8, factor: float = 0.5, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate is multiplied with a factor before a given epoch and before every one after it."""
    return _schedule(locals(), lambda epoch, progress: factor ** max(0, epoch + 2 - start_epoch))


@_documented
def cosine(*, final_fraction: float = 0.0, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate falls along half a cosine (Loshchilov, Hutter 2017)."""
    return _schedule(
        locals(),
        lambda epoch, progress: final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2,
    )


@_documented
def linear(*, final_fraction: float = 0.0, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate falls along a line."""
    return _schedule(locals(), lambda epoch, progress: final_fraction + (1 - final_fraction) * (1 - progress))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step,
    "halving": halving,
    "cosine": cosine,
    "linear": linear,
}
