"""The stacked networks of `benchmarks.evidence` train as the library's objectives do."""

import pytest
import torch
from benchmarks.evidence.data_sets import DATA_SETS, DataSet
from benchmarks.evidence.methods import KINDS, RECOMMENDED, TRIALS, trials
from benchmarks.evidence.stacked import Examples, Stack, Weights
from torch import Tensor, nn

from labelembed.objectives import LabelEmbedding, LabelSmoothing, Objective, OneHot, OnlineLabelSmoothing
from labelembed.training.schedules import cosine

INPUTS, HIDDEN, LABELS, STEPS, BATCH = 6, 8, 5, 12, 16
MIXTURE = Weights(similarity=0.5, uniform=0.2)


def _examples() -> Examples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, INPUTS, generator=generator)
    labels = (inputs[:, :LABELS] + 0.5 * torch.randn(200, LABELS, generator=generator)).argmax(1)
    train = torch.stack([torch.randperm(200, generator=generator)[:100] for _ in range(2)])
    return Examples(inputs, labels, train, LABELS)


def _objective(method: str, weights: Weights) -> Objective:
    a, b = weights
    match method:
        case "cross_entropy":
            return OneHot(HIDDEN, LABELS)
        case "label_smoothing":
            return LabelSmoothing(HIDDEN, LABELS, smoothing=b)
        case "online_label_smoothing":
            return OnlineLabelSmoothing(HIDDEN, LABELS, similarity_weight=a, uniform_weight=b)
    return LabelEmbedding(HIDDEN, LABELS, output_weight=1 - a - b, target_weight=a, uniform_weight=b)


def _logits_of_library(stack: Stack, place: int, examples: Examples, method: str, weights: Weights) -> Tensor:
    """Returns the logits after the same steps with the library's objective, from the stack's initial weights."""
    encoder, split = nn.Linear(INPUTS, HIDDEN), place // stack.count
    objective = _objective(method, weights)
    layers = [encoder, objective.output]
    drawn = [*stack.layers, *stack.second]
    if isinstance(objective, LabelEmbedding):
        assert objective.auxiliary is not None
        layers.append(objective.auxiliary)
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers, zip(drawn[::2], drawn[1::2], strict=True), strict=True):
            layer.weight.copy_(weight[place].T)
            layer.bias.copy_(bias[place, 0])
    groups = [{"params": encoder.parameters()}, *objective.parameter_groups(0.1)]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
    factor = cosine(warmup_fraction=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, STEPS, STEPS))
    mean, deviation = examples.scaling()
    inputs = (examples.inputs - mean[split]) / deviation[split]
    generator = torch.Generator().manual_seed(stack.seeds[split])
    order: list[Tensor] = []
    for _ in range(STEPS):
        if not order:
            shuffled = torch.randperm(100, generator=generator)
            order = [part for part in shuffled.split(BATCH) if len(part) == BATCH]
        chosen = examples.train[split, order.pop(0)]
        objective(torch.relu(encoder(inputs[chosen])), examples.labels[chosen]).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    with torch.no_grad():
        return objective.logits(torch.relu(encoder(inputs)))


@pytest.mark.parametrize("method", KINDS)
def test_stack_trains_as_the_objective_does(method: str) -> None:
    examples = _examples()
    both = [RECOMMENDED[method], MIXTURE if KINDS[method] != "none" else Weights(uniform=0.4)]
    begun = Stack((INPUTS, HIDDEN, LABELS), [3, 4], both, kind=KINDS[method])
    stack = Stack((INPUTS, HIDDEN, LABELS), [3, 4], both, kind=KINDS[method])
    stack.train(examples, steps=STEPS, batch_size=BATCH, learning_rate=0.01, weight_decay=0.1)
    everything = torch.arange(200).expand(2, -1)
    ours = stack.predict(examples, everything)
    for place in range(4):
        weights = both[place % 2]
        name = "label_smoothing" if method == "cross_entropy" and weights.uniform else method
        wanted = _logits_of_library(begun, place, examples, name, weights)
        # float32 sums of another order, through twelve steps of Adam
        torch.testing.assert_close(ours[place // 2, place % 2], wanted, rtol=1e-3, atol=1e-4)


def test_table_of_one_hot_predictions_is_cross_entropy() -> None:
    examples = _examples()
    tables = nn.functional.one_hot(examples.labels[examples.train], LABELS).float()
    found = []
    for kind, weights in (("table", Weights(similarity=0.7)), ("none", Weights())):
        stack = Stack((INPUTS, HIDDEN, LABELS), [3, 4], [weights], kind=kind, tables=tables)
        stack.train(examples, steps=STEPS, batch_size=BATCH, learning_rate=0.01, weight_decay=0.1)
        found.append(stack.predict(examples, examples.train))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_splits_have_no_common_example_and_every_label() -> None:
    labels = torch.arange(400) % 7
    data_set = DataSet(name="made", load=lambda _: (torch.zeros(400, 2), labels))
    first, again, other = (data_set.split(labels, seed) for seed in (0, 0, 1))
    assert [len(part) for part in first.values()] == [200, 80, 120]
    assert len(torch.cat(list(first.values())).unique()) == 400
    assert all(len(labels[part].unique()) == 7 for part in first.values())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["test"], other["test"])


def test_every_method_has_the_same_trials() -> None:
    tried = list(trials(DATA_SETS[0]))
    assert len(tried) == TRIALS + 1
    assert all(set(trial.weights) == set(KINDS) for trial in tried)
    assert all(sum(weights) <= 1 for trial in tried for weights in trial.weights.values())
    assert len({trial.weights["label_smoothing"].uniform for trial in tried}) == TRIALS + 1
