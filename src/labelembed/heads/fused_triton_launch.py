"""Starts the kernels of `fused_triton_kernels`; imported, as they are, only where one is about to run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from labelembed.heads import fused_triton_kernels as kernels


class Statistics(NamedTuple):
    """Of each row [c]: log of its normaliser, sum of its logits, logit of its label; how it stands softened.

    `softened` is the log of the normaliser of the logits over the temperature, `right` 1 where the label is the
    first of the highest, else 0; both None where nobody asked for them.
    """

    normaliser: Tensor
    sums: Tensor
    true: Tensor
    softened: Tensor | None
    right: Tensor | None


class Pieces(NamedTuple):
    """Rows that stand together because they share a soft target: rows ``starts[i]..ends[i]`` each [u]."""

    starts: Tensor
    ends: Tensor
    tile_rows: int


class Targets(NamedTuple):
    """The labels' rows of E, and where what they learn is to be written.

    Attributes:
        table: [.., C], of which row ``places[i]`` is that of piece i.
        places: [u] int64.
        normaliser: [u], log of the normaliser of those rows.
        slopes: [.., C] of the same places; None: nothing is written. May be `table` itself.
        adds: Whether to add to what stands in `slopes`.
        rectified: Whether the rows went through a relu, which lets nothing through where it holds 0.
    """

    table: Tensor
    places: Tensor
    normaliser: Tensor
    slopes: Tensor | None
    adds: bool
    rectified: bool


def _exact(dtype: torch.dtype) -> Any:
    return tl.float64 if dtype == torch.float64 else tl.float32


def row_statistics(
    logits: Tensor, labels: Tensor | None, *, like: Tensor, sharpness: Tensor | None, rows: Tensor | None = None
) -> Statistics:
    """Returns what is to be known of logits [c, C] before they are overwritten.

    Args:
        logits: [c, C], each row in one piece.
        labels: [c] int64; None: only the normalisers, the rest is without meaning.
        like: Of the type to compute in.
        sharpness: [1], 1 / temperature; None: `softened` and `right` are not asked for.
        rows: [c], which rows of `logits` are meant; None: all.
    """
    count, columns = len(logits if rows is None else rows), logits.shape[1]
    found = [like.new_empty(count if wanted else 0) for wanted in (True, *[labels is not None] * 2)]
    soft = [None, None] if sharpness is None else [like.new_empty(count) for _ in range(2)]
    if count:
        kernels.row_statistics_kernel[(count,)](
            logits,
            logits.stride(0),
            rows,
            labels,
            *found,
            *soft,
            sharpness,
            columns,
            EXACT=_exact(like.dtype),
            PICKS=rows is not None,
            LABELLED=labels is not None,
            TEACHES=sharpness is not None,
            COLUMNS=min(kernels.STATISTICS_COLUMNS, triton.next_power_of_2(columns)),
            num_warps=8,
            enable_fp_fusion=True,
        )
    return Statistics(*found, *soft)


def overwrite_by_slopes(
    logits: Tensor,
    labels: Tensor,
    known: Statistics,
    pieces: Pieces,
    targets: Targets | None,
    *,
    scales: Tensor,
    weights: Tensor,
    writes: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Overwrites logits [c, C] by their slopes where `writes`, and `targets.slopes` where it is there.

    Args:
        logits: [c, C], each row in one piece.
        labels: [c] int64.
        known: Of these logits; rows teach where it holds `softened`.
        pieces: That hold each row once.
        targets: The rows of E of the pieces; None: there are none, and nothing is taught.
        scales: [c], what a row counts for.
        weights: [5]: of the softmax, the label, softmax(e), an even share for each label; and 1 / temperature.
        writes: Whether the logits are overwritten.

    Returns:
        The sum of softmax(e) z over all rows, and that of t e over the rows that are right; None without targets,
        or where nothing is taught.
    """
    columns = logits.shape[1]
    width = min(kernels.SLOPES_COLUMNS, triton.next_power_of_2(columns))
    grid = len(pieces.starts), triton.cdiv(columns, width)
    teaches = targets is not None and known.softened is not None
    met = None if targets is None else weights.new_empty(grid)
    taught = weights.new_empty(grid) if teaches else None
    table, slopes = (None, None) if targets is None else (targets.table, targets.slopes)
    kernels.slopes_kernel[grid](
        logits,
        logits.stride(0),
        labels,
        known.normaliser,
        scales,
        weights,
        pieces.starts,
        pieces.ends,
        table,
        0 if table is None else table.stride(0),
        None if targets is None else targets.places,
        None if targets is None else targets.normaliser,
        known.softened,
        known.right,
        slopes,
        0 if slopes is None else slopes.stride(0),
        met,
        taught,
        columns,
        EXACT=_exact(weights.dtype),
        TARGETS=targets is not None,
        TEACHES=teaches,
        WRITES=writes,
        LEARNS=teaches and slopes is not None,
        ADDS=targets is not None and targets.adds,
        RECTIFIED=targets is not None and targets.rectified,
        ROWS=pieces.tile_rows,
        COLUMNS=width,
        num_warps=4 if pieces.tile_rows <= 2 else 8,
        enable_fp_fusion=True,
    )
    return (None if met is None else met.sum()), (None if taught is None else taught.sum())


def scale(values: Tensor, factor: Tensor) -> None:
    """Multiplies values in place by one number, without a wait to look at it, and without a pass where it is 1."""
    if values.is_sparse:
        values.mul_(factor)
    elif values.numel():
        width = 4096
        grid = (triton.cdiv(values.numel(), width),)
        kernels.scale_kernel[grid](values, factor, values.numel(), COLUMNS=width, num_warps=4, enable_fp_fusion=True)
