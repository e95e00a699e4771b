"""The label-embedding head as one node of the graph, with its gradients written down.

For few labels the arithmetic costs nothing and the calls cost everything: the plain lines build some thirty
nodes, this one builds one. Derivatives, with p1, p2 the softmaxes of z1, z2 and t the softened one::

    d output / d z1      (p1 - onehot) / n
    d target / d z1      (p1 - softmax(e)) / n
    d uniform / d z1     (p1 - 1/C) / n
    d auxiliary / d z2   (p2 - onehot) / n
    d hinge / d z2       -[p2[y] > limit] p2[y] (p2 - onehot) / n      (times 2 (p2[y] - limit) for norm 2)
    d embedding / d e    (softmax(e) - t) [right] / n_right
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labelembed.heads.terms import HeadSettings, HeadTerms, full_precision


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor, embedded: Tensor, labels: Tensor, settings: HeadSettings
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        n, num_labels = first.shape
        index = labels[:, None]
        row_factor = settings.row_factor(n, like=first)
        some = settings.sample(labels)
        # Those of the second output's rows, which stand for all.
        second_factor = row_factor / settings.auxiliary_fraction
        hinge_factor = settings.hinge_factor(row_factor) / settings.auxiliary_fraction
        log_first = torch.log_softmax(first, dim=1)
        log_embedded = torch.log_softmax(embedded, dim=1)
        soft_embedded = log_embedded.exp()

        output = log_first.gather(1, index).sum() * -row_factor
        target = torch.dot(soft_embedded.view(-1), log_first.view(-1)) * -row_factor
        auxiliary = hinge = output.new_zeros(())
        taught = soft_embedded
        if some is not None:
            second, log_embedded, taught, index = second[some], log_embedded[some], soft_embedded[some], index[some]
        log_second = true = excess = output  # of no use where E learns from the first output
        if not settings.shared:
            log_second = torch.log_softmax(second, dim=1)
            log_true = log_second.gather(1, index)
            auxiliary = log_true.sum() * -second_factor
            true = log_true.exp_()
            excess = (true - settings.confidence_limit).clamp_min_(0)
            hinge = (excess if settings.hinge_norm == 1 else excess.square()).sum() * hinge_factor
        right = (second.argmax(dim=1, keepdim=True) == index).to(first.dtype)
        softened = torch.softmax(second * (1 / settings.temperature), dim=1).mul_(right)
        by_row = torch.dot(softened.view(-1), log_embedded.view(-1))
        embedding, right_factor = settings.mean_over_right(-by_row, right.sum(), rows=n)
        total = output * settings.output_weight + target * settings.target_weight + auxiliary + hinge + embedding
        uniform = output.new_zeros(())
        if settings.uniform_weight > 0:
            uniform = log_first.sum() * (-row_factor / num_labels)
            total = total + uniform * settings.uniform_weight

        ctx.settings, ctx.factors = settings, (row_factor, second_factor, hinge_factor, right_factor)
        ctx.save_for_backward(labels, some, log_first, log_second, soft_embedded, taught, softened, true, excess, right)
        return total, output, target, auxiliary, hinge, embedding, uniform

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # Not `once_differentiable`: it lets a second derivative pass as 0 where the loss' own gradient is a constant.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the closed-form label-embedding head can be differentiated once, and `create_graph=True` asks for "
                "more; use `label_embedding_terms(..., implementation='reference')`"
            )
        settings: HeadSettings = ctx.settings
        row_factor, second_factor, hinge_factor, right_factor = ctx.factors
        labels, some, log_first, log_second, soft_embedded, taught, softened, true, excess, right = ctx.saved_tensors
        index = labels[:, None]
        total = grads[0]

        def weight(term: int, in_total: Tensor | float) -> Tensor | float:
            """What the loss changes by when the term does: by way of the total, and directly."""
            own = grads[term]
            through = 0.0 if total is None else total * in_total
            return through if own is None else through + own

        for_output = weight(1, settings.output_weight)
        for_target = weight(2, settings.target_weight)
        for_uniform = weight(6, settings.uniform_weight) if settings.uniform_weight > 0 else 0.0
        d_first = d_second = d_embedded = None
        if ctx.needs_input_grad[0]:
            d_first = log_first.exp().mul_(for_output + for_target + for_uniform)
            d_first.sub_(soft_embedded * for_target)
            if settings.uniform_weight > 0:
                d_first.sub_(for_uniform / log_first.shape[1])
            d_first.scatter_add_(1, index, -_column(for_output, index, log_first))
            d_first.mul_(row_factor)
        if some is not None:
            index = index[some]
        if ctx.needs_input_grad[1]:
            slope = true if settings.hinge_norm == 1 else true * excess * 2
            row = (excess > 0) * slope * (-weight(4, 1.0) * hinge_factor) + weight(3, 1.0) * second_factor
            d_second = log_second.exp()
            d_second.scatter_add_(1, index, _column(-1.0, index, log_second))
            d_second = _among_all(d_second.mul_(row), some, like=log_first)
        if ctx.needs_input_grad[2]:
            d_embedded = (taught * right).sub_(softened).mul_(weight(5, 1.0) * right_factor)
            d_embedded = _among_all(d_embedded, some, like=log_first)
        return d_first, d_second, d_embedded, None, None


def _column(value: Tensor | float, index: Tensor, like: Tensor) -> Tensor:
    """Returns [n, 1] of `value`, in the type of `like`."""
    return torch.ones_like(index, dtype=like.dtype) * value


def _among_all(values: Tensor, rows: Tensor | None, *, like: Tensor) -> Tensor:
    """Returns values [k, C] of some rows among zeros [n, C]; of all rows as they are."""
    return values if rows is None else torch.zeros_like(like).index_copy_(0, rows, values)


def label_embedding_terms(
    first: Tensor, second: Tensor, embedded: Tensor, labels: Tensor, settings: HeadSettings
) -> HeadTerms:
    """Computes the terms of Sun et al. 2017, eq. 14, from logits; see `heads.label_embedding_terms`.

    Differentiable once, in every term.
    """
    terms = _Terms.apply(full_precision(first), full_precision(second), full_precision(embedded), labels, settings)
    return HeadTerms(*terms)
