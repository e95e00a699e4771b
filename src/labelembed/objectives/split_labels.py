"""Objectives whose labels are split over processes (`vocabulary_parallel`): what they may be, and how they start."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.heads.label_shards import LabelShards


def shards_for(num_labels: int, *, wanted: bool, faults: ArgumentFaults) -> LabelShards | None:
    """Returns the labels over the processes that are up, None where they shall not be split."""
    if not wanted:
        return None
    shards = LabelShards.of(num_labels)
    rule = f"must be at least the number of processes, {shards.processes}, to split the labels over them"
    faults.require(num_labels >= shards.processes or num_labels < 1, "num_labels", num_labels, rule)
    return shards


def require_chunks(faults: ArgumentFaults, impl: str, *, vocabulary_parallel: bool) -> None:
    """Notes an implementation that does not split labels."""
    holds = not vocabulary_parallel or impl in ("auto", "chunked")
    faults.require(holds, "impl", impl, "must be 'auto' or 'chunked' with vocabulary_parallel=True")


def part_of_new_layer(shards: LabelShards, hidden_size: int, *, bias: bool) -> nn.Linear:
    """Returns this process' rows of the layer [H -> C] that ``nn.Linear(H, C)`` would be, drawn as it draws them."""
    weight = shards.drawn(shards.num_labels, hidden_size, lambda piece: nn.init.kaiming_uniform_(piece, a=5**0.5))
    limit = hidden_size**-0.5
    biases = shards.part(torch.empty(shards.num_labels).uniform_(-limit, limit)) if bias else None
    return _layer(weight, biases)


def part_of_layer(shards: LabelShards, layer: nn.Linear) -> nn.Linear:
    """Returns a layer of this process' rows of a layer [H -> C]; what is frozen stays so."""
    parts = {name: shards.part(value.detach()) for name, value in layer.named_parameters()}
    part = _layer(parts["weight"], parts.get("bias"))
    for name, parameter in layer.named_parameters():
        getattr(part, name).requires_grad_(parameter.requires_grad)
    return part


def _layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Returns the layer of a weight [D, H] and a bias [D]; random states stay as they are."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(weight.shape[1], 1, bias=bias is not None)
    layer.out_features, layer.weight = len(weight), nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer


def checked(shards: LabelShards, parameters: Iterable[Tensor]) -> LabelShards | None:
    """Returns the labels' processes, None where there is one; see `Objective.split`.

    Args:
        shards: As they were when the objective was built.
        parameters: All that is split.

    Raises:
        RuntimeError: Other processes are up than were, or a DistributedDataParallel would average what is split.
    """
    running = whole_batch.processes()
    if running != shards.processes:
        raise RuntimeError(
            f"the labels were split over {shards.processes} processes when the objective was built, and {running} are "
            "up; build it after torch.distributed.init_process_group (or Accelerator()), and load a whole state there"
        )
    if shards.processes == 1:
        return None
    wrapper = getattr(DistributedDataParallel, "_active_ddp_module", None)
    if wrapper is not None:
        split = {id(parameter) for parameter in parameters}
        for name, parameter in wrapper.module.named_parameters():
            if id(parameter) in split and name not in wrapper.parameters_to_ignore:
                raise RuntimeError(
                    f"DistributedDataParallel would average `{name}`, of which each process has labels of its own; "
                    "wrap the encoder alone, or call labelembed.keep_split(model) before the model is wrapped"
                )
    return shards
