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
    network: Network, terms: Mapping[str, float], parts: Sequence[AnyBatch], *, step: int, place: str
) -> None:
    """Raises DivergedTraining for the term or gradient of a step that is not finite, with what is behind it.

    The weights have not moved yet. The norm of finite gradients may be infinite, for their squares overflow first:
    then nothing is raised. All processes of a run must call it together.

    Args:
        network: What is trained, with its gradients.
        terms: Of the step, over all processes.
        parts: This process's micro-batches.
        step: The number of the step, from 1.
        place: Epoch and batch of it, for the message.
    """
    examples = _examples_not_finite(parts)
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    gradient = first_not_finite((name, value.grad) for name, value in network.named_parameters())
    if wrong:
        # The total is wrong whenever a term is; the term says where to look.
        term = next((name for name in wrong if name != "total"), "total")
        what = f"the loss is not finite: term `{term}` is {terms[term]} at step {step} ({place})"
    elif gradient is not None:
        what = f"the gradient is not finite: that of `{gradient}` at step {step} ({place})"
    else:
        return
    if examples:
        shown = ", ".join(map(str, examples[:_MOST_EXAMPLES])) + (", ..." if len(examples) > _MOST_EXAMPLES else "")
        which = "example" if len(examples) == 1 else "examples"
        raise DivergedTraining(f"{what}; the input is not finite: training {which} {shown}", step=step)
    spoiled = first_not_finite(itertools.chain(_state(network), _targets_of_teacher(network, parts)))
    if spoiled is not None:
        what += f"; before it `{spoiled}` is not finite"
    elif wrong:
        what += f"; {_first_layer_not_finite(network, parts)}"
    raise DivergedTraining(f"{what}. {WAY_OUT}", step=step)


def refuse_weights(network: Network, *, step: int, when: str) -> None:
    """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name."""
    name = first_not_finite(_state(network))
    if name is not None:
        raise DivergedTraining(f"the weights are not finite {when}: `{name}`. {WAY_OUT}", step=step)


def refuse_loaded(network: Network, *, source: str) -> None:
    """Raises TrainingError when a weight or a table is not finite before training begins or goes on, with its name."""
    name = first_not_finite(_state(network))
    if name is not None:
        raise TrainingError(f"{source}: `{name}` holds a value that is not finite; nothing was trained on it")


def refuse_moments(network: Network, optimizer: Optimizer, *, step: int, when: str) -> None:
    """Raises DivergedTraining when what an optimiser keeps of a weight is not finite."""
    names = {id(value): name for name, value in network.named_parameters()}
    kept = (
        (f"`{names.get(id(value), 'a parameter')}` ({entry})", moment)
        for value, entries in optimizer.state.items()
        for entry, moment in entries.items()
    )
    name = first_not_finite(kept)
    if name is not None:
        what = f"the gradients overflow what is kept of them {when}: {name} of the optimiser"
        raise DivergedTraining(f"{what}. {WAY_OUT}", step=step)


def first_not_finite(named: Iterable[tuple[str, Any]]) -> str | None:
    """Returns the name of the first floating-point tensor that holds a NaN or an infinity; None where none does."""
    for name, value in named:
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all():
            return name
    return None


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


def _targets_of_teacher(network: Network, parts: Sequence[AnyBatch]) -> Iterator[tuple[str, Tensor]]:
    table = getattr(network.objective, "teacher_table", None)  # in a file, so that it is no buffer
    if table is not None:
        indices = torch.cat([part.indices[part.labels >= 0] for part in parts])
        yield "the teacher's table", table.values[indices.to(table.values.device)]


def _first_layer_not_finite(network: Network, parts: Sequence[AnyBatch]) -> str:
    """Returns, for the message, the first layer of the encoder whose output is not finite, by another forward pass."""
    outputs: list[tuple[str, Any]] = []
    with ExitStack() as hooks, network.autocast():
        for name, module in network.encoder.named_modules(prefix="encoder"):
            if not list(module.children()):
                look = module.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
                hooks.callback(look.remove)
        for part in parts:
            network.hidden(part.inputs)
    layer = first_not_finite(outputs)
    if layer is None:
        return "what the encoder gives is finite, what the objective makes of it is not"
    return f"the first layer that gives such is `{layer}`"
