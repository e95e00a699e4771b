"""Every objective against the loops of `tests/naive`: each term, and where the gradient of the total goes."""

from __future__ import annotations

import copy

import pytest
import torch

from labelembed.objectives import OBJECTIVES

from .made_objectives import EXAMPLES, MODES, MORE_MODES, made_examples, made_mode, objective_of, passes, teacher_logits
from .naive.adaptive_labels import naive_adaptive_labels_output, naive_centroids, naive_repel
from .naive.confidence_penalty import naive_confidence_penalty_terms
from .naive.cross_entropy import naive_label_smoothing_terms, naive_linear
from .naive.differences import central_differences
from .naive.distillation import naive_distillation_terms
from .naive.label_embedding import naive_compressed_row, naive_label_embedding_terms, naive_label_embedding_total
from .naive.remembering import NaiveOnlineLabelSmoothing, naive_retrospection_terms
from .naive.static_labels import naive_static_labels_terms
from .naive.teacher_free import naive_teacher_free_terms

# Of a warm-up test_objectives_label_embedding tells.
CASES = [name for name in MODES | MORE_MODES if "warmup" not in name]
every_case = pytest.mark.parametrize("case", CASES)

# Each takes the objective as it was before the step, the tensors that may move and the same `held` where they were,
# labels and indices as lists: what a term detaches it reads from `held`.


def rows_of(tables, layer="output"):
    """Returns the outputs of a layer as lists."""
    weight, bias = tables[f"{layer}.weight"], tables.get(f"{layer}.bias")
    bias = [0.0] * len(weight) if bias is None else bias.tolist()
    return [naive_linear(weight.tolist(), bias, row) for row in tables["hidden"].tolist()]


def one_hot(objective, moving, held, labels, indices):
    terms = naive_label_smoothing_terms(rows_of(moving), labels, smoothing=0.0)
    return {name: terms[name] for name in ("total", "output")}


def label_smoothing(objective, moving, held, labels, indices):
    return naive_label_smoothing_terms(rows_of(moving), labels, smoothing=objective.smoothing)


def embedding_of(objective, tables):
    if "embedding.projection" in tables:
        left, right = tables["embedding.weight"].tolist(), tables["embedding.projection"].tolist()
        return lambda label: naive_compressed_row(left, right, label)
    whole = tables.get("embedding.weight", objective.embedding.weight)
    return lambda label: whole[label].tolist()


def label_embedding(objective, moving, held, labels, indices):
    first, second, taught = rows_of(moving), None, None
    if objective.auxiliary is not None:
        second = rows_of(moving | {"hidden": held["hidden"]}, "auxiliary")
        taught = rows_of(held, "auxiliary")
    elif objective.learns_embedding:  # o1 teaches E, and there is nothing that teaches o2
        taught = rows_of(held)
    how = {"temperature": objective.temperature, "confidence_limit": objective.confidence_limit}
    how["hinge_reduction"] = objective.hinge_reduction
    terms = naive_label_embedding_terms(first, second, embedding_of(objective, held), labels, **how)
    teaching = naive_label_embedding_terms(first, taught, embedding_of(objective, moving), labels, **how)
    terms["embedding"] = teaching["embedding"]
    if objective.uniform_weight == 0:
        terms["uniform"] = 0.0  # not computed where it has no part
    weights = {name: getattr(objective, name) for name in ("output_weight", "target_weight", "uniform_weight")}
    return terms | {"total": naive_label_embedding_total(terms, **weights)}


def confidence_penalty(objective, moving, held, labels, indices):
    return naive_confidence_penalty_terms(rows_of(moving), labels, penalty_weight=objective.penalty_weight)


def teacher_free(objective, moving, held, labels, indices):
    how = {name: getattr(objective, name) for name in ("true_probability", "teacher_weight")}
    return naive_teacher_free_terms(rows_of(moving), labels, temperature=objective.temperature, **how)


def distillation(objective, moving, held, labels, indices):
    return naive_distillation_terms(
        rows_of(moving),
        labels,
        indices,
        teacher_logits(objective.num_labels).double().tolist(),
        temperature=objective.temperature,
        teacher_weight=objective.teacher_weight,
        uniform_weight=objective.uniform_weight,
    )


def static_labels(objective, moving, held, labels, indices):
    return naive_static_labels_terms(rows_of(moving), labels, objective.vectors.tolist(), delta=objective.delta)


def adaptive_labels(objective, moving, held, labels, indices):
    z, old = rows_of(moving), objective.centroids.tolist()
    after = int(objective.steps) - objective.warmup_steps
    updates = after >= 0 and after % objective.update_every == 0
    moves = updates and objective.preset == "published_code"
    output = naive_adaptive_labels_output(z, labels, naive_centroids(z, labels, old) if moves else old)
    repel = naive_repel(z, labels) if objective.repel_weight > 0 and updates else 0.0
    return {"total": output + objective.repel_weight * repel, "output": output, "repel": repel}


def online_label_smoothing(objective, moving, held, labels, indices):
    weights = {name: getattr(objective, name) for name in ("similarity_weight", "uniform_weight")}
    naive = NaiveOnlineLabelSmoothing(objective.num_labels, **weights)
    naive.table = objective.similarities.tolist()
    terms = naive.terms(rows_of(moving), labels)
    return terms if objective.uniform_weight > 0 else terms | {"uniform": 0.0}


def retrospection(objective, moving, held, labels, indices):
    stored = objective.stored[torch.tensor(indices)].double()
    how = {"temperature": 1.0 if objective.preset == "published_port" else objective.temperature}
    how["weight"] = objective._beta
    return naive_retrospection_terms(rows_of(moving), labels, stored.tolist(), **how)


NAIVE = {function.__name__: function for function in (
    one_hot, label_smoothing, label_embedding, confidence_penalty, teacher_free, distillation, static_labels,
    adaptive_labels, online_label_smoothing, retrospection,
)}  # fmt: skip
assert NAIVE.keys() == OBJECTIVES.keys()


def naive_terms(case, objective, moving, held, labels, indices):
    return NAIVE[objective_of(case)](objective, moving, held, labels.flatten().tolist(), indices.flatten().tolist())


def prepared(case, **arguments):
    """Returns the objective after an epoch, so that what it remembers is its own, with parameters of after that."""
    objective = made_mode(case, **arguments)
    batch = made_examples(objective, EXAMPLES, ignored=False, seed=1)
    objective(*batch)
    objective.eval().end_epoch(passes(batch))
    objective.train().start_epoch(1, 10, steps=3)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return objective


def tables_of(objective, hidden):
    parameters = {name: value.detach().clone() for name, value in objective.named_parameters()}
    return {"hidden": hidden.reshape(-1, objective.hidden_size)} | parameters


def assert_naive(case, objective, hidden, labels, indices):
    before = copy.deepcopy(objective)
    terms = objective(hidden, labels, indices)._asdict()
    tables = tables_of(objective, hidden)
    naive = naive_terms(case, before, tables, tables, labels, indices)
    assert set(terms) == set(naive)
    for name, value in terms.items():
        # Float64 sums of a hundred numbers near 1, in another order than the loops.
        assert value.item() == pytest.approx(naive[name], abs=1e-10), name


@every_case
@pytest.mark.parametrize("shape", [(13,), (3, 5), (1,)])
@pytest.mark.parametrize("bias", [True, False])
def test_terms_equal_the_loops(case, shape, bias):
    objective = prepared(case, bias=bias)
    hidden, labels, indices = made_examples(objective, *shape, ignored=shape != (1,))
    if len(shape) == 2:  # [B, T, H] from a recurrent network is often a transposed view
        hidden = hidden.transpose(0, 1).contiguous().transpose(0, 1)
        assert not hidden.is_contiguous()
    assert_naive(case, objective, hidden, labels, indices)


@pytest.mark.parametrize("case", [*sorted(OBJECTIVES.keys() - {"label_embedding"}), "label_embedding, compressed"])
def test_terms_of_many_labels_equal_the_loops(case):
    objective = prepared(case, num_labels=1_100)  # enough for chunks
    assert_naive(case, objective, *made_examples(objective, 4))


@every_case
def test_gradients_equal_finite_differences_of_the_loops(case):
    """At hidden states and every parameter: what a term detaches stays where it was while the rest moves."""
    objective = prepared(case, hidden_size=3, num_labels=4, bias=True)
    hidden, labels, indices = made_examples(objective, 7)
    before, tables = copy.deepcopy(objective), tables_of(objective, hidden)
    leaf = hidden.clone().requires_grad_()
    objective(leaf, labels, indices).total.backward()
    exact = {"hidden": leaf.grad} | {name: value.grad for name, value in objective.named_parameters()}
    numeric = central_differences(
        tables, lambda moving: naive_terms(case, before, moving, tables, labels, indices)["total"]
    )
    # Central differences with steps of 1e-6: 1e-12 from the third derivative, 1e-10 from rounding.
    torch.testing.assert_close(exact, numeric, rtol=0, atol=1e-7)
    assert exact["hidden"].any()
    assert all(bool(value.any()) for name, value in exact.items() if name != "output.bias")
