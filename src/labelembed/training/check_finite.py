"""NaN and infinity stop a run where they first show, before a weight moves and before anything is saved or selected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from labelembed.distributed import gather
from labelembed.errors import DivergedTraining, TrainingError
from labelembed.training.batches import AnyBatch
from labelembed.training.network import Network

WAY_OUT = "Try a lower optimizer.learning_rate, or precision: float32"
_MOST_EXAMPLES = 5


@torch.no_grad()
def refuse_step(
    network: Network, terms: Mapping[str, float], parts: Sequence[AnyBatch], *, step: int, where: str
) -> None:
    """Raises DivergedTraining for the term or gradient of a step that is not finite, with what is behind it.

    The weights have not moved yet. The norm of finite gradients may be infinite, for their squares overflow first:
    then nothing is raised. All processes of a run must call it together.

    Args:
        network: What is trained, with its gradients.
        terms: Of the step, over all processes.
        parts: This process's micro-batches.
        step: The number of the step, from 1.
        where: The step, for the message.
    """
    examples = _examples_not_finite(parts)
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    gradients = () if wrong else not_finite((name, value.grad) for name, value in network.named_parameters())
    if wrong:
        # The total is wrong whenever a term is; the term says where to look.
        name = next((name for name in wrong if name != "total"), "total")
        what = f"the loss is not finite: term `{name}` is {terms[name]} at {where}"
    elif gradients:
        what = f"the gradient is not finite: that of `{gradients[0]}` at {where}"
    else:
        return
    if examples:
        shown = ", ".join(map(str, examples[:_MOST_EXAMPLES])) + (", ..." if len(examples) > _MOST_EXAMPLES else "")
        which = "example" if len(examples) == 1 else "examples"
        raise DivergedTraining(f"{what}; the input is not finite: training {which} {shown}", step=step)
    spoiled = [*not_finite(_state(network)), *_teacher_not_finite(network, parts)]
    if spoiled:
        what += f"; before it `{spoiled[0]}` is not finite"
    elif wrong:
        what += f"; {_first_layer_not_finite(network, parts)}"
    raise DivergedTraining(f"{what}. {WAY_OUT}", step=step)


def refuse_overflow(network: Network, *, step: int, where: str) -> None:
    """Raises DivergedTraining for fp16 gradients that overflow however small the loss is scaled, if they do."""
    for name in not_finite((name, value.grad) for name, value in network.named_parameters()):
        raise DivergedTraining(
            f"the gradient is not finite: that of `{name}` at {where}, however small the loss is scaled. "
            "Try a lower optimizer.learning_rate, or precision: bf16 or float32",
            step=step,
        )


def refuse_weights(network: Network, *, step: int, when: str) -> None:
    """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name."""
    for name in not_finite(_state(network)):
        raise DivergedTraining(f"the weights are not finite {when}: `{name}`. {WAY_OUT}", step=step)


def refuse_loaded(network: Network, *, source: str) -> None:
    """Raises TrainingError when a weight or a table is not finite before training begins or goes on, with its name."""
    for name in not_finite(_state(network)):
        raise TrainingError(f"{source}: `{name}` holds a value that is not finite; nothing was trained on it")


def refuse_moments(network: Network, optimizer: Optimizer, *, step: int, when: str) -> None:
    """Raises DivergedTraining when what an optimiser keeps of a weight is not finite."""
    names = {id(value): name for name, value in network.named_parameters()}
    kept = (
        (f"{names.get(id(value), 'a parameter')}` ({entry}) of the optimiser", moment)
        for value, entries in optimizer.state.items()
        for entry, moment in entries.items()
    )
    for name in not_finite(kept):
        raise DivergedTraining(f"the gradients overflow what is kept of them {when}: `{name}. {WAY_OUT}", step=step)


def not_finite(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Returns the names of the floating-point tensors that hold a NaN or an infinity."""
    return [
        name
        for name, value in named
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all()
    ]


def _state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(network.named_parameters(), network.named_buffers())


def _examples_not_finite(parts: Sequence[AnyBatch]) -> list[int]:
    """Returns the indices of training examples whose input is not finite, in any process."""
    found = [
        part.indices[~part.inputs.isfinite().flatten(1).all(dim=1)]
        for part in parts
        if isinstance(part.inputs, Tensor) and part.inputs.is_floating_point()
    ]
    (of_all,) = gather(torch.cat([*found, parts[0].indices.new_empty(0)]))
    return sorted(set(of_all.tolist()))


def _teacher_not_finite(network: Network, parts: Sequence[AnyBatch]) -> list[str]:
    table = getattr(network.objective, "teacher_table", None)  # in a file, so that it is no buffer
    if table is None:
        return []
    indices = torch.cat([part.indices[part.labels >= 0] for part in parts])
    return [] if table.values[indices.to(table.values.device)].isfinite().all() else ["the teacher's table"]


def _first_layer_not_finite(network: Network, parts: Sequence[AnyBatch]) -> str:
    """Returns, for the message, the first layer of the encoder whose output is not finite, by another forward pass."""
    found: list[str] = []
    with ExitStack() as hooks:
        for name, module in network.encoder.named_modules(prefix="encoder"):
            if not list(module.children()):
                look = module.register_forward_hook(
                    lambda module, arguments, output, name=name: found.extend(not_finite([(name, output)]))
                )
                hooks.callback(look.remove)
        with network.autocast():
            for part in parts:
                network.hidden(part.inputs)
    if found:
        return f"the first layer that gives such is `{found[0]}`"
    return "what the encoder gives is finite, what the objective makes of it is not"
