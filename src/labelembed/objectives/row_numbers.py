"""Row numbers: where the rows of a batch stand in the training set, for objectives that look each of them up."""

from __future__ import annotations

import torch
from torch import Tensor


def counted_row_numbers(
    rows: Tensor | None, labels: Tensor, *, num_rows: int, ignore_index: int | None, reason: str
) -> Tensor:
    """Returns the numbers [n] of the rows that count.

    Args:
        rows: [N] or [B, T], as the labels are.
        labels: [N] or [B, T].
        num_rows: R, rows of the training set.
        ignore_index: Rows with this label are left out, whatever their number; None: every row counts.
        reason: Why they are needed, for the message.

    Raises:
        ValueError: `rows` is None, of another shape than the labels, or a number is not in 0..R-1. Of rows on a GPU,
            which would have to be waited for, and in compiled code, which cannot look at values, the look-up itself
            is all the check.
    """
    if rows is None or rows.shape != labels.shape:
        found = None if rows is None else list(rows.shape)
        raise ValueError(f"`rows` must be {list(labels.shape)}, places in the training set, got {found}: {reason}")
    rows = rows.flatten()
    if ignore_index is not None:
        rows = rows[labels.flatten() != ignore_index]
    if rows.device.type == "cpu" and not torch.compiler.is_compiling() and rows.numel():
        first, last = int(rows.min()), int(rows.max())
        if first < 0 or last >= num_rows:
            wrong = first if first < 0 else last
            raise ValueError(f"`rows` must be in 0..{num_rows - 1}, the rows of the training set, got {wrong}")
    return rows
