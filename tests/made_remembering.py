"""Objectives that remember, away from their start, and rows for them."""

from __future__ import annotations

import torch

from labelembed.objectives import OnlineLabelSmoothing
from labelembed.seeds import generator, seeded

HIDDEN, LABELS = 4, 5


def filled(kind, *, dtype=torch.float64, **arguments):
    with seeded(0, "objective"):
        objective = kind(HIDDEN, LABELS, **arguments).to(dtype)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
    if kind is OnlineLabelSmoothing:  # uniform to the last digit of float64
        for table in filter(None, (objective.similarities, objective.gathering)):
            table.values.fill_(1 / LABELS)
    return objective


def make_rows(objective, count=13, *, seed=0, ignored=True):
    source = generator(seed, "rows")
    hidden = torch.randn(count, HIDDEN, generator=source, dtype=torch.float64)
    with torch.no_grad():
        labels = objective.logits(hidden).argmax(dim=1)
    labels[3::4] = (labels[3::4] + 1) % (LABELS - 1)
    if ignored:
        labels[::5] = -100
    return hidden, labels
