"""The elementwise work of the heads on a GPU, as three Triton kernels; `fused_triton_launch` starts them.

Each reads a number of low precision once, works in float32 (float64 for float64), and rounds once as it writes.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Columns at a time of a row whose sums are taken, and of the rows of a label that are overwritten.
STATISTICS_COLUMNS = 2048
SLOPES_COLUMNS = 1024
# The most rows of a label at a time.
MOST_TILE_ROWS = 8


@triton.jit
def row_statistics_kernel(
    logits: tl.tensor,
    stride: tl.tensor,
    picked: tl.tensor,
    labels: tl.tensor,
    normaliser: tl.tensor,
    sums: tl.tensor,
    true: tl.tensor,
    softened: tl.tensor,
    right: tl.tensor,
    sharpness: tl.tensor,  # one number: 1 / temperature
    columns: tl.tensor,
    EXACT: tl.constexpr,  # noqa: N803 - constants of a kernel are written so
    PICKS: tl.constexpr,  # noqa: N803
    LABELLED: tl.constexpr,  # noqa: N803
    TEACHES: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """Takes the sums of one row in one pass; each lane keeps its own until the end."""
    row = tl.program_id(0)
    begin = logits + (tl.load(picked + row) if PICKS else row.to(tl.int64)) * stride
    lane = tl.arange(0, COLUMNS)
    # Not -inf: the difference of two of them is no number.
    highest = tl.full([COLUMNS], -1e30, EXACT)
    total = tl.zeros([COLUMNS], EXACT)
    plain = tl.zeros([COLUMNS], EXACT)
    soft = tl.zeros([COLUMNS], EXACT)
    higher = tl.zeros([COLUMNS], tl.int32)
    if LABELLED:
        label = tl.load(labels + row)
        at_label = tl.load(begin + label).to(EXACT)
    if TEACHES:
        sharp = tl.load(sharpness)
    for first in range(0, columns, COLUMNS):
        column = first + lane
        inside = column < columns
        value = tl.load(begin + column, mask=inside, other=float("-inf")).to(EXACT)
        top = tl.maximum(highest, value)
        total = total * tl.exp(highest - top) + tl.exp(value - top)
        if TEACHES:
            below = tl.where(inside, value - top, 0.0)  # for outside -inf times a sharpness of 0 is no number
            softer = tl.where(inside, tl.exp(below * sharp), 0.0)
            soft = soft * tl.exp((highest - top) * sharp) + softer
            # Of equal logits the first one counts.
            before = (column < label) & (value >= at_label)
            after = (column > label) & (value > at_label)
            higher = higher | (before | after).to(tl.int32)
        if LABELLED:
            plain += tl.where(inside, value, 0.0)
        highest = top
    best = tl.max(highest, axis=0)
    tl.store(normaliser + row, best + tl.log(tl.sum(total * tl.exp(highest - best), axis=0)))
    if LABELLED:
        tl.store(sums + row, tl.sum(plain, axis=0))
        tl.store(true + row, at_label)
    if TEACHES:
        found = tl.sum(soft * tl.exp((highest - best) * sharp), axis=0)
        tl.store(softened + row, best * sharp + tl.log(found))
        tl.store(right + row, (tl.max(higher, axis=0) == 0).to(EXACT))


@triton.jit
def slopes_kernel(
    logits: tl.tensor,
    stride: tl.tensor,
    labels: tl.tensor,
    normaliser: tl.tensor,
    scales: tl.tensor,
    weights: tl.tensor,  # five numbers: of p, of the label, of softmax(e), of an even share, 1 / temperature
    starts: tl.tensor,
    ends: tl.tensor,
    table: tl.tensor,
    table_stride: tl.tensor,
    places: tl.tensor,
    table_normaliser: tl.tensor,
    softened: tl.tensor,
    right: tl.tensor,
    slopes: tl.tensor,
    slopes_stride: tl.tensor,
    met: tl.tensor,
    taught: tl.tensor,
    columns: tl.tensor,
    EXACT: tl.constexpr,  # noqa: N803
    TARGETS: tl.constexpr,  # noqa: N803
    TEACHES: tl.constexpr,  # noqa: N803
    WRITES: tl.constexpr,  # noqa: N803
    LEARNS: tl.constexpr,  # noqa: N803
    ADDS: tl.constexpr,  # noqa: N803
    RECTIFIED: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """Overwrites some columns of the rows of one piece by what they change the loss by.

    With the softmax p of a row: ``scale (w0 p - w1 onehot - w2 softmax(e) - w3)``. `met` gets the sum over the rows of
    softmax(e) z, `taught` that of t e over the rows that are right, with t the softened softmax; `slopes` gets
    softmax(e) - t summed up over them.
    """
    piece = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    start = tl.load(starts + piece)
    end = tl.load(ends + piece)
    even = tl.load(weights + 3)
    for_softmax = tl.load(weights)
    for_label = tl.load(weights + 1)
    drift = tl.zeros([COLUMNS], EXACT) + even
    if TARGETS:
        place = tl.load(places + piece)
        entry = tl.load(table + place * table_stride + column, mask=inside, other=0.0).to(EXACT)
        target = tl.where(inside, tl.exp(entry - tl.load(table_normaliser + piece)), 0.0)
        drift += tl.load(weights + 2) * target
        seen = tl.zeros([COLUMNS], EXACT)
    if TEACHES:
        sharp = tl.load(weights + 4)
        learned = tl.zeros([COLUMNS], EXACT)
        count = tl.zeros([ROWS], EXACT)
    for first in range(start, end, ROWS):
        row = first + tl.arange(0, ROWS)
        live = row < end
        both = live[:, None] & inside[None, :]
        at = logits + row[:, None].to(tl.int64) * stride + column[None, :]
        value = tl.load(at, mask=both, other=0.0).to(EXACT)
        if TARGETS:
            seen += tl.sum(value, axis=0)
        if TEACHES:
            is_right = tl.load(right + row, mask=live, other=0.0)
            soft_normaliser = tl.load(softened + row, mask=live, other=0.0)
            soft = tl.exp(value * sharp - soft_normaliser[:, None])
            learned += tl.sum(tl.where(both, soft * is_right[:, None], 0.0), axis=0)
            count += is_right
        if WRITES:
            label = tl.load(labels + row, mask=live, other=-1)
            scale = tl.load(scales + row, mask=live, other=0.0)
            of_row = tl.load(normaliser + row, mask=live, other=0.0)
            slope = for_softmax * tl.exp(value - of_row[:, None]) - drift[None, :]
            slope -= tl.where(column[None, :] == label[:, None], for_label, 0.0)
            tl.store(at, (slope * scale[:, None]).to(logits.dtype.element_ty), mask=both)
    part = piece.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    if TARGETS:
        tl.store(met + part, tl.sum(seen * target, axis=0))
    if TEACHES:
        tl.store(taught + part, tl.sum(learned * entry, axis=0))
        if LEARNS:
            learning = tl.sum(count, axis=0) * target - learned
            if RECTIFIED:
                learning = tl.where(entry > 0.0, learning, 0.0)
            goal = slopes + place * slopes_stride + column
            if ADDS:
                learning += tl.load(goal, mask=inside, other=0.0).to(EXACT)
            tl.debug_barrier()  # `slopes` may be `table`, which all of this program must have read
            tl.store(goal, learning.to(slopes.dtype.element_ty), mask=inside)


@triton.jit
def scale_kernel(values: tl.tensor, factor: tl.tensor, count: tl.tensor, COLUMNS: tl.constexpr) -> None:  # noqa: N803
    """Multiplies by a number that is nearly always 1: then nothing is read but that."""
    number = tl.load(factor)
    if number != 1.0:
        at = values + tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        inside = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS) < count
        value = tl.load(at, mask=inside, other=0.0)
        tl.store(at, (value.to(number.dtype) * number).to(values.dtype.element_ty), mask=inside)
