"""Options of the label-embedding head: a share of the rows, o2 in bfloat16, row-sparse gradients of E."""

from __future__ import annotations

import math

import pytest
import torch

from labelembed.heads import label_embedding_cross_entropy, offset_of_step
from labelembed.heads.sampling import sampled_rows
from labelembed.objectives import LabelEmbedding
from labelembed.seeds import seeded

from .made_heads import made_tensors, run_head, settings
from .naive.chunked_head import naive_head_terms
from .naive.cross_entropy import naive_linear
from .naive.label_embedding import naive_compressed_row
from .naive.sampling import naive_sampled_rows, naive_sampled_terms

torch.set_num_threads(1)
# Float64 sums of some hundred numbers near 1, in another order.
TOLERANCE = 1e-10
IMPLEMENTATIONS = ("reference", "closed_form", "chunked")
OF_SECOND = ("auxiliary_weight", "auxiliary_bias")
CASES = {
    "separate": {},
    "shared": {"shared": True},
    "summed squared hinge": {"hinge_norm": 2, "hinge_reduction": "sum", "uniform_weight": 0.2},
}


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25, 0.3, 0.07])
@pytest.mark.parametrize("offset", [0.0, 0.25, 0.61, 0.99])
def test_sample_is_that_of_the_naive_loops(fraction, offset):
    for count in (0, 1, 7, 40, 101):
        labels = torch.randint(5, (count,), generator=torch.Generator().manual_seed(count))
        found = sampled_rows(labels, fraction, offset).tolist()
        assert found == naive_sampled_rows(labels.tolist(), fraction, offset)


def test_every_label_has_its_share_and_every_row_its_chance():
    labels = torch.tensor([7] * 12 + [2] * 5 + [4] * 8 + [0])
    taken = torch.zeros(len(labels))
    for quarter in range(4):
        rows = sampled_rows(labels, 0.25, quarter / 4)
        taken[rows] += 1
        counts = labels[rows].bincount(minlength=8)
        assert counts[7] == 3
        assert counts[4] == 2
        assert counts[2] in (1, 2)
    assert torch.equal(taken, torch.ones(len(labels)))


def test_offsets_of_many_steps_lie_evenly():
    offsets = sorted(offset_of_step(step) for step in range(100))
    assert offsets[0] == 0
    gaps = [after - before for before, after in zip(offsets, [*offsets[1:], 1.0], strict=True)]
    assert min(gaps) > 0.003
    assert max(gaps) < 0.02


def naive_sampled_head(tensors, labels, given, kind):
    """Returns the terms of the naive loops: all rows where the network learns, a sample where o2 and E do."""
    names = (("weight", "bias"), ("weight", "bias") if given.shared else OF_SECOND)
    layers = [[tensors[name].tolist() for name in pair] for pair in names]
    table, left, right = (tensors[name].tolist() for name in ("full", "left", "right"))
    embedding_of = table.__getitem__ if kind == "full" else lambda label: naive_compressed_row(left, right, label)
    hidden, labels = tensors["hidden"].tolist(), labels.tolist()
    constants = {"temperature": given.temperature, "confidence_limit": given.confidence_limit}
    weights = {name: getattr(given, name) for name in ("output_weight", "target_weight", "uniform_weight")}
    terms = naive_head_terms(hidden, layers, embedding_of, labels, weights=weights, **constants)
    rows = naive_sampled_rows(labels, given.auxiliary_fraction, given.auxiliary_offset)
    second = [naive_linear(*layers[1], row) for row in hidden]
    constants |= {"fraction": given.auxiliary_fraction, "hinge_norm": given.hinge_norm}
    terms |= naive_sampled_terms(second, embedding_of, labels, rows, **constants)
    if given.hinge_reduction == "sum":
        terms["hinge"] *= len(labels)
    if given.shared:
        terms |= {"auxiliary": 0.0, "hinge": 0.0}
    if given.uniform_weight == 0:
        terms["uniform"] = 0.0  # not computed where it has no part
    total = sum(weights[f"{name}_weight"] * terms[name] for name in ("output", "target", "uniform"))
    return terms | {"total": total + terms["auxiliary"] + terms["hinge"] + terms["embedding"]}


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["full", "compressed"])
@pytest.mark.parametrize("case", CASES)
def test_sampled_terms_are_those_of_the_naive_loops(impl, kind, case):
    for count, fraction, offset in ((40, 0.25, 0.5), (33, 0.3, 0.0), (3, 0.1, 0.2), (21, 0.9, 0.7)):
        tensors, labels = made_tensors(count, 7)
        given = settings(**CASES[case], auxiliary_fraction=fraction, auxiliary_offset=offset)
        terms, _ = run_head(tensors, labels, given, kind, impl=impl)
        expected = naive_sampled_head(tensors, labels, given, kind)
        for name, value in terms._asdict().items():
            assert value.item() == pytest.approx(expected[name], abs=TOLERANCE), name


@pytest.mark.parametrize("impl", ["closed_form", "chunked"])
@pytest.mark.parametrize("kind", ["full", "compressed", "fixed"])
@pytest.mark.parametrize("case", CASES)
def test_sampled_gradients_are_those_of_the_plain_lines(impl, kind, case):
    for size in ((0, 5), (1, 5), (40, 7), (150, 3), (60, 90)):
        tensors, labels = made_tensors(*size)
        for fraction, offset in ((0.25, 0.75), (0.4, 0.1)):
            given = settings(**CASES[case], auxiliary_fraction=fraction, auxiliary_offset=offset)
            plain = run_head(tensors, labels, given, kind, scale=2.5, impl="reference")
            for chunk_rows in (7, None):
                found = run_head(tensors, labels, given, kind, scale=2.5, impl=impl, chunk_rows=chunk_rows)
                torch.testing.assert_close(found[0]._asdict(), plain[0]._asdict(), rtol=0, atol=TOLERANCE)
                torch.testing.assert_close(found[1], plain[1], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("hinge_reduction", ["mean", "sum"])
@pytest.mark.parametrize("offsets", [[0.0, 0.25, 0.5, 0.75], [0.1, 0.35, 0.6, 0.85]])
def test_over_all_offsets_a_quarter_of_the_rows_is_on_average_all_of_them(impl, hinge_reduction, offsets):
    tensors, labels = made_tensors(42, 6)
    exact = run_head(tensors, labels, settings(hinge_reduction=hinge_reduction), "full", impl="reference")
    runs, right = [], []
    for offset in offsets:
        given = settings(hinge_reduction=hinge_reduction, auxiliary_fraction=0.25, auxiliary_offset=offset)
        runs.append(run_head(tensors, labels, given, "full", impl=impl))
        rows = sampled_rows(labels, 0.25, offset)
        second = tensors["hidden"][rows] @ tensors["auxiliary_weight"].T + tensors["auxiliary_bias"]
        right.append(int((second.argmax(dim=1) == labels[rows]).sum()))
    assert len(set(right)) > 1  # or every mean below would be the same
    for name in ("hidden", "weight", "bias", *OF_SECOND):
        mean = sum(gradients[name] for _, gradients in runs) / 4
        torch.testing.assert_close(mean, exact[1][name], rtol=0, atol=TOLERANCE)
    for name in ("auxiliary", "hinge"):
        mean = sum(getattr(terms, name) for terms, _ in runs) / 4
        torch.testing.assert_close(mean, getattr(exact[0], name), rtol=0, atol=TOLERANCE)
    # E's is a mean over the rows that are right, so its sum over them is what adds up.
    summed = sum(gradients["full"] * count for (_, gradients), count in zip(runs, right, strict=True))
    torch.testing.assert_close(summed / sum(right), exact[1]["full"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", ["separate", "compressed", "shared"])
def test_objective_takes_other_rows_each_step_goes_on_where_it_was_and_evaluates_on_all(impl, case):
    arguments = {"shared": {"auxiliary": "shared"}, "compressed": {"embedding": "compressed", "rank": 2}}.get(case, {})

    def build(**more):
        with seeded(0, "objective"):
            return LabelEmbedding(4, 5, impl=impl, auxiliary_fraction=0.25, **arguments, **more).double()

    tensors, labels = made_tensors(40, 5)
    objective = build()
    for value in objective.output.parameters():
        value.data = tensors["auxiliary_weight" if value.ndim == 2 else "auxiliary_bias"].clone()
    state = torch.get_rng_state()
    terms = [objective(tensors["hidden"], labels) for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert len({step.embedding.item() for step in terms}) > 1
    resumed = build()
    objective_state = {name: value.clone() for name, value in objective.state_dict().items()}
    resumed.load_state_dict(objective_state)
    for _ in range(2):
        ours, theirs = (kind(tensors["hidden"], labels) for kind in (objective, resumed))
        assert torch.equal(torch.stack(ours), torch.stack(theirs))
    objective.eval()
    before = int(objective.sampling_steps)
    whole = LabelEmbedding(4, 5, impl=impl, **arguments).double()
    whole.load_state_dict({key: value for key, value in objective_state.items() if key != "sampling_steps"})
    expected = whole(tensors["hidden"], labels)
    torch.testing.assert_close(torch.stack(objective(tensors["hidden"], labels)), torch.stack(expected))
    assert int(objective.sampling_steps) == before


def test_mixed_rows_are_sampled_once_a_step():
    tensors, labels = made_tensors(40, 5)
    objective = LabelEmbedding(4, 5, auxiliary_fraction=0.5).double()
    objective.mixed(tensors["hidden"], labels, labels.roll(1), 0.3)
    assert int(objective.sampling_steps) == 1


def test_whole_share_keeps_no_count_so_that_older_states_load():
    assert "sampling_steps" not in LabelEmbedding(4, 3).state_dict()
    assert "sampling_steps" in LabelEmbedding(4, 3, auxiliary_fraction=0.5).state_dict()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_second_layer_in_bfloat16_moves_nothing_but_what_it_teaches(impl):
    tensors, labels = made_tensors(200, 40, hidden_size=16)
    tensors = {name: value.float() for name, value in tensors.items()}
    exact = run_head(tensors, labels, settings(), "full", impl="reference")
    low = run_head(tensors, labels, settings(auxiliary_dtype=torch.bfloat16), "full", impl=impl)
    for name in ("hidden", "weight", "bias"):
        torch.testing.assert_close(low[1][name], exact[1][name], rtol=1e-4, atol=1e-6)
    for name in OF_SECOND:
        assert low[1][name].dtype == torch.float32
        error = (low[1][name] - exact[1][name]).norm() / exact[1][name].norm()
        assert 1e-5 < error < 0.05, name  # logits of some 4 in 8 binary digits are 1 or 2 hundredths off
    assert low[0].auxiliary != exact[0].auxiliary
    assert low[0].auxiliary.item() == pytest.approx(exact[0].auxiliary.item(), rel=0.01)
    assert low[0].output.item() == pytest.approx(exact[0].output.item(), rel=1e-6)


def test_second_layer_of_the_objective_is_computed_in_bfloat16_also_where_it_has_hooks():
    hidden, labels = torch.randn(64, 16), torch.randint(10, (64,))
    seen = []
    with seeded(0):
        objective = LabelEmbedding(16, 10, auxiliary_dtype="bfloat16")
    objective.auxiliary.register_forward_hook(lambda layer, given, made: seen.append(made.dtype))
    objective.output.register_forward_hook(lambda layer, given, made: seen.append(made.dtype))
    objective(hidden, labels).total.backward()
    assert seen == [torch.float32, torch.bfloat16]
    assert {value.grad.dtype for value in objective.parameters()} == {torch.float32}


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_row_sparse_gradient_of_a_full_embedding_is_the_dense_one(impl, fraction):
    tensors, labels = made_tensors(60, 30)
    for chunk_rows in (5, None):
        given = settings(auxiliary_fraction=fraction)
        how = {"impl": impl, "chunk_rows": chunk_rows, "scale": 2.5}
        dense = run_head(tensors, labels, given, "full", **how)[1]["full"]
        sparse = run_head(tensors, labels, given._replace(sparse_gradients=True), "full", **how)[1]["full"]
        assert sparse.is_sparse
        rows = sparse.coalesce().indices()[0]
        assert set(rows.tolist()) <= set(labels.tolist())
        assert len(rows) < 30
        torch.testing.assert_close(sparse.to_dense(), dense, rtol=0, atol=TOLERANCE)


def test_row_sparse_gradient_is_kept_in_as_many_rows_as_there_are():
    tensors, labels = made_tensors(40, 90)
    tensors["full"].requires_grad_()
    given = settings(sparse_gradients=True)
    inputs = [tensors[name] for name in ("hidden", "weight", "bias", *OF_SECOND)]
    label_embedding_cross_entropy(*inputs, tensors["full"], labels, given, impl="chunked").total.backward()
    values = tensors["full"].grad._values()
    assert values.shape[0] <= len(labels.unique())


@pytest.mark.parametrize("impl", ["reference", "chunked"])
def test_sparse_adam_and_plain_descent_take_it_and_adam_says_no(impl):
    tensors, labels = made_tensors(40, 12)

    def step(kind, sparse):
        with seeded(0):
            objective = LabelEmbedding(4, 12, impl=impl, sparse_gradients=sparse).double()
        start = objective.embedding.detach().clone()
        optimizer = kind([objective.embedding], lr=0.1)
        objective(tensors["hidden"], labels).total.backward()
        optimizer.step()
        return objective.embedding.detach() - start

    torch.testing.assert_close(step(torch.optim.SGD, True), step(torch.optim.SGD, False), rtol=0, atol=1e-12)
    moved = step(torch.optim.SparseAdam, True)
    assert bool(moved.any())
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        step(torch.optim.Adam, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auxiliary_fraction": 0.0}, r"`auxiliary_fraction` must be in \(0, 1\], got 0.0"),
        ({"auxiliary_fraction": 1.1}, r"`auxiliary_fraction` must be in \(0, 1\], got 1.1"),
        ({"auxiliary_fraction": math.nan}, r"`auxiliary_fraction` must be in \(0, 1\], got nan"),
        ({"auxiliary_dtype": "bfloat61"}, r"`auxiliary_dtype` must be one of None, 'bfloat16', .*did you mean"),
        ({"embedding": "compressed", "sparse_gradients": True}, "`sparse_gradients` is for embedding='full'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelEmbedding(4, 3, **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auxiliary_fraction": -0.5}, r"`auxiliary_fraction` must be in \(0, 1\], got -0.5"),
        ({"auxiliary_offset": 1.0}, r"`auxiliary_offset` must be in \[0, 1\), got 1.0"),
        ({"auxiliary_dtype": torch.int8}, r"`auxiliary_dtype` must be one of None, torch.bfloat16, got torch.int8"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    tensors, labels = made_tensors(4, 3)
    with pytest.raises(ValueError, match=message):
        run_head(tensors, labels, settings(**changes), "full")


@pytest.mark.parametrize("name", ["weight", "bias", *OF_SECOND, "full"])
def test_another_device_is_named(name):
    tensors, labels = made_tensors(4, 3)
    tensors[name] = tensors[name].to("meta")
    said = "embedding" if name == "full" else name
    with pytest.raises(ValueError, match=f"`{said}` must be on the device of the hidden rows, cpu, got 'meta'"):
        label_embedding_cross_entropy(
            *[tensors[key] for key in ("hidden", "weight", "bias", *OF_SECOND, "full")], labels, settings()
        )
