"""What objectives remember moves once a step, in passes that are differentiated, and in no other."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from labelembed.seeds import generator, seeded

from .made_objectives import build

HIDDEN, LABELS, ROWS = 6, 4, 24
# Whose forward pass moves something, and whose does not.
MOVING = {
    "warm-up": ("label_embedding", {"target_warmup_steps": 2}),
    "online": ("online_label_smoothing", {"momentum": 0.8}),
    "online, sparse": ("online_label_smoothing", {"momentum": 0.8, "top_k": 2}),
    "online, published": ("online_label_smoothing", {"preset": "published"}),
    "centroids": ("adaptive_labels", {"repel_weight": 1.0}),
    "centroids, averaged": ("adaptive_labels", {"update": "moving_average", "momentum": 0.5}),
    "centroids, counted": ("adaptive_labels", {"update_every": 2, "warmup_steps": 1}),
    "retrospection": ("retrospection", {"num_rows": ROWS, "store_every": 1, "store": "steps"}),
}
STILL = {
    "one_hot": ("one_hot", {}),
    "reference": ("label_embedding", {"impl": "reference", "confidence_limit": 0.2}),
    "chunked": ("label_embedding", {"impl": "chunked", "confidence_limit": 0.2}),
    "compressed": ("label_embedding", {"embedding": "compressed", "rank": 3}),
    "centroids of an epoch": ("adaptive_labels", {"update": "epoch"}),
    "retrospection, in a pass": ("retrospection", {"num_rows": ROWS, "store_every": 2}),
}
CASES = MOVING | STILL


def made(case):
    """An objective at the beginning of an epoch in which it has something to remember, and its rows."""
    name, arguments = CASES[case]
    with seeded(0, case):
        objective = build(name, HIDDEN, LABELS, **arguments).double()
    hidden = 2 * torch.randn(ROWS, HIDDEN, generator=generator(0, "rows"), dtype=torch.float64)
    with torch.no_grad():  # half of the rows are predicted right
        labels = objective.output(hidden)[:, :LABELS].argmax(dim=1)
    labels[::2] = (labels[::2] + 1) % LABELS
    objective.begin_epoch(0, 4)
    return objective, (hidden.requires_grad_(), labels, torch.arange(ROWS))


def state_of(objective):
    return copy.deepcopy(objective.state_dict()), getattr(objective, "_steps", 0)


def total(objective, rows):
    return objective(*rows).total


def recomputed(objective, rows, use_reentrant):
    """The total of a pass that the backward pass computes a second time."""
    return checkpoint(lambda *values: total(objective, values), *rows, use_reentrant=use_reentrant)


def step(objective, rows, *, micro_batches=1, passes=lambda objective, rows: None, recompute=None):
    """Losses, gradients and state after a step, with other passes before each of its micro-batches."""
    parts = list(zip(*(values.tensor_split(micro_batches) for values in rows), strict=True))
    totals = []
    with objective.accumulate([part[1] for part in parts]) if micro_batches > 1 else nullcontext():
        for part in parts:
            passes(objective, part)
            totals.append(total(objective, part) if recompute is None else recomputed(objective, part, recompute))
            totals[-1].backward()
    hidden, gradients = rows[0], {name: value.grad for name, value in objective.named_parameters()}
    return totals, gradients, hidden.grad, state_of(objective)


def passes_that_are_not_trained_on(objective, rows):
    with torch.no_grad():
        objective(*rows)  # a probe in training mode
    objective.eval()
    objective(*(values[:5] for values in rows))  # an evaluation, of another number of rows
    objective.train()


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_probes_and_evaluations_change_neither_state_nor_step(case, micro_batches):
    plain, rows = made(case)
    expected = [step(plain, rows, micro_batches=micro_batches) for _ in range(3)]
    probed, rows = made(case)
    found = []
    for _ in range(3):
        before = state_of(probed)
        passes_that_are_not_trained_on(probed, rows)
        torch.testing.assert_close(state_of(probed), before, rtol=0, atol=0)
        found.append(step(probed, rows, micro_batches=micro_batches, passes=passes_that_are_not_trained_on))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", MOVING)
def test_a_step_moves_the_state_that_the_tests_look_at(case):
    objective, rows = made(case)
    before = state_of(objective)
    step(objective, rows)
    step(objective, rows)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(state_of(objective), before, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("case", STILL)
def test_activation_checkpointing_gives_the_same_step(case, micro_batches, use_reentrant):
    plain, rows = made(case)
    expected = step(plain, rows, micro_batches=micro_batches)
    again, rows = made(case)
    found = step(again, rows, micro_batches=micro_batches, recompute=use_reentrant)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("case", MOVING)
def test_activation_checkpointing_of_what_remembers_is_refused(case, use_reentrant):
    objective, rows = made(case)
    loss = recomputed(objective, rows, use_reentrant)
    state = state_of(objective)
    with pytest.raises(RuntimeError, match=f"computes {type(objective).__name__} a second time.*leave the objective"):
        loss.backward()
    torch.testing.assert_close(state_of(objective), state, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_encoder_alone_may_be_checkpointed(case, use_reentrant):
    def step_of(encode):
        objective, (inputs, labels, places) = made(case)
        objective(encode(inputs), labels, places).total.backward()
        return inputs.grad, state_of(objective)

    found = step_of(lambda inputs: checkpoint(torch.tanh, inputs, use_reentrant=use_reentrant))
    torch.testing.assert_close(found, step_of(torch.tanh), rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_micro_batch_that_is_computed_again_after_its_step_is_refused(use_reentrant):
    objective, rows = made("one_hot")
    parts = list(zip(*(values.tensor_split(3) for values in rows), strict=True))
    with objective.accumulate([labels for _, labels, _ in parts]):
        totals = [recomputed(objective, part, use_reentrant) for part in parts]
    with pytest.raises(RuntimeError, match="call `backward` in the block"):
        sum(totals).backward()
    # A step that is not one of micro-batches goes on as ever.
    recomputed(objective, rows, use_reentrant).backward()
