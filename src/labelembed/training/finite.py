"""NaN and infinity stop a run where they first show, before a weight moves and before anything is saved or selected.

Where a run has several processes, all of them must call a function here together: they ask each other, and all stop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from labelembed.distributed import gather
from labelembed.errors import DivergedTraining, TrainingError
from labelembed.training.network import Network
from labelembed.training.training_data import AnyBatch

_WAY_OUT = "Try a lower optimizer.learning_rate, or precision: float32"
_MOST_ROWS = 5


def refuse_step(
    network: Network,
    terms: Mapping[str, float],
    parts: Sequence[AnyBatch],
    *,
    step: int,
    where: str,
) -> None:
    """Raises DivergedTraining for what is not finite in a step that has not moved the weights yet, and says what it is.

    An input, a weight or a table that is not finite is named beside the loss or the gradient that it spoils. A norm may
    be infinite where every gradient is finite, for its squares overflow first: that is no fault, and nothing is raised.

    Args:
        network: What is trained.
        terms: Of the step, over all processes.
        parts: This process' micro-batches.
        step: The number of the step, from 1.
        where: The step, for the message.
    """
    spoiled = _not_finite(_floating(network.named_parameters(), network.named_buffers()), network)
    rows = _rows_not_finite(parts)
    of_teacher = _teacher_not_finite(network, parts)
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    if not wrong:
        named = {name: value.grad for name, value in network.named_parameters() if value.requires_grad}
        of_weights = _not_finite(named, network)
        if not of_weights:
            return
        what = f"the gradient is not finite: that of `{of_weights[0]}` at {where}"
    else:
        # The total is wrong whenever a term is; the term says where to look.
        name = next((name for name in wrong if name != "total"), "total")
        what = f"the loss is not finite: term `{name}` is {terms[name]} at {where}"
    if rows:
        shown = ", ".join(map(str, rows[:_MOST_ROWS])) + (", ..." if len(rows) > _MOST_ROWS else "")
        which = "row" if len(rows) == 1 else "rows"
        raise DivergedTraining(f"{what}; the input is not finite: training {which} {shown}", step=step)
    for place in (*spoiled, *of_teacher):
        raise DivergedTraining(f"{what}; before it `{place}` is not finite. {_WAY_OUT}", step=step)
    layer = _layer_not_finite(network, parts) if wrong else ""
    raise DivergedTraining(f"{what}{layer}. {_WAY_OUT}", step=step)


def refuse_weights(network: Network, *, when: str, step: int) -> None:
    """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name.

    Args:
        network: What is trained.
        when: For the message, for instance "after step 3".
        step: The number of the step.
    """
    for name in _not_finite(_floating(network.named_parameters(), network.named_buffers()), network):
        raise DivergedTraining(f"the weights are not finite {when}: `{name}`. {_WAY_OUT}", step=step)


def refuse_loaded(network: Network, *, source: str) -> None:
    """Raises TrainingError when a weight or a table is not finite before training begins or goes on, with its name.

    Args:
        network: What will be trained.
        source: Where it comes from, for the message.
    """
    for name in _not_finite(_floating(network.named_parameters(), network.named_buffers()), network):
        raise TrainingError(f"{source}: `{name}` holds a value that is not finite; nothing was trained on it")


def refuse_moments(network: Network, optimizer: Optimizer, *, when: str, step: int) -> None:
    """Raises DivergedTraining when what an optimiser keeps of a weight is not finite; see `refuse_weights`."""
    names = {id(value): name for name, value in network.named_parameters()}
    every = [value for group in optimizer.param_groups for value in group["params"]]
    kept = {
        f"{names.get(id(value), 'a parameter')}` ({entry}) of the optimiser": moment
        for value in every
        for entry, moment in optimizer.state.get(value, {}).items()
        if isinstance(moment, Tensor) and moment.is_floating_point()
    }
    for name in _not_finite(kept, network):
        raise DivergedTraining(f"the gradients overflow what is kept of them {when}: `{name}. {_WAY_OUT}", step=step)


def refuse_predictions(error: ValueError, *, where: str, step: int) -> DivergedTraining:
    """Returns the error for predictions that could not be measured."""
    return DivergedTraining(f"the predictions are not finite after {where}: {error}. {_WAY_OUT}", step=step)


def refuse_endless_overflow(network: Network, *, step: int, where: str) -> None:
    """Raises DivergedTraining for fp16 gradients that overflow however small the loss is scaled, if they do."""
    named = {name: value.grad for name, value in network.named_parameters()}
    of_weights = [name for name, value in named.items() if value is not None and not value.isfinite().all()]
    for name in of_weights:
        raise DivergedTraining(
            f"the gradient is not finite: that of `{name}` at {where}, however small the loss is scaled. "
            "Try a lower optimizer.learning_rate, or precision: bf16 or float32",
            step=step,
        )


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Returns the gradients there are; of a sparse one the values that it has."""
    found = [value.grad for value in parameters if value.grad is not None]
    return [value._values() if value.is_sparse else value for value in found]


def _floating(*named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in itertools.chain(*named) if value.is_floating_point()}


@torch.no_grad()
def _not_finite(named: Mapping[str, Tensor | None], network: Network) -> list[str]:
    """Returns the names of tensors that are not finite."""
    if not named:
        return []
    device = next(network.parameters()).device
    there = torch.ones((), dtype=torch.bool, device=device)
    values = (value._values() if value is not None and value.is_sparse else value for value in named.values())
    finite = torch.stack(
        [there if value is None else torch.isfinite(value).all().to(device, non_blocking=True) for value in values]
    )
    return [name for name, holds in zip(named, finite.tolist(), strict=True) if not holds]


@torch.no_grad()
def _rows_not_finite(parts: Sequence[AnyBatch]) -> list[int]:
    """Returns the numbers of some training rows whose input is not finite, in any process."""
    found = torch.full((_MOST_ROWS + 1,), -1, dtype=torch.int64, device=parts[0].labels.device)
    rows = [
        part.indices[~torch.isfinite(part.inputs).flatten(1).all(dim=1)]
        for part in parts
        if isinstance(part.inputs, Tensor) and part.inputs.is_floating_point()
    ]
    if rows:
        some = torch.cat(rows)[: len(found)]
        found[: len(some)] = some
    (of_all,) = gather(found)
    return sorted({row for row in of_all.tolist() if row >= 0})


@torch.no_grad()
def _teacher_not_finite(network: Network, parts: Sequence[AnyBatch]) -> list[str]:
    """Returns the teacher's table, which is no buffer, where its entries for the step are not all finite."""
    table = getattr(network.objective, "teacher_table", None)
    if table is None:
        return []
    indices = torch.cat([part.indices[part.labels >= 0] for part in parts])
    return [] if table.values[indices.to(table.values.device)].isfinite().all() else ["the teacher's table"]


@torch.no_grad()
def _layer_not_finite(network: Network, parts: Sequence[AnyBatch]) -> str:
    """Returns, for the message, the first layer that gives what is not finite, once more asked."""
    first: list[str] = []

    def look(name: str, output: object) -> None:
        if not first and isinstance(output, Tensor) and output.is_floating_point() and not output.isfinite().all():
            first.append(name)

    handles = [
        module.register_forward_hook(lambda module, arguments, output, name=name: look(name, output))
        for name, module in network.named_modules()
        if name.startswith("encoder") and not list(module.children())
    ]
    try:
        for part in parts:
            network.hidden(part.inputs)
    finally:
        for handle in handles:
            handle.remove()
    if first:
        return f"; the first layer that gives such is `{first[0]}`"
    return "; what the encoder gives is finite, what the objective makes of it is not"
