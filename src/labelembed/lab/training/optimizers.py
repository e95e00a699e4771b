"""Optimisers by name: torch's own, fused where torch has a fused form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
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
    errors.require(learning_rate > 0, "learning_rate", learning_rate, "must be > 0")
    errors.require(weight_decay >= 0, "weight_decay", weight_decay, "must be >= 0")
    head = head_weight_decay
    errors.require(head is None or head >= 0, "head_weight_decay", head, "must be >= 0, or None")
    errors.raise_if_any()
    groups = parameter_groups(
        network, learning_rate=learning_rate, weight_decay=weight_decay, head_weight_decay=head_weight_decay
    )
    # The fused step saves about a sixth of a small step.
    fused = all(value.is_floating_point() and value.device.type in ("cpu", "cuda") for value in network.parameters())
    return kind(groups, lr=learning_rate, fused=fused or None, **own)


def _adam_errors(betas: tuple[float, float], epsilon: float) -> ArgumentErrors:
    errors = ArgumentErrors()
    errors.require(all(0 <= beta < 1 for beta in betas), "betas", list(betas), "must both be in [0, 1)")
    errors.require(epsilon > 0, "epsilon", epsilon, "must be > 0")
    return errors


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
    return _build(Adam, network, _adam_errors(betas, epsilon), *shared, betas=betas, eps=epsilon)


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
    return _build(AdamW, network, _adam_errors(betas, epsilon), *shared, betas=betas, eps=epsilon)


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


def state_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Returns what an optimiser keeps of each weight, such as ``0.exp_avg``."""
    kept = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, entries in kept.items()
        for name, value in entries.items()
        if isinstance(value, torch.Tensor)
    }


def load_state(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
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
                if not isinstance(parameter, torch.Tensor) or value.shape != parameter.shape:
                    raise ValueError(f"the optimiser's {name} is not of this run's weights")
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
