"""What every objective promises, in every mode."""

from __future__ import annotations

import copy
import io
import re

import pytest
import torch
import torch.distributed as dist
from torch import nn

from labelembed import fit_temperature
from labelembed.objectives import OBJECTIVES, Objective, examples
from labelembed.seeds import seeded

from .made_objectives import MODES, build, made_examples, made_mode, needed, objective_of, passes

HIDDEN, LABELS = 4, 5
NAN = float("nan")
NAMES = ("cat", "dog", "car", "bus", "bee")
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
every_mode = pytest.mark.parametrize("mode", MODES)


def step(objective, hidden, labels, indices, **named):
    """Returns terms, gradients of hidden states and of parameters."""
    objective.zero_grad()
    leaf = hidden.clone().requires_grad_()
    terms = objective(leaf, labels, indices, **named)
    terms.total.backward()
    gradients = {name: value.grad for name, value in objective.named_parameters()}
    return {name: term.detach() for name, term in terms._asdict().items()}, leaf.grad, gradients


def assert_same(found, expected, *, tolerance=1e-12):
    """Float64 sums of a hundred numbers near 1, in another order."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@every_mode
def test_terms_are_named_scalars_and_sequences_equal_their_tokens_in_one_line(mode):
    objective = made_mode(mode, dtype=torch.float32)
    hidden, labels, indices = made_examples(objective, 2, 3, 5)
    flat = copy.deepcopy(objective)(hidden.view(30, HIDDEN), labels.view(30), indices.view(30))
    named = objective(hidden, labels, indices)._asdict()
    assert list(named)[:2] == ["total", "output"]
    assert all(value.shape == () and value.dtype == torch.float32 for value in named.values())
    torch.testing.assert_close(named, flat._asdict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [mode for mode in MODES if "chunked" not in mode])
def test_every_term_can_be_back_propagated(mode):
    objective = made_mode(mode)
    hidden, labels, indices = made_examples(objective)
    for name in objective(hidden, labels, indices)._fields:
        objective.zero_grad()
        leaf = hidden.clone().requires_grad_()
        term = getattr(objective(leaf, labels, indices), name)
        if term.requires_grad:  # or it has no part
            term.backward()
        gradients = {"hidden": leaf.grad} | {key: value.grad for key, value in objective.named_parameters()}
        assert all(bool(value.isfinite().all()) for value in gradients.values() if value is not None)
        if name == "output":
            moved = {key for key, value in gradients.items() if value is not None and bool(value.any())}
            assert moved - {"output.bias"} == {"hidden", "output.weight"}


@every_objective
def test_probabilities_are_the_softmax_of_logits_over_the_temperature(name):
    objective = made_mode(name if name in MODES else f"{name}, paper")
    hidden, labels, _ = made_examples(objective, 40, ignored=False)
    logits = objective.logits(hidden).detach()
    assert_same(objective.probabilities(hidden), logits.softmax(dim=-1))
    objective.output_temperature.fill_(fit_temperature(logits, labels))
    assert objective.output_temperature.item() != 1
    assert_same(objective.probabilities(hidden), (logits / objective.output_temperature).softmax(dim=-1))
    assert torch.equal(objective.logits(hidden), logits)  # never divided


@every_objective
def test_label_geometry_carries_names_and_is_a_copy(name):
    objective = build(name, HIDDEN, LABELS)
    geometry = objective.label_geometry(NAMES)
    assert geometry.names == NAMES
    assert geometry.source == type(objective).__name__
    assert len(geometry.neighbours("cat", k=10)) == LABELS - 1
    table = geometry.vectors if geometry.vectors is not None else geometry.similarities
    before = table.clone()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(1.0)
    assert not table.requires_grad
    assert torch.equal(table, before)
    assert objective.label_geometry().names == ("0", "1", "2", "3", "4")
    with pytest.raises(ValueError, match="3 names"):
        objective.label_geometry(NAMES[:3])


@every_mode
def test_ignored_examples_count_nowhere(mode):
    """Over two epochs: terms, gradients and all that is remembered are those of the other examples alone."""
    # Without a bias an ignored example, whose hidden states are taken as 0, would be predicted as label 0: rightly.
    padded, plain = made_mode(mode, bias=False), made_mode(mode, bias=False)
    batches = [made_examples(padded, 4, 6, seed=seed) for seed in range(2)]
    chosen = []
    for hidden, labels, indices in batches:
        counts = labels != -100
        hidden[~counts], indices[~counts] = float("nan"), 10**9
        chosen.append((hidden[counts], labels[counts], indices[counts]))
    for epoch in range(2):
        for objective in (padded, plain):
            objective.train().start_epoch(epoch, 3, steps=2)
        for batch, selected in zip(batches, chosen, strict=True):
            found, expected = step(padded, *batch), step(plain, *selected)
            counts = batch[1] != -100
            assert_same(found[0], expected[0])
            assert_same(found[1][counts], expected[1])
            assert not found[1][~counts].any()  # and no NaN among them
            assert_same(found[2], expected[2])
            assert expected[1].any()
        padded.eval().end_epoch(passes(*batches))
        plain.eval().end_epoch(passes(*chosen))
        assert_same(padded.state_dict(), plain.state_dict())


@every_mode
@pytest.mark.parametrize("processes", [1, 8])
def test_nothing_that_counts_gives_a_total_of_zero_that_goes_back(mode, processes, monkeypatch):
    objective = made_mode(mode)
    # The factor of the processes must stay finite where the sum is empty.
    monkeypatch.setattr(examples, "process_count", lambda group: processes)
    before = {name: value for name, value in copy.deepcopy(objective.state_dict()).items() if name != "steps"}
    for shape, named in (((3, 4), {}), ((3, 4), {"num_items_in_step": 0}), ((0, 4), {}), ((3, 0), {})):
        hidden = torch.full((*shape, HIDDEN), float("nan"), dtype=torch.float64)
        terms, at_hidden, gradients = step(
            objective, hidden, torch.full(shape, -100), torch.zeros(shape).long(), **named
        )
        assert {term.item() for term in terms.values()} == {0.0}
        assert not at_hidden.any()
        assert not any(gradient.any() for gradient in gradients.values() if gradient is not None)
    after = objective.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@every_mode
def test_a_sample_weight_is_a_number_of_copies_in_terms_gradients_and_state(mode):
    weighted, copied = made_mode(mode), made_mode(mode)
    hidden, labels, indices = made_examples(weighted, 11)
    copies = torch.arange(11) % 4  # an example of weight 0 is ignored
    found = step(weighted, hidden, labels, indices, sample_weight=copies.double())
    repeated = [values.repeat_interleave(copies, dim=0) for values in (hidden, labels, indices)]
    expected = step(copied, *repeated)
    assert_same(found[0], expected[0])
    assert_same(found[2], expected[2])
    weighted.eval().end_epoch(lambda: [(hidden, labels, indices, copies.double())])
    copied.eval().end_epoch(passes(repeated))
    assert_same(weighted.state_dict(), copied.state_dict())


def test_a_learned_sample_weight_has_the_gradient_of_the_mean():
    objective = made_mode("one_hot")
    hidden, labels, _ = made_examples(objective)
    weight = torch.linspace(0.5, 2, len(labels), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: objective(hidden, labels, sample_weight=given).total, weight)


@every_mode
def test_a_class_weight_is_the_sample_weight_of_its_examples(mode):
    weight = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)
    by_class, by_example = made_mode(mode, weight=weight.tolist()), made_mode(mode)
    hidden, labels, indices = made_examples(by_class)
    sample_weight = weight[labels.clamp_min(0)]
    found = step(by_class, hidden, labels, indices)
    assert_same(found, step(by_example, hidden, labels, indices, sample_weight=sample_weight))


@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.0, 0.25, 3.0]])
@pytest.mark.parametrize("mode", [mode for mode in MODES if made_mode(mode).accumulation_warning is None])
def test_micro_batches_add_up_to_one_batch(mode, weight):
    whole, split = made_mode(mode, weight=weight), made_mode(mode, weight=weight)
    batch = made_examples(whole)
    counts = batch[1] != -100
    items = counts.sum() if weight is None else torch.tensor(weight)[batch[1][counts]].sum()
    expected = step(whole, *batch)
    terms, gradients = [], []
    for part in zip(*(values.tensor_split(3) for values in batch), strict=True):
        found = step(split, *part, num_items_in_step=items)
        terms.append(found[0])
        gradients.append(found[2])
    assert_same({name: sum(part[name] for part in terms) for name in terms[0]}, expected[0])
    assert_same({name: sum(part[name] for part in gradients) for name in gradients[0]}, expected[2])
    assert_same(split.state_dict(), whole.state_dict())


@every_mode
def test_evaluation_and_passes_without_gradients_change_nothing(mode):
    objective = made_mode(mode)
    batch = made_examples(objective)
    before = copy.deepcopy(objective.state_dict())
    with torch.no_grad():
        objective(*batch)
    objective.eval()(*batch)
    torch.testing.assert_close(objective.state_dict(), before, rtol=0, atol=0)


@every_mode
def test_saved_states_and_deep_copies_give_the_same_terms_and_are_independent(mode):
    objective, other = made_mode(mode), made_mode(mode, seed=1)
    batch = made_examples(objective)
    objective(*batch).total.backward()
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    terms = copy.deepcopy(objective)(*batch)
    assert not torch.equal(copy.deepcopy(other)(*batch).total, terms.total)
    other.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(objective)
    for one in (other, copied):
        assert all(torch.equal(*pair) for pair in zip(one(*batch), terms, strict=True))
    with torch.no_grad():
        for value in [*copied.parameters(), *copied.buffers()]:
            value.zero_()
    assert torch.equal(objective(*batch).total, terms.total)


@every_objective
def test_copies_and_pickles_work_compiled_and_with_a_process_group(name, tmp_path):
    objective = build(name, HIDDEN, LABELS)
    objective.compile()  # a copy that kept this would run the original
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        objective.process_group = dist.new_group([0])
        assert copy.deepcopy(nn.Sequential(objective))[0].process_group is None
        torch.save(objective, tmp_path / "objective.pt")
    finally:
        dist.destroy_process_group()
    loaded = torch.load(tmp_path / "objective.pt", weights_only=False)
    assert loaded.process_group is None
    assert_same(loaded.state_dict(), objective.state_dict())


@every_mode
@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 8), (torch.float16, 11)])
def test_low_precision_terms_are_float32_and_close(mode, dtype, digits):
    low, exact = made_mode(mode).to(dtype), made_mode(mode)
    exact.load_state_dict(low.state_dict())
    hidden, labels, indices = made_examples(exact, 33)
    layer = getattr(exact, "auxiliary", None) or exact.logits
    top = layer(hidden.to(dtype).double()).topk(2, dim=1).values
    labels[(top[:, 0] - top[:, 1]) < 0.1] = -100  # logits that round to a tie may change sides
    terms = low(hidden.to(dtype), labels, indices)
    expected = exact(hidden.to(dtype).double(), labels, indices)._asdict()
    for key, value in terms._asdict().items():
        assert value.dtype == torch.float32, key
        # Logits of up to 8 are rounded to 2^-digits of themselves; a term is a mean (or a sum of 33) of differences.
        factor = 33 if "sum" in mode or "published" in mode else 1
        assert value.item() == pytest.approx(expected[key].item(), abs=factor * 8 * 2**-digits), key
    terms.total.backward()
    assert {parameter.grad.dtype for parameter in low.parameters()} == {dtype}
    assert all(bool(parameter.grad.isfinite().all()) for parameter in low.parameters())


@every_mode
def test_autocast_takes_either_hidden_states_and_gives_float32_terms(mode):
    objective = made_mode(mode, dtype=torch.float32).eval()
    hidden, labels, indices = made_examples(objective, 33)
    expected = objective(hidden, labels, indices)._asdict()
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(hidden, labels, indices)
        rounded = objective(hidden.bfloat16(), labels, indices)
    assert all(torch.equal(*pair) for pair in zip(terms, rounded, strict=True))  # rounded before or inside: the same
    assert terms.total.item() != expected["total"].item()  # or autocast would not have been on
    factor = 33 if "sum" in mode or "published" in mode else 1
    for key, value in terms._asdict().items():
        assert value.dtype == torch.float32, key
        # bfloat16 inputs, weights and logits of up to 8, 2^-8 each; some examples may change sides.
        assert value.item() == pytest.approx(expected[key].item(), abs=0.2 * factor), key


# A mode of each objective: C++ is compiled for seconds. The others take the same graphs, cut into forward and backward
# pass in the same place, to eager mode's operations.
INDUCTOR = {
    *("one_hot", "label_smoothing", "confidence_penalty", "teacher_free", "distillation", "static_labels"),
    *("label_embedding, warmup", "adaptive_labels, paper", "retrospection, progressive", "online_label_smoothing"),
}
assert sorted(map(objective_of, INDUCTOR)) == sorted(OBJECTIVES)


def is_one_graph(mode):
    """Chunks are not compiled; soft labels of steps select examples."""
    return "chunked" not in mode and mode not in ("retrospection, steps", "retrospection, progressive")


class AloneAndEncoded(nn.Module):
    """An objective, and the same behind an encoder: their graphs share nothing, and are compiled in the time of one."""

    def __init__(self, mode):
        super().__init__()
        self.alone, self.encoded = (made_mode(mode, dtype=torch.float32) for _ in range(2))
        with seeded(0, "encoder"):
            self.encoder = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.Tanh())

    def forward(self, hidden, labels, indices):
        return self.alone(hidden, labels, indices), self.encoded(self.encoder(hidden), labels, indices)

    def trained(self, hidden, labels, indices):
        """Returns terms, gradients and state of a step."""
        leaf = hidden.clone().requires_grad_()
        terms = self(leaf, labels, indices)
        sum(each.total for each in terms).backward()
        gradients = {name: value.grad for name, value in self.named_parameters()}
        with torch.no_grad():
            for parameter in self.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        return [each._asdict() for each in terms], leaf.grad, gradients, self.state_dict()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, where a graph is broken
@every_mode
def test_compiled_steps_equal_eager_steps_and_are_not_compiled_anew(mode):
    """In float32: what a backward pass computes again, and so reads again, is chosen by size."""
    torch.compiler.reset()
    compiled, plain = AloneAndEncoded(mode), AloneAndEncoded(mode)
    backend = "inductor" if mode in INDUCTOR else "aot_eager_decomp_partition"
    compiled.compile(backend=backend, fullgraph=is_one_graph(mode))
    # Sums of float32 in another order; what is stored in float16 may round the other way.
    tolerance = 1e-3 if mode.startswith("retrospection") else 1e-4
    for epoch in range(5):
        batches = [made_examples(plain.alone, seed=2 * epoch + number) for number in range(2)]
        for module in (compiled, plain):
            module.train()
            for objective in (module.alone, module.encoded):
                objective.start_epoch(epoch, 10, steps=2)
        for batch in batches:
            # Less than the epochs: some graphs are of the first epochs, or of sizes of 0 and 1.
            with torch._dynamo.config.patch(recompile_limit=4, fail_on_recompile_limit_hit=True):
                found = compiled.trained(*batch)
            assert_same(found, plain.trained(*batch), tolerance=tolerance)
        for module in (compiled, plain):
            for objective in (module.alone, module.encoded):
                objective.eval().end_epoch(passes(*batches))
    torch.compiler.reset()


@every_objective
def test_parameter_groups_hold_every_parameter_once(name):
    objective = build(name, HIDDEN, LABELS)
    groups = objective.parameter_groups(0.3)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in objective.parameters())
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(objective.output.weight)] == 0.3


@every_objective
@pytest.mark.parametrize("bias", [True, False])
def test_from_linear_takes_over_the_very_layer(name, bias):
    layer = nn.Linear(HIDDEN, build(name, HIDDEN, LABELS).output_size, bias=bias, dtype=torch.float64)
    objective = OBJECTIVES[name].from_linear(layer, num_labels=LABELS, **needed(name, LABELS))
    objective.start_epoch(0, 10, 3)
    assert objective.output is layer
    assert (objective.hidden_size, objective.num_labels) == (HIDDEN, LABELS)
    assert {value.dtype for value in objective.parameters()} == {torch.float64}
    hidden = torch.randn(3, HIDDEN, dtype=torch.float64)
    if type(objective).logits is Objective.logits:  # and not those of the nearest label
        assert torch.equal(objective.logits(hidden), layer(hidden))
    assert objective(hidden, torch.tensor([0, 1, 3]), torch.arange(3)).total.dtype == torch.float64


# Another width, another number of examples, a column of labels, labels in one line, one hidden state without its axis.
SHAPES = [((3, 5), (3,)), ((3, 4), (2,)), ((3, 4), (3, 1)), ((2, 3, 4), (6,)), ((6, 4), (2, 3)), ((4,), ())]
# (what is given, the kind of the error, what was got)
REFUSED = [
    ({"labels": torch.tensor([0, 5, 1])}, ValueError, "5"),
    ({"labels": torch.tensor([0, -1, 1])}, ValueError, "-1"),
    ({"labels": torch.tensor([0.0, 1.0, 2.0])}, ValueError, "torch.float32"),
    ({"labels": torch.tensor([True, False, True])}, ValueError, "torch.bool"),
    ({"labels": [0, 1, 2]}, TypeError, "list"),
    ({"sample_weight": torch.ones(2)}, ValueError, "[2]"),
    ({"sample_weight": [1.0, 1.0, 1.0]}, TypeError, "list"),
    ({"sample_weight": torch.tensor([1.0, -2.5, 1.0])}, ValueError, "-2.5"),
    ({"sample_weight": torch.tensor([1.0, NAN, 1.0])}, ValueError, "nan"),
    ({"num_items_in_step": 0}, ValueError, "0"),
    ({"num_items_in_step": torch.tensor(-4)}, ValueError, "-4"),
]
NO_INDICES = [
    (None, "None"),
    (torch.arange(2), "[2]"),
    (torch.tensor([0, 1, 256]), "256"),
    (torch.tensor([0, -1, 2]), "-1"),
]
NEED_INDICES = ("retrospection", "distillation")


@every_objective
def test_hidden_states_and_labels_that_do_not_fit_are_refused_with_what_they_are(name):
    objective = build(name, HIDDEN, LABELS)
    for hidden, labels in SHAPES:
        with pytest.raises(ValueError, match="must be") as caught:
            objective(torch.zeros(hidden), torch.zeros(labels, dtype=torch.int64))
        assert str(list(hidden)) in str(caught.value)
        assert str(list(labels)) in str(caught.value)


@every_objective
def test_what_makes_no_loss_is_refused_by_its_name_with_what_was_got(name):
    objective = build(name, HIDDEN, LABELS)
    given = {"labels": torch.tensor([0, 1, 2]), "indices": torch.arange(3)}
    no_indices = [({"indices": indices}, ValueError, got) for indices, got in NO_INDICES if name in NEED_INDICES]
    for named, kind, got in [*REFUSED, *no_indices]:
        with pytest.raises(kind, match=rf"`{next(iter(named))}` must be .*got {re.escape(got)}"):
            objective(torch.zeros(3, HIDDEN), **given | named)


NEED_EPOCHS = ["retrospection", "adaptive_labels", "online_label_smoothing, published", "label_embedding, warmup"]


@pytest.mark.parametrize("mode", NEED_EPOCHS)
def test_epochs_are_begun_before_training_and_ended_before_the_next(mode):
    objective = made_mode(mode)
    objective.start_epoch(0, 10, 3)  # again, as after an interruption
    with pytest.raises(RuntimeError, match="epoch 0 was not ended"):
        objective.start_epoch(1, 10, 3)
    objective._begun = False
    batch = made_examples(objective)
    with pytest.raises(RuntimeError, match="would train something else"):
        objective(*batch)
    with torch.no_grad():
        assert objective(*batch).total.isfinite()
    assert objective.eval()(*batch).total.isfinite()
    if mode in ("retrospection", "adaptive_labels"):
        with pytest.raises(ValueError, match="`training_examples` must be given"):
            made_mode(mode).end_epoch()
