"""Online label smoothing: terms, and the similarities it remembers, against the naive loops."""

from __future__ import annotations

import pytest
import torch

from labelembed.objectives import LabelSmoothing, OneHot, OnlineLabelSmoothing
from labelembed.objectives.soft_labels import SimilarityTable
from labelembed.seeds import generator

from .made_remembering import HIDDEN, LABELS, filled, make_rows
from .naive.remembering import NaiveOnlineLabelSmoothing, naive_sparse

torch.set_num_threads(1)

SMOOTHINGS = {
    "published": {"preset": "published"},
    "moving average": {"preset": "moving_average", "momentum": 0.9},
    "soft": {"temperature": 3.0, "similarity_weight": 0.6, "uniform_weight": 0.4},
    "forgetful": {"momentum": 0.0, "similarity_weight": 0.2, "uniform_weight": 0.1},
}


@pytest.mark.parametrize("setting", SMOOTHINGS)
@pytest.mark.parametrize("top_k", [None, LABELS])
def test_online_label_smoothing_equals_the_naive_loops_over_epochs(setting, top_k):
    objective = filled(OnlineLabelSmoothing, top_k=top_k, **SMOOTHINGS[setting])
    published = objective.momentum is None
    naive = NaiveOnlineLabelSmoothing(
        LABELS,
        similarity_weight=objective.similarity_weight,
        uniform_weight=objective.uniform_weight,
        temperature=objective.tau,
        momentum=objective.momentum,
    )
    for epoch in range(3):
        objective.start_epoch(epoch, 3, 10)
        for step in range(4):
            hidden, labels = make_rows(objective, seed=10 * epoch + step)
            logits = objective.logits(hidden).tolist()
            expected = naive.terms(logits, labels.tolist())
            terms = objective(hidden, labels)._asdict()
            if objective.uniform_weight == 0:
                expected["uniform"] = 0.0  # not computed where it has no part
            for name, value in terms.items():
                assert value.item() == pytest.approx(expected[name], abs=1e-10), (name, epoch, step)
            (naive.gather if published else naive.follow)(logits, labels.tolist())
        objective.end_epoch()
        naive.next_epoch() if published else None
        table = objective.similarities.whole()
        torch.testing.assert_close(table.tolist(), naive.table, rtol=0, atol=1e-12)
    assert not torch.allclose(table, torch.full_like(table, 1 / LABELS), atol=0.02)  # it has learned something


def test_similarity_target_has_no_gradient_and_the_rest_has_that_of_its_mixture():
    objective = filled(OnlineLabelSmoothing)
    objective.similarities.values.copy_(torch.rand(LABELS, LABELS).softmax(dim=1))
    hidden, labels = make_rows(objective)
    leaf = hidden.clone().requires_grad_()
    counts = labels >= 0
    target = (
        0.3 * torch.nn.functional.one_hot(labels[counts], LABELS).double()
        + 0.5 * objective.similarities.values[labels[counts]]
    )
    logits = objective.logits(leaf)[counts]
    expected = torch.nn.functional.cross_entropy(logits, target + 0.2 / LABELS)
    (wanted,) = torch.autograd.grad(expected, leaf)
    found = objective(leaf, labels).total
    found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(leaf.grad, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("weights", "other", "arguments"),
    [((0.0, 0.0), OneHot, {}), ((0.0, 0.3), LabelSmoothing, {"smoothing": 0.3})],
)
def test_without_similarity_it_is_one_hot_or_label_smoothing(weights, other, arguments):
    objective = filled(OnlineLabelSmoothing, similarity_weight=weights[0], uniform_weight=weights[1])
    plain = other(HIDDEN, LABELS, **arguments).double()
    plain.output.load_state_dict(objective.output.state_dict())
    hidden, labels = make_rows(objective)
    assert objective(hidden, labels).total.item() == pytest.approx(plain(hidden, labels).total.item(), abs=1e-12)


@pytest.mark.parametrize("momentum", [0.9, None])
@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_sparse_table_keeps_the_largest_entries_of_the_dense_one(momentum, top_k):
    """One step from uniform, which sparse rows hold exactly."""
    source = generator(0, "table")
    said = torch.randn(40, 7, generator=source).double().softmax(dim=1)
    labels = torch.randint(6, (40,), generator=source)
    right = torch.rand(40, generator=source) < 0.7
    tables = [SimilarityTable(7, top_k=k).double() for k in (None, top_k)]
    for table in tables:
        table.values.fill_(1 / 7)
        table.update(said, labels, right, momentum=momentum)
    whole, kept = (table.whole() for table in tables)
    expected = [naive_sparse(row, top_k) for row in whole.tolist()]
    torch.testing.assert_close(kept.tolist()[:6], expected[:6], rtol=0, atol=1e-12)
    torch.testing.assert_close(kept.sum(dim=1), torch.ones(7).double())
    assert torch.equal(tables[0].seen, tables[1].seen)
    assert int(tables[0].seen.sum()) == int(right.sum())


def test_table_of_fifty_thousand_labels_takes_less_than_a_hundred_mebibytes():
    objective = OnlineLabelSmoothing(2, 50_000, preset="published")
    size = sum(buffer.numel() * buffer.element_size() for buffer in objective.buffers())
    assert objective.similarities.sparse
    assert size < 100 * 2**20
    labels = torch.tensor([3, 49_999, 3])
    objective.start_epoch(0, 2, 10)
    terms = objective(torch.randn(3, 2), labels)
    terms.total.backward()
    assert terms.similarity.item() == pytest.approx(terms.total.item() * 2 - terms.output.item(), rel=1e-5)


def test_geometry_of_online_smoothing_trains_as_it_did():
    objective = filled(OnlineLabelSmoothing, dtype=torch.float32)
    for step in range(5):
        hidden, labels = make_rows(objective.double(), seed=step)
        objective.float()(hidden.float(), labels)
    geometry = objective.label_geometry()
    torch.testing.assert_close(geometry.soft_targets(), objective.similarities.whole(), rtol=1e-5, atol=1e-6)


def test_an_epoch_of_the_published_form_must_be_ended_and_may_be_started_again():
    objective = filled(OnlineLabelSmoothing, preset="published")
    objective.start_epoch(0, 3, 10)
    objective.start_epoch(0, 3, 10)  # started again, as after an interruption
    with pytest.raises(RuntimeError, match=r"epoch 0 was never ended, .* call objective\.end_epoch\(\)"):
        objective.start_epoch(1, 3, 10)
    objective.end_epoch()
    objective.start_epoch(1, 3, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity_weight": 0.7, "uniform_weight": 0.4}, "must add up to at most 1, got 1.1"),
        ({"similarity_weight": -0.1}, "`similarity_weight` must be in"),
        ({"momentum": 1.5}, "`momentum` must be in"),
        ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0"),
        ({"top_k": 0}, "`top_k` must be >= 1"),
        ({"preset": "publishd"}, "did you mean 'published'"),
    ],
)
def test_bad_arguments_of_online_smoothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OnlineLabelSmoothing(4, 3, **arguments)
