"""Optimisers (torch's own, fused where torch has a fused form) and learning-rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from labelembed.errors import ArgumentErrors
from labelembed.lab.training.network import Network

#: From a step (from 0), the steps of an epoch and those of the run to the factor on the learning rate.
Schedule = Callable[[int, int, int], float]

# The arguments of optimisers and schedules: what each means, what it must be, and a check of it.
_ARGUMENTS: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "learning_rate": ("Step size before the schedule's factor.", "> 0", lambda rate: rate > 0),
    "betas": ("Decay of the running means.", "both in [0, 1)", lambda betas: all(0 <= beta < 1 for beta in betas)),
    "epsilon": ("Added to the root of the running square.", "> 0", lambda epsilon: epsilon > 0),
    "momentum": ("Share of the last step that is taken again.", "in [0, 1)", lambda share: 0 <= share < 1),
    "weight_decay": ("Pulls weights to 0, label embeddings excepted.", ">= 0", lambda decay: decay >= 0),
    "head_weight_decay": ("That of the output layers; None: the same.", ">= 0", lambda decay: (decay or 0) >= 0),
    "warmup_fraction": ("Share of the run over which the rate rises.", "in [0, 1)", lambda share: 0 <= share < 1),
    "final_fraction": ("Share of the rate that is left at the end.", "in [0, 1]", lambda share: 0 <= share <= 1),
    "epochs": ("Whole epochs before each drop: 40 and 80.", "numbers >= 1", lambda epochs: min(epochs, default=1) >= 1),
    "factor": ("What the rate is multiplied with; 0.2 divides by 5.", "in (0, 1]", lambda factor: 0 < factor <= 1),
}


def _documented(make: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the meaning of its arguments to the docstring of an optimiser or a schedule."""
    lines = [f"    {name}: {_ARGUMENTS[name][0]}" for name in signature(make).parameters if name in _ARGUMENTS]
    make.__doc__ = "\n".join([make.__doc__ or "", "", "Args:", *lines])
    return make


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises InvalidArguments with all that are out of range."""
    errors = ArgumentErrors()
    for name, value in arguments.items():
        _, rule, holds = _ARGUMENTS[name]
        errors.require(holds(value), name, list(value) if isinstance(value, tuple) else value, f"must be {rule}")
    errors.raise_if_any()


@_documented
def adam(
    network: Network,
    *,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    head_weight_decay: float | None = None,
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
    head_weight_decay: float | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019)."""
    return _build(AdamW, **locals())


@_documented
def sgd(
    network: Network,
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    head_weight_decay: float | None = None,
) -> Optimizer:
    """Stochastic gradient descent; weight decay is added to the gradient."""
    return _build(SGD, **locals())


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}


def _build(kind: Callable[..., Optimizer], network: Network, **arguments: Any) -> Optimizer:
    check_arguments(arguments)
    decays = {name: arguments.pop(name) for name in ("weight_decay", "head_weight_decay")}
    rate = arguments.pop("learning_rate")
    if "epsilon" in arguments:
        arguments["eps"] = arguments.pop("epsilon")
    # The fused step saves about a sixth of a small step.
    fused = all(value.is_floating_point() and value.device.type in ("cpu", "cuda") for value in network.parameters())
    groups = parameter_groups(network, learning_rate=rate, **decays)
    return kind(groups, lr=rate, fused=fused or None, **arguments)


def parameter_groups(
    network: Network, *, learning_rate: float, weight_decay: float, head_weight_decay: float | None = None
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
    of_head = network.objective.parameter_groups(weight_decay if head_weight_decay is None else head_weight_decay)
    groups = [group for group in (*of_encoder, *of_head) if group["params"]]
    for group in groups:
        if "learning_rate_factor" in group:
            group["lr"] = learning_rate * group.pop("learning_rate_factor")
    return groups


def state_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Returns the optimiser's state tensors by index of the weight and name, such as ``0.exp_avg``."""
    kept = optimizer.state_dict()["state"].items()
    named = {f"{index}.{name}": value for index, entries in kept for name, value in entries.items()}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def load_state(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the tensors of `state_tensors`; raises ValueError where they belong to another optimiser."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        weight = weights[int(index)]
        if value.ndim:
            # Loaded tensors are contiguous, but the fused step expects moments in the memory format of their weight,
            # which may be channels last: with another format it would pair moments with the wrong weights.
            if value.shape != weight.shape:
                raise ValueError(f"the optimiser's {name} is not of this run's weights")
            value = torch.empty_like(weight, dtype=value.dtype, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _schedule(arguments: Mapping[str, Any], factor: Callable[[int, float], float]) -> Schedule:
    """Returns a schedule of linear warm-up times `factor(epoch, progress)`, with progress from 0 to 1 after warm-up."""
    check_arguments(arguments)

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
def cosine(*, final_fraction: float = 0.0, warmup_fraction: float = 0.0) -> Schedule:
    """The learning rate falls along half a cosine (Loshchilov, Hutter 2017)."""
    return _schedule(
        locals(), lambda epoch, progress: final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2
    )


SCHEDULES: dict[str, Callable[..., Schedule]] = {"constant": constant, "step": step, "cosine": cosine}
