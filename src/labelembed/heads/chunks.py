"""What the chunked heads share: how many rows at a time, memory that is kept, and an output layer in chunks."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from labelembed.heads.terms import full_precision

# To fold one chunk into the weight's gradient reads and writes all of that gradient: so dear, in the time of the
# product itself, that a chunk of 128 rows costs a third more, one of 512 a twelfth.
FEWEST_ROWS = 512
# Of few labels more rows go into a chunk, as long as their logits fit a processor's last cache.
CHUNK_BYTES = 16 * 2**20
# Of very many labels fewer rows do, for each of some buffers would take more than this: 131,072 labels still have 512
# rows. An accelerator, whose memory is slow beside its products, pays more for the folds of small chunks.
MOST_BYTES = 2**28
MOST_BYTES_OF_ACCELERATOR = 2**31
LEAST_ROWS = 32
# The rows that elementwise work is done on at a time, at most: of a chunk a quarter, and of many labels fewer, for four
# times that memory is worked in.
BLOCK_ROWS = 128
BLOCK_BYTES = 6 * 2**20
FEWEST_BLOCK_ROWS = 16

_kept = threading.local()


def default_chunk_rows(num_labels: int, *, device: str = "cpu") -> int:
    """Returns how many rows' logits over so many labels are held at a time on a type of device."""
    most = MOST_BYTES if device == "cpu" else MOST_BYTES_OF_ACCELERATOR
    usual = max(FEWEST_ROWS, CHUNK_BYTES // (4 * num_labels))
    return min(usual, max(LEAST_ROWS, most // (4 * num_labels)))


def block_rows(chunk_rows: int, num_labels: int) -> int:
    """Returns how many rows elementwise work is done on at a time."""
    fit = max(FEWEST_BLOCK_ROWS, BLOCK_BYTES // (4 * num_labels))
    return min(BLOCK_ROWS, -(-chunk_rows // 4), fit)


def scratch(name: str, rows: int, columns: int, *, like: Tensor) -> Tensor:
    """Returns memory [rows, columns] with anything in it, of the type and on the device of `like`.

    On a CPU it is kept for the next step, one for each name and thread: the system takes large blocks back, and hands
    each page out anew at the price of several passes over it. A GPU's own allocator keeps what it is given back.
    """
    if like.device.type != "cpu":
        return like.new_empty(rows, columns)
    buffers: dict[tuple[str, torch.dtype], Tensor] = _kept.__dict__.setdefault("buffers", {})
    found = buffers.get((name, like.dtype))
    if found is None or found.numel() < rows * columns:
        buffers.pop((name, like.dtype), None)  # the smaller one goes before the larger one comes
        found = None
        with torch.inference_mode(False):  # or it could not be written to where gradients are on
            found = buffers[name, like.dtype] = torch.empty(rows * columns, dtype=like.dtype)
    return found[: rows * columns].view(rows, columns)


def release_scratch() -> None:
    """Gives back the memory that the chunked heads keep for this thread's next step."""
    _kept.__dict__.clear()


def compute_dtype(hidden: Tensor) -> torch.dtype:
    """Returns the type of the products with the output layer: autocast's where it is on, or that of the rows."""
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return hidden.dtype


class LinearChunks:
    """An output layer over chunks of rows: their logits, and the gradients of its weight and bias as they add up.

    Sums are kept in float32 (float64) whatever the type of the products.

    Args:
        weight: [C, H].
        bias: [C] or None.
        dtype: Of the products.
        learns: Whether gradients of the weight and of the bias are wanted.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype, learns: tuple[bool, bool]) -> None:
        self.weight = weight.to(dtype)
        self.exact = exact = full_precision(weight.new_empty(0, dtype=dtype)).dtype
        self.low = exact != dtype
        self.bias = None if bias is None else bias.to(exact)
        self.d_weight = torch.empty(weight.shape, dtype=exact, device=weight.device) if learns[0] else None
        self.d_bias = torch.zeros_like(self.bias) if learns[1] and self.bias is not None else None
        self._begun = False

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """Writes the logits [c, C] of hidden rows [c, H] to `out`."""
        if self.low:
            out.copy_(hidden @ self.weight.T)
            return out if self.bias is None else out.add_(self.bias)
        if self.bias is None:
            return torch.mm(hidden, self.weight.T, out=out)
        return torch.addmm(self.bias, hidden, self.weight.T, out=out)

    def logit(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Returns one logit [c] for each row, of the label [c] that goes with it."""
        found = full_precision(hidden * self.weight[labels]).sum(dim=1)
        return found if self.bias is None else found + self.bias[labels]

    def fold(self, slopes: Tensor, hidden: Tensor, scale: Tensor) -> None:
        """Adds the part of some rows, where the loss changes by ``scale[i] * slopes[i]`` with the logits of row i.

        To scale the hidden rows instead of the logits' slopes is as good, and H is the smaller.
        """
        if self.d_bias is not None:
            self.d_bias.addmv_(slopes.T, scale)
        if self.d_weight is None:
            return
        if self.low:  # scaled to at most 1, or a share of many rows would vanish in float16
            peak = scale.abs().amax().clamp_min(torch.finfo(scale.dtype).tiny)
            part = slopes.to(hidden.dtype).T @ (hidden * (scale / peak)[:, None].to(hidden.dtype))
            if not self._begun:
                self.d_weight.zero_()
            self.d_weight.addcmul_(part, peak)  # of both types at once: no copy of the part in the longer one
        else:
            self.d_weight.addmm_(slopes.T, hidden * scale[:, None], beta=1 if self._begun else 0)
        self._begun = True

    def back(self, slopes: Tensor, out: Tensor) -> None:
        """Writes what the slopes [c, C] are to the hidden rows, [c, H], to `out`."""
        if self.low:
            out.copy_(slopes.to(self.weight.dtype) @ self.weight)
        else:
            torch.mm(slopes, self.weight, out=out)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Returns the gradients of weight and bias, None where they are not wanted."""
        if self.d_weight is not None and not self._begun:
            self.d_weight.zero_()
        return self.d_weight, self.d_bias


class EvenShare:
    """A share of the target that is spread evenly over all labels, without a number for each row and label.

    ``CE(1/C, z) = logsumexp(z) - mean(z)``, and the mean of a row's logits is linear in the row.

    Args:
        layer: The output layer.
        hidden: [n, H], all rows.
        num_labels: C, where the layer has a part of the labels only: means and gradients are then its part of them.
    """

    def __init__(self, layer: LinearChunks, hidden: Tensor, *, num_labels: int | None = None) -> None:
        self.layer = layer
        self.count = hidden.shape[0]
        self.num_labels = num_labels or layer.weight.shape[0]
        self.rows_sum = hidden.sum(dim=0, dtype=full_precision(hidden).dtype)
        self.mean_weight = layer.weight.sum(dim=0, dtype=self.rows_sum.dtype) / self.num_labels

    def mean_logits(self) -> Tensor:
        """Returns the sum over the rows of the mean over the labels of the logits."""
        found = torch.dot(self.mean_weight, self.rows_sum)
        return found if self.layer.bias is None else found + self.layer.bias.sum() * (self.count / self.num_labels)

    def fold(self, scale: float, d_hidden: Tensor | None) -> None:
        """Adds the part of ``-scale * mean_logits()`` to the gradients, those of the rows [n, H] among them."""
        d_weight, d_bias = self.layer.gradients()
        each = -scale / self.num_labels
        if d_weight is not None:
            d_weight.add_(self.rows_sum, alpha=each)
        if d_bias is not None:
            d_bias.add_(each * self.count)
        if d_hidden is not None:
            d_hidden.add_(self.mean_weight, alpha=-scale)


def log_normalisers_of(shares: Tensor, values: Tensor, layer: LinearChunks, hidden: Tensor) -> Tensor:
    """Returns logsumexp [c, 1] of logits that are overwritten already, from one label's softmax and logit in each row.

    Where that softmax has vanished the row's logits are made anew.

    Args:
        shares: [c, 1], of a label for each row its softmax.
        values: [c, 1], its logits.
        layer: Where the logits came from.
        hidden: [c, H], the rows they came from.
    """
    found = values - shares.log()
    small = shares.squeeze(1) < torch.finfo(shares.dtype).tiny * 1e6
    if bool(small.any()):
        rows = small.nonzero().squeeze(1)
        logits = layer.logits(hidden[rows], out=shares.new_empty(len(rows), layer.weight.shape[0]))
        found[rows] = torch.logsumexp(logits, dim=1, keepdim=True)
    return found


def log_normalisers(soft: Tensor, at: Tensor, values: Tensor, layer: LinearChunks, hidden: Tensor) -> Tensor:
    """Returns logsumexp [c, 1] of logits that are overwritten by their softmax already.

    That of one label and its logit are enough, unless it has vanished; then those of the most probable label.

    Args:
        soft: [c, C], the softmax.
        at: [c, 1], a label for each row.
        values: [c, 1], its logits.
        layer: Where the logits came from.
        hidden: [c, H], the rows they came from.
    """
    shares = soft.gather(1, at)
    small = shares.squeeze(1) < torch.finfo(shares.dtype).tiny * 1e6
    if bool(small.any()):
        rows = small.nonzero().squeeze(1)
        best = soft[rows].argmax(dim=1)
        values, shares = values.clone(), shares.clone()
        values[rows, 0] = layer.logit(hidden[rows], best)
        shares[rows, 0] = soft[rows, best]
    return values - shares.log()
