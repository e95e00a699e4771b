"""NaN and infinity stop a run where they first show, before a weight moves and before anything is saved or selected."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from labelembed.distributed import gather
from labelembed.lab.errors import DivergedTraining
from labelembed.lab.training.batches import AnyBatch
from labelembed.lab.training.network import Network

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
    gradient = _first_not_finite((name, value.grad) for name, value in network.named_parameters())
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
    spoiled = _first_not_finite(_state(network))
    if spoiled is not None:
        what += f"; before it `{spoiled}` is not finite"
    raise DivergedTraining(f"{what}. {WAY_OUT}", step=step)


def refuse_weights(network: Network, *, step: int, when: str) -> None:
    """Raises DivergedTraining when a weight or a table is NaN or infinite, with its name."""
    name = _first_not_finite(_state(network))
    if name is not None:
        raise DivergedTraining(f"the weights are not finite {when}: `{name}`. {WAY_OUT}", step=step)


def _first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Returns the name of the first floating-point tensor that holds a NaN or an infinity; None where none does."""
    for name, value in named:
        if value is not None and value.is_floating_point() and not value.isfinite().all():
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
