"""Gradients that the forward pass has made already, kept until the backward pass hands them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def keep(ctx: Any, gradients: Sequence[Tensor | None]) -> None:
    """Keeps the gradients of the first output at each input; forgets them once they are handed out."""
    ctx.set_materialize_grads(False)
    ctx.made = list(gradients)


def hand_out(
    ctx: Any,
    grads: Sequence[Tensor | None],
    *,
    name: str,
    way: str = "chunked",
    scale: Callable[[Tensor, Tensor], None] | None = None,
) -> list[Tensor | None]:
    """Returns the kept gradients times that of the first output.

    Args:
        ctx: What `keep` was given.
        grads: Of the outputs.
        name: Of the head, for messages.
        way: That it is computed in, for messages.
        scale: Multiplies a gradient in place by a number; None: torch does.

    Raises:
        RuntimeError: For what gradients made in the forward pass cannot give: those of another term, second
            derivatives, or the same ones twice.
    """
    way_out = "use `impl='reference'`"
    # Not `once_differentiable`: it lets a second derivative pass as 0 where the loss' own gradient is a constant.
    if torch.is_grad_enabled():
        raise RuntimeError(f"the {way} {name} head can be differentiated once, not twice; {way_out}")
    if any(grad is not None for grad in grads[1:]):
        raise RuntimeError(f"the {way} {name} head has gradients of `total` and of no term alone; {way_out}")
    if ctx.made is None:
        raise RuntimeError(
            f"the {way} {name} head has handed its gradients out and cannot go back a second time "
            f"(`retain_graph=True`); {way_out}"
        )
    made: list[Tensor | None] = ctx.made
    ctx.made = None
    total = grads[0]
    if total is None:
        return [None] * len(made)
    if total.device.type != "cpu" or float(total) != 1:  # to look at it on a GPU costs a wait
        for gradient in made:
            if gradient is not None:
                gradient.mul_(total) if scale is None else scale(gradient, total)
    return made
