"""State and gradients of a model whose labels are split over processes: made whole, taken apart again, clipped.

All processes must call these functions together; in one process they do what a model without them would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from labelembed.heads.label_shards import LabelShards
from labelembed.objectives.objective import Objective


def keep_split(model: nn.Module) -> nn.Module:
    """Tells `DistributedDataParallel`, before it wraps a model, to leave alone what is split over the processes.

    What it leaves alone already (`_ddp_params_and_buffers_to_ignore`) it still does.

    Args:
        model: What will be wrapped; objectives with `vocabulary_parallel` stand somewhere in it.

    Returns:
        The model.
    """
    ignored = {*getattr(model, "_ddp_params_and_buffers_to_ignore", ()), *split_parameters(model)}
    # DistributedDataParallel's own attribute, which it reads of the model that it is given.
    model._ddp_params_and_buffers_to_ignore = sorted(ignored)  # type: ignore[assignment]
    return model


def split_parameters(model: nn.Module) -> dict[str, tuple[LabelShards, int]]:
    """Returns by name the parameters of which each process has its labels' part, and the dimension of the labels."""
    found = {}
    for prefix, module in model.named_modules():
        if isinstance(module, Objective) and module.shards is not None:
            for name, dimension in module.label_dimensions().items():
                found[f"{prefix}.{name}" if prefix else name] = module.shards, dimension
    return found


def whole_state(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Returns a model's state with the labels of all processes, in the first process; in the others nothing.

    What was split is on the CPU, one part after the other: the first process needs memory for all labels there.

    Args:
        model: Whose state.
        state: The values, as `state_dict` names them; None: those of now.
    """
    state = model.state_dict() if state is None else state
    split = split_parameters(model)
    device = {name: parameter.device for name, parameter in model.named_parameters()}
    found = {}
    for name, value in state.items():
        if name not in split:
            found[name] = value
            continue
        shards, dimension = split[name]
        whole = shards.on_main(value.to(device[name]), dimension)
        if whole is not None:
            found[name] = whole
    return found if not split or dist.get_rank() == 0 else {}


def own_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns this process' part of a whole state, for `load_state_dict`; whatever number of processes saved it."""
    split = split_parameters(model)
    found = dict(state)
    for name, (shards, dimension) in split.items():
        if name in found:
            found[name] = shards.part(found[name], dimension)
    return found


def whole_moments(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns an optimiser's tensors, named ``NUMBER.name`` by parameter, as `whole_state` returns a model's."""
    split = _split_numbers(model, optimizer)
    found = {}
    for name, value in tensors.items():
        parameter, shards, dimension = split.get(name.split(".", 1)[0], (None, None, 0))
        if parameter is None or shards is None or value.shape != parameter.shape:
            found[name] = value
            continue
        whole = shards.on_main(value.to(parameter.device), dimension)
        if whole is not None:
            found[name] = whole
    return found if not split or dist.get_rank() == 0 else {}


def own_moments(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns this process' part of what `whole_moments` returned."""
    split = _split_numbers(model, optimizer)
    found = dict(tensors)
    for name, value in tensors.items():
        parameter, shards, dimension = split.get(name.split(".", 1)[0], (None, None, 0))
        if shards is not None and value.ndim == parameter.ndim:
            found[name] = shards.part(value, dimension)
    return found


def _split_numbers(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Returns by an optimiser's number of each split parameter: it, whose labels are whose, their dimension."""
    parameters = dict(model.named_parameters())
    split = {id(parameters[name]): how for name, how in split_parameters(model).items()}
    every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {str(at): (value, *split[id(value)]) for at, value in enumerate(every) if id(value) in split}


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scales gradients down to a norm, that of all parameters and of all processes' labels taken together.

    Args:
        model: With gradients; those of what is not split are the same in all processes, as they are after
            `backward` of a model in DistributedDataParallel.
        max_norm: The largest norm there may be.

    Returns:
        The norm before.
    """
    split = split_parameters(model)
    groups: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            groups[name in split].append(parameter.grad)
    common, own = (nn.utils.get_total_norm(gradients).square() for gradients in groups.values())
    if split:
        own = own.to(next(model.parameters()).device)
        dist.all_reduce(own)
    norm = (common + own).sqrt()
    nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm
