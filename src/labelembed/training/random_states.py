"""The random states of all processes of a run: each draws its own dropout masks, for its own share of the rows."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from labelembed.distributed import process_count


def states_of_others(device: torch.device) -> dict[str, Tensor]:
    """Returns the states of the processes but the first, by name; all processes must call it together.

    Args:
        device: Of the network, on which processes exchange tensors.
    """
    count = process_count()
    found: dict[str, Tensor] = {}
    if count == 1:
        return found
    for kind, state in _own_states(device).items():
        mine = state.to(device)
        parts = [torch.empty_like(mine) for _ in range(count)]
        dist.all_gather(parts, mine)
        found |= {_name(kind, number): part.cpu() for number, part in enumerate(parts) if number > 0}
    return found


def take_own_state(saved: dict[str, Tensor], device: torch.device) -> None:
    """Takes up this process's state, where as many processes go on as were stopped.

    Args:
        saved: By name, with those of `states_of_others`.
        device: Of the network.
    """
    number, count = (dist.get_rank(), process_count()) if process_count() > 1 else (0, 1)
    if number == 0 or _name("torch", count - 1) not in saved or _name("torch", count) in saved:
        return
    torch.set_rng_state(saved[_name("torch", number)])
    if device.type == "cuda" and _name("cuda", number) in saved:
        torch.cuda.set_rng_state(saved[_name("cuda", number)], device)


def _own_states(device: torch.device) -> dict[str, Tensor]:
    on_device = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"torch": torch.get_rng_state()} | on_device


def _name(kind: str, number: int) -> str:
    return f"{kind} of process {number}"
