"""The label-embedding loss over many labels, without holding the logits [N, C] of all examples.

The same terms as `losses.reference`, from the hidden states on. The logits of a *chunk* of examples are overwritten by
their softmax and then by their gradient, which is added to the gradients of the layers. All gradients exist at the end
of the forward pass; the backward pass multiplies them.

What keeps it near the time of its matrix products (with p = softmax(z), all derivatives times the example's scale):

- d (output + target + uniform) / d z1 = w p1 - w_output onehot - w_target softmax(e) - w_uniform / C, w the sum of the
  weights: one softmax and one product for three terms. w multiplies the hidden states instead, which are smaller.
- d (auxiliary + hinge) / d z2 = (p2 - onehot) (1 - [p2[y] > limit] p2[y]): a factor, again on the hidden states.
- Examples are sorted by label, so that softmax(e) and its gradient are computed once for each distinct label of a
  *block*, the part of a chunk whose elementwise work fits a processor's cache.
- On a CPU only the examples that o2 gets right, and their labels, take part in eq. 11. On a GPU all do, the others with
  weight 0, and each example counts as a label of its own: a selection would wait for the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.losses.reference import LabelEmbeddingTerms, full_precision

# Adding a chunk to a weight's gradient reads and writes all of it: with 128 examples a third of the product, with 512 a
# twelfth. With few labels more examples fit a processor's last cache, with very many fewer fit in memory.
_EXAMPLES, _CACHE_BYTES, _MOST_BYTES = 512, 2**25, 2**28
_BLOCK_EXAMPLES, _BLOCK_BYTES = 128, 6 * 2**20


class Settings(NamedTuple):
    """Numbers of the loss, see `LabelEmbedding`; `global_sum` sums over the processes of a step."""

    output_weight: float = 1.0
    target_weight: float = 0.0
    uniform_weight: float = 0.0
    hinge_weight: float | Tensor = 1.0
    temperature: float = 2.0
    confidence_limit: float = 0.9
    learns_embedding: bool = False
    global_sum: Callable[[Tensor], Tensor] = lambda value: value


def chunk_size(num_labels: int) -> int:
    """Returns how many examples' logits over C labels are held at a time."""
    return max(32, min(max(_EXAMPLES, _CACHE_BYTES // (4 * num_labels)), _MOST_BYTES // (4 * num_labels)))


def _equal_slices(length: int, most: int) -> list[slice]:
    """Returns slices of 0..length of nearly equal size, at most `most`: a small last one would waste a product."""
    count = -(-length // most)
    return [slice(length * i // count, length * (i + 1) // count) for i in range(count)]


class _Layer:
    """A linear layer over chunks, its products of `dtype`, and the sums of its gradients in float32 (or float64)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, *, learns: bool) -> None:
        self.weight, self.exact = weight.to(dtype), full_precision(weight.new_empty(0, dtype=dtype)).dtype
        self.bias = torch.zeros_like(weight[:, 0], dtype=self.exact) if bias is None else bias.to(self.exact)
        self.d_weight = torch.zeros_like(weight, dtype=self.exact) if learns else None
        self.d_bias = torch.zeros_like(self.bias) if learns else None

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        if self.weight.dtype == self.exact:
            return torch.mm(hidden, self.weight.T, out=out).add_(self.bias)  # `addmm` would fill `out` first
        return out.copy_(hidden @ self.weight.T).add_(self.bias)

    def fold(self, slopes: Tensor, hidden: Tensor, scales: Tensor) -> None:
        """Adds the gradients of a loss that changes by ``scales[i] * slopes[i]`` with the logits of example i."""
        if self.d_weight is None or self.d_bias is None:
            return
        self.d_bias.addmv_(slopes.T, scales)
        if self.weight.dtype == self.exact:
            self.d_weight.addmm_(slopes.T, hidden * scales[:, None])
            return
        peak = scales.abs().amax().clamp_min(torch.finfo(scales.dtype).tiny)  # 1 / N alone would vanish in float16
        part = slopes.to(hidden.dtype).T @ (hidden * (scales / peak)[:, None].to(hidden.dtype))
        self.d_weight.addcmul_(part, peak)

    def back(self, slopes: Tensor, scales: Tensor) -> Tensor:
        return (slopes.to(self.weight.dtype) @ self.weight).to(self.exact).mul_(scales[:, None])


class _Table:
    """E [C, C], or relu(A B) with A [C, K] and B [K, C] (eq. 16): E[y] for some labels, and their gradients."""

    def __init__(self, left: Tensor, right: Tensor | None, exact: torch.dtype, *, learns: bool) -> None:
        self.left, self.right = left.to(exact), None if right is None else right.to(exact)
        self.d_left = torch.zeros_like(self.left) if learns else None
        self.d_right = torch.zeros_like(self.right) if learns and self.right is not None else None

    def rows(self, labels: Tensor, out: Tensor) -> Tensor:
        if self.right is None:
            return torch.index_select(self.left, 0, labels, out=out)
        return torch.mm(self.left[labels], self.right, out=out).relu_()

    def fold(self, labels: Tensor, slopes: Tensor, rows: Tensor) -> None:
        """Adds slopes [u, C] at the rows [u, C] of labels [u]; overwrites the slopes."""
        if self.d_left is None:
            return
        if self.right is None:
            self.d_left.index_add_(0, labels, slopes)
            return
        torch.ops.aten.threshold_backward.grad_input(slopes, rows, 0, grad_input=slopes)  # relu, in place
        self.d_left.index_add_(0, labels, slopes @ self.right.T)
        if self.d_right is not None:
            self.d_right.addmm_(self.left[labels].T, slopes)


class _Pass:
    """One pass over the examples: the terms and all gradients."""

    def __init__(self, settings: Settings, first: _Layer, second: _Layer | None, table: _Table | None) -> None:
        self.settings, self.first, self.second, self.table = settings, first, second, table
        self.weight_sum = settings.output_weight + settings.target_weight + settings.uniform_weight
        self.divisor = self.weight_sum or 1.0
        # Sums over examples, times their scales, by the name of the term.
        self.sums = {name: first.weight.new_zeros((), dtype=first.exact) for name in LabelEmbeddingTerms._fields}
        self.correct = self.sums["total"].clone()
        self.d_hidden: Tensor | None = None

    def run(self, hidden: Tensor, labels: Tensor, scales: Tensor) -> None:
        count = self.first.weight.shape[0]
        chunk, like = chunk_size(count), self.sums["total"]
        block = max(1, min(_BLOCK_EXAMPLES, chunk // 4, max(16, _BLOCK_BYTES // (4 * count))))
        logits = [like.new_empty(min(chunk, len(labels)), count) for _ in range(1 if self.second is None else 2)]
        buffers = [like.new_empty(min(block, len(labels)), count) for _ in range(0 if self.table is None else 4)]
        self.work = buffers[2:]
        order = torch.argsort(labels, stable=True)
        for some in (order[part] for part in _equal_slices(len(order), chunk)):
            states, true, scale = hidden[some], labels[some, None], scales[some]
            z1 = self.first.logits(states, logits[0][: len(some)])
            z2 = z1 if self.second is None else self.second.logits(states, logits[1][: len(some)])
            hits = _hits(z2, true) if self.settings.learns_embedding else None
            for part in _equal_slices(len(some), block):
                soft, places = None, true[part, 0]
                if self.table is not None:
                    names, places = _distinct(true[part, 0])
                    e = self.table.rows(names, buffers[0][: len(names)])
                    soft = torch.softmax(e, dim=1, out=buffers[1][: len(names)])
                    if hits is not None:
                        self._embedding(self.table, (names, places, e, soft), z2[part], hits[part], scale[part])
                self._output(z1[part], true[part], scale[part], soft, places)
            scale = scale * self.weight_sum
            self.first.fold(z1, states, scale)
            if self.d_hidden is not None:
                self.d_hidden[some] = self.first.back(z1, scale)
            if self.second is not None:
                self._auxiliary(self.second, z2, true, states, scales[some])

    def _embedding(self, table: _Table, rows: tuple[Tensor, ...], z2: Tensor, hits: Tensor, scale: Tensor) -> None:
        """Eq. 10 and 11 for a block: CE(softmax(z2 / tau), e) = logsumexp(e) - softmax(z2 / tau) . e."""
        names, places, e, soft = rows
        if z2.device.type == "cpu":
            some = hits.nonzero().squeeze(1)
            z2, scale = torch.index_select(z2, 0, some, out=self.work[1][: len(some)]), scale[some]
            learning, places = torch.unique_consecutive(places[some], return_inverse=True)
            names, e, soft = names[learning], e[learning], soft[learning]
        else:
            z2, scale = self.work[1][: len(z2)].copy_(z2), scale * hits
        softened = torch.softmax(z2.mul_(1 / self.settings.temperature), dim=1, out=z2).mul_(scale[:, None])
        soft_sums = self.work[0][: len(names)].zero_().index_add_(0, places, softened)
        mass = scale.new_zeros(len(names)).index_add_(0, places, scale)
        self.correct += mass.sum()
        self.sums["embedding"] += mass @ _logsumexp(e.amax(dim=1), soft) - torch.dot(soft_sums.view(-1), e.view(-1))
        table.fold(names, soft_sums.neg_().addcmul_(soft, mass[:, None]), e)

    def _output(self, z: Tensor, true: Tensor, scale: Tensor, soft: Tensor | None, places: Tensor) -> None:
        """Eq. 7 and 13 for a block; its logits become their gradient divided by the sum of the weights."""
        settings = self.settings
        dots = {"output": z.gather(1, true)[:, 0]}  # of the target distributions with the logits
        if settings.uniform_weight:
            dots["uniform"] = z.mean(dim=1)
        if soft is not None:
            soft = torch.index_select(soft, 0, places, out=self.work[0][: len(z)])
            dots["target"] = torch.mul(z, soft, out=self.work[1][: len(z)]).sum(dim=1)
        normaliser = _logsumexp(z.amax(dim=1), torch.softmax(z, dim=1, out=z))
        for name, dot in dots.items():
            self.sums[name] += scale @ (normaliser - dot)
        if soft is not None:
            z.sub_(soft, alpha=settings.target_weight / self.divisor)
        if settings.uniform_weight:
            z.sub_(settings.uniform_weight / self.divisor / z.shape[1])
        z.scatter_add_(1, true, z.new_full((1, 1), -settings.output_weight / self.divisor).expand_as(true))

    def _auxiliary(self, second: _Layer, z: Tensor, true: Tensor, hidden: Tensor, scale: Tensor) -> None:
        """Eq. 8 and 12 for a chunk; overwrites its logits."""
        highest, at_true = z.amax(dim=1), z.gather(1, true)[:, 0]
        log_true = at_true - _logsumexp(highest, torch.softmax(z, dim=1, out=z))
        excess = (log_true.exp() - self.settings.confidence_limit).clamp_min(0)
        self.sums["auxiliary"] -= scale @ log_true
        self.sums["hinge"] += (scale @ excess) * self.settings.hinge_weight
        z.scatter_add_(1, true, z.new_full((1, 1), -1.0).expand_as(true))
        second.fold(z, hidden, scale * (1 - (excess > 0) * log_true.exp() * self.settings.hinge_weight))

    def finish(self, scales: Tensor) -> LabelEmbeddingTerms:
        """Returns the terms; `embedding` is the mean over the examples of all processes that o2 gets right."""
        settings, sums = self.settings, self.sums
        if settings.learns_embedding and self.table is not None:
            all_scales, correct = settings.global_sum(torch.stack([scales.sum(), self.correct])).unbind()
            factor = torch.where(correct > 0, all_scales / correct, 0)
            sums["embedding"] *= factor
            for gradient in (self.table.d_left, self.table.d_right):
                if gradient is not None:
                    gradient.mul_(factor)
        total = sums["auxiliary"] + sums["hinge"] + sums["embedding"]
        for name in ("output", "target", "uniform"):
            total = total + getattr(settings, f"{name}_weight") * sums[name]
        return LabelEmbeddingTerms(**{**sums, "total": total})


class _LabelEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        hidden, weight, bias, weight2, bias2, left, right, labels, scales, settings, learns = arguments
        ctx.set_materialize_grads(False)
        device = hidden.device.type
        low = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
        dtype = torch.get_autocast_dtype(device) if low else hidden.dtype
        learns = learns and any(ctx.needs_input_grad)
        with torch.autocast(device, enabled=False):
            first = _Layer(weight, bias, dtype, learns=learns)
            second = None if weight2 is None else _Layer(weight2, bias2, dtype, learns=learns)
            learns_table = learns and settings.learns_embedding
            table = None if left is None else _Table(left, right, first.exact, learns=learns_table)
            made = _Pass(settings, first, second, table)
            made.d_hidden = torch.empty_like(hidden, dtype=first.exact) if learns and ctx.needs_input_grad[0] else None
            made.run(hidden.to(dtype), labels, scales.to(first.exact))
            terms = made.finish(scales)
        gradients = [made.d_hidden, first.d_weight, first.d_bias]
        gradients += [None, None] if second is None else [second.d_weight, second.d_bias]
        gradients += [None, None] if table is None else [table.d_left, table.d_right]
        # Rounded to float16 here, they would lose what GradScaler's factor keeps: autograd rounds them after it.
        ctx.gradients = [
            None if d is None or value is None else d.to(first.exact if value.dtype == torch.float16 else value.dtype)
            for d, value in zip(gradients, arguments, strict=False)
        ]
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, total: Tensor | None, *terms: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.needs_input_grad[8] or any(gradient is not None for gradient in terms):
            raise RuntimeError("in chunks `total` alone has a gradient, and no weight gets one; set `impl='reference'`")
        # Not `once_differentiable`: it lets a second derivative pass as 0 where the gradient of the loss is a constant.
        if total is None or torch.is_grad_enabled() or ctx.gradients is None:
            raise RuntimeError("the chunked loss can be differentiated once, not twice; set `impl='reference'`")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(None if gradient is None else gradient.mul_(total) for gradient in gradients), *[None] * 4)


def label_embedding_terms(
    hidden: Tensor,
    labels: Tensor,
    scales: Tensor,
    first: tuple[Tensor, Tensor | None],
    second: tuple[Tensor, Tensor | None] | None,
    embedding: tuple[Tensor, Tensor | None] | None,
    settings: Settings,
) -> LabelEmbeddingTerms:
    """Computes the terms of `LabelEmbedding`, and without an embedding those of cross entropy with label smoothing.

    `total` alone can be differentiated, once. `scales` [N] are the factors of the examples' losses: 1 / N for a mean, 0
    for an ignored one; `first` and `second` weight [C, H] and bias [C] of o1 and o2; `embedding` E [C, C] and None, or
    A [C, K] and B [K, C].
    """
    run = _LabelEmbedding.apply
    if torch.compiler.is_compiling():
        run = torch.compiler.disable(run)  # type: ignore[no-untyped-call]  # its loops would become twenty graphs
    elif hidden.device.type == "cpu" and not scales.all():  # on a GPU this would wait
        counts = scales != 0
        hidden, labels, scales = hidden[counts], labels[counts], scales[counts]
    arguments = (hidden, *first, *(second or (None, None)), *(embedding or (None, None)))
    return LabelEmbeddingTerms(*run(*arguments, labels, scales, settings, torch.is_grad_enabled()))


def _distinct(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the distinct labels [u] of sorted labels [b], and the position of each of these among them [b]."""
    if labels.device.type != "cpu":
        return labels, torch.arange(len(labels), device=labels.device)
    names, places = torch.unique_consecutive(labels, return_inverse=True)
    return names, places


def _hits(z: Tensor, true: Tensor) -> Tensor:
    """Tells of which logits [n, C] the label [n, 1] is the argmax; on a CPU `argmax` takes eight times as long."""
    if z.device.type != "cpu":
        return z.argmax(dim=1) == true[:, 0]
    at_true = z.gather(1, true)
    others = z.scatter_(1, true, -torch.inf).amax(dim=1, keepdim=True)
    z.scatter_(1, true, at_true)
    hits, tied = (at_true > others)[:, 0], (at_true == others).nonzero()[:, 0]
    hits[tied] = z[tied].argmax(dim=1) == true[tied, 0]  # of equal ones the first
    return hits


def _logsumexp(highest: Tensor, soft: Tensor) -> Tensor:
    """Returns logsumexp [n] of logits from their maximum [n] and softmax [n, C], whose own maximum cannot vanish."""
    return highest - soft.amax(dim=1).log()
