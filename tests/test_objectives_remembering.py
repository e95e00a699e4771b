"""Online label smoothing and retrospection: terms and what they remember, against the naive loops."""

from __future__ import annotations

import copy

import pytest
import torch

from labelembed.errors import RunFolderError
from labelembed.heads.soft_rows import SparseRows, dense, entropy, soft_cross_entropy, sparse
from labelembed.objectives import LabelSmoothing, OneHot, OnlineLabelSmoothing, Retrospection
from labelembed.objectives.similarity_table import SimilarityTable
from labelembed.objectives.soft_label_store import SoftLabelStore, bytes_needed
from labelembed.seeds import generator, seeded

from .naive.remembering import NaiveOnlineLabelSmoothing, naive_retrospection_terms, naive_sparse

torch.set_num_threads(1)
HIDDEN, LABELS, ROWS = 4, 5, 60


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


# --------------------------------------------------------------------------------------------- online label smoothing

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
        temperature=objective.temperature,
        momentum=objective.momentum,
    )
    for epoch in range(3):
        objective.begin_epoch(epoch, 3)
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
        0.2 * torch.nn.functional.one_hot(labels[counts], LABELS).double()
        + 0.5 * objective.similarities.values[labels[counts]]
    )
    logits = objective.logits(leaf)[counts]
    expected = torch.nn.functional.cross_entropy(logits, target + 0.3 / LABELS)
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


def test_evaluation_leaves_the_similarities_alone():
    objective = filled(OnlineLabelSmoothing).eval()
    before = copy.deepcopy(objective.state_dict())
    objective(*make_rows(objective))
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


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
        table.absorb(said, labels, right, momentum=momentum)
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


# ------------------------------------------------------------------------------------------------------- sparse rows


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_sparse_rows_have_the_cross_entropy_and_entropy_of_their_dense_form(k):
    source = generator(0, "sparse")
    soft = torch.randn(6, 8, generator=source).double().softmax(dim=1)
    log_probabilities = torch.randn(6, 8, generator=source).double().log_softmax(dim=1)
    rows = sparse(soft, k)
    whole = torch.tensor([naive_sparse(row, k) for row in soft.tolist()], dtype=torch.float64)
    torch.testing.assert_close(dense(rows, 8), whole, rtol=0, atol=1e-14)
    expected = -(whole * log_probabilities).sum(dim=1)
    torch.testing.assert_close(soft_cross_entropy(rows, log_probabilities), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(entropy(rows, 8), -(whole * whole.log()).sum(dim=1), rtol=0, atol=1e-13)


def test_entropy_of_a_sure_row_is_zero():
    sure = SparseRows(torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64))
    assert entropy(sure, 4).item() == 0
    assert entropy(torch.tensor([[0.0, 1.0]]), 2).item() == 0


# ------------------------------------------------------------------------------------------------------ retrospection


def train_epochs(objective, epochs, *, of):
    """Trains nothing, but shows every row once an epoch as the loop does; returns the terms of the last batch."""
    hidden, labels = make_rows(objective, ROWS)
    terms = None
    for epoch in range(epochs):
        objective.train().begin_epoch(epoch, of)
        for rows in torch.randperm(ROWS, generator=generator(epoch, "order")).split(25):
            terms = objective(hidden[rows], labels[rows], rows)
        objective.end_epoch()
        if objective.needs_training_pass():
            objective.eval().begin_pass()
            for rows in torch.arange(ROWS).split(40):
                objective.observe(hidden[rows], labels[rows], rows)
            objective.end_pass()
    return hidden, labels, terms


@pytest.mark.parametrize("store", ["pass", "steps"])
@pytest.mark.parametrize("top_k", [None, 2])
def test_retrospection_equals_the_naive_loops(store, top_k):
    objective = filled(Retrospection, num_rows=ROWS, store_every=2, store=store, top_k=top_k)
    hidden, labels, last = train_epochs(objective, 2, of=10)
    assert last.total.item() == last.output.item()  # one-hot until soft labels are stored
    soft = (objective.logits(hidden) / 5).softmax(dim=1).tolist()
    soft = [naive_sparse(row, top_k or LABELS) for row in soft]
    with torch.no_grad():
        objective.output.weight.normal_()
    objective.train().begin_epoch(2, 10)
    rows = torch.randperm(ROWS)[:20]
    terms = objective(hidden[rows], labels[rows], rows)._asdict()
    logits = objective.logits(hidden[rows]).tolist()
    expected = naive_retrospection_terms(logits, labels[rows].tolist(), [soft[int(r)] for r in rows], weight=0.9 * 0.3)
    for name, value in terms.items():
        # Stored in float16: 2^-11 of each entry.
        assert value.item() == pytest.approx(expected[name], abs=2e-3), name
    assert terms["retrospection"].item() > 0.01


def test_retrospection_from_what_is_stored_is_exact():
    objective = filled(Retrospection, num_rows=ROWS, store_every=1)
    hidden, labels, _ = train_epochs(objective, 1, of=4)
    stored = objective.store.rows(torch.arange(ROWS)).double()
    objective.train().begin_epoch(1, 4)
    leaf = hidden.clone().requires_grad_()
    terms = objective(leaf, labels, torch.arange(ROWS))
    logits = objective.logits(hidden).tolist()
    expected = naive_retrospection_terms(logits, labels.tolist(), stored.tolist(), weight=0.9 * 2 / 4)
    for name, value in terms._asdict().items():
        assert value.item() == pytest.approx(expected[name], abs=1e-10), name
    terms.total.backward()
    counts = labels >= 0
    other = hidden.clone().requires_grad_()
    logits = objective.logits(other)[counts]
    mixed = 0.55 * torch.nn.functional.one_hot(labels[counts], LABELS) + 0.45 * stored[counts]
    (wanted,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, mixed, reduction="none").mean(), other)
    # float16 rows add up to 1 within 1e-3; cross entropy's gradient of such rows differs by as little.
    torch.testing.assert_close(leaf.grad, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("epochs", range(1, 8))
def test_rows_are_stored_after_every_third_epoch(epochs):
    objective = filled(Retrospection, num_rows=ROWS, store_every=3)
    train_epochs(objective, epochs, of=10)
    assert objective.store.generations == int(objective.store.generation) == epochs // 3
    assert objective.store.filled == (epochs >= 3)


def test_rows_that_are_ignored_are_not_stored_and_the_geometry_is_of_the_others():
    objective = filled(Retrospection, num_rows=ROWS, store_every=1)
    hidden, labels, _ = train_epochs(objective, 1, of=4)
    assert torch.equal(objective.row_labels.long(), torch.where(labels >= 0, labels, -1))
    soft = (objective.logits(hidden) / 5).softmax(dim=1)
    expected = torch.stack([soft[labels == c].mean(dim=0) for c in labels[labels >= 0].unique()])
    found = objective.label_geometry().vectors[labels[labels >= 0].unique()].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_a_state_dict_carries_what_is_stored():
    first = filled(Retrospection, num_rows=ROWS, store_every=1, top_k=3)
    hidden, labels, _ = train_epochs(first, 1, of=4)
    second = Retrospection(HIDDEN, LABELS, num_rows=ROWS, store_every=1, top_k=3).double()
    second.load_state_dict(first.state_dict())
    for objective in (first, second):
        objective.train().begin_epoch(1, 4)
    rows = torch.arange(ROWS)
    assert torch.equal(first(hidden, labels, rows).total, second(hidden, labels, rows).total)


def test_files_hold_what_memory_holds_and_the_last_two_stay(tmp_path):
    in_memory = filled(Retrospection, num_rows=ROWS, store_every=1, top_k=3)
    on_disk = filled(Retrospection, num_rows=ROWS, store_every=1, top_k=3, storage="disk", store_folder=tmp_path)
    for objective in (in_memory, on_disk):
        hidden, labels, last = train_epochs(objective, 4, of=9)
        assert last.retrospection.item() > 0
    rows = torch.arange(ROWS)
    expected = in_memory.train()(hidden, labels, rows).total
    assert torch.equal(on_disk.train()(hidden, labels, rows).total, expected)
    assert on_disk.needs_checkpoint()
    assert not in_memory.needs_checkpoint()
    assert sorted({path.stem for path in tmp_path.iterdir()}) == ["soft-labels-0-3", "soft-labels-0-4"]
    assert not any("store.values" in name for name in on_disk.state_dict())

    again = filled(Retrospection, num_rows=ROWS, store_every=1, top_k=3, storage="disk", store_folder=tmp_path)
    again.load_state_dict(on_disk.state_dict())
    again.train().begin_epoch(3, 9)
    assert torch.equal(again(hidden, labels, rows).total, expected)
    (tmp_path / "soft-labels-0-4.values").write_bytes(b"short")
    again.load_state_dict(on_disk.state_dict())
    with pytest.raises(RunFolderError, match=r"soft-labels-0-4\.values: missing or cut short"):
        again(hidden, labels, rows)


def test_store_of_a_million_rows_and_a_thousand_labels_is_possible():
    assert bytes_needed(1_200_000, 1_000) == 1_200_000 * 32 * 4  # 154 MB
    assert bytes_needed(1_200_000, 1_000, top_k=1_000) == 2_400_000_000
    store = SoftLabelStore(1_000, 1_000)
    held = sum(buffer.numel() * buffer.element_size() for name, buffer in store.named_buffers() if name != "generation")
    assert held == bytes_needed(1_000, 1_000)


def test_rows_are_asked_for_only_where_they_are_needed():
    objective = filled(Retrospection, num_rows=ROWS, store_every=1)
    hidden, labels = make_rows(objective)
    assert objective(hidden, labels).total.isfinite()  # before anything is stored
    train_epochs(objective, 1, of=4)
    objective.eval()
    assert objective(hidden, labels).retrospection.item() == 0
    objective.train()
    with pytest.raises(ValueError, match=r"`rows` must be \[13\].* got None: Retrospection remembers every row"):
        objective(hidden, labels)
    with pytest.raises(ValueError, match=r"`rows` must be in 0 to 59, for `num_rows` is 60, got 0 to 60"):
        objective(hidden, labels, torch.arange(13) * 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_rows": -1}, "`num_rows` must be >= 0"),
        ({"store_every": 0}, "`store_every` must be >= 1, got 0"),
        ({"temperature": -5.0}, "`temperature` must be > 0"),
        ({"final_weight": 1.2}, r"`final_weight` must be in \[0, 1\]"),
        ({"store": "steps", "storage": "disk"}, "`store` must be 'pass' with storage 'disk'"),
        ({"storage": "disc"}, "did you mean 'disk'"),
    ],
)
def test_bad_arguments_of_retrospection_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Retrospection(4, 3, **arguments)
