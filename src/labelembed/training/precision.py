"""Accelerate, set up for one run: device, processes, mixed precision."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim import Optimizer

from labelembed.errors import RecipeError
from labelembed.training.network import Network
from labelembed.training.processes import meet, on_cpu
from labelembed.training.settings import Precision

_ACCELERATE_NAMES = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(precision: Precision, *, device: str | None = None) -> Accelerator:
    """Returns an Accelerator for one run.

    Args:
        precision: What the run computes in.
        device: `cpu` keeps off any accelerator there is; None: what Accelerate finds.

    Raises:
        RecipeError: For fp16 without a device that has it.
        LostProcess: Of several processes some do not come.
    """
    if precision == "fp16" and on_cpu(device):
        raise RecipeError(["precision: 'fp16' needs a GPU; here 'bf16' or 'float32' work"])
    # Accelerate keeps its settings for the life of the process, but one process makes many runs.
    AcceleratorState._reset_state()
    meet(device=device)
    return Accelerator(cpu=on_cpu(device), mixed_precision=_ACCELERATE_NAMES[precision])


def prepared(accelerator: Accelerator, network: Network, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Returns network and optimiser as Accelerate wraps them.

    Args:
        accelerator: Of the run.
        network: What is trained.
        optimizer: Over the network's parameters.
    """
    model, wrapped = accelerator.prepare(network, optimizer)
    return model, wrapped
