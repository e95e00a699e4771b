"""Every benchmark can be imported; the stacked networks of the evidence train as the library's objectives do."""

import importlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from benchmarks.evidence.data_sets import DATA_SETS, PLANS
from benchmarks.evidence.methods import FIXED, KINDS, MORE_KINDS, RECOMMENDED
from benchmarks.evidence.runs import FIELDS, REGIMES, SEEDS, append
from benchmarks.evidence.stacked import Examples, Stack, Weights
from benchmarks.evidence.summary import COMPARISONS, differences, level, mean_with_half, more_summary, summary
from torch import Tensor, nn

from labelembed.lab.training.optimizers import cosine
from labelembed.objectives import LabelEmbedding, LabelSmoothing, Objective, OneHot, OnlineLabelSmoothing, Retrospection

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "evidence" / "results"
LEARNED = ("online_label_smoothing", "label_embedding")
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
        case "progressive":
            return Retrospection(HIDDEN, LABELS, num_examples=100, preset="progressive", final_weight=a)
        case "online_label_smoothing" | "class_means":
            return OnlineLabelSmoothing(HIDDEN, LABELS, similarity_weight=a, uniform_weight=b)
    return LabelEmbedding(HIDDEN, LABELS, output_weight=1 - a - b, target_weight=a, uniform_weight=b)


def _logits_of_library(stack: Stack, place: int, examples: Examples, method: str, weights: Weights) -> Tensor:
    """Returns the logits after the same steps with the library's objective, from the stack's initial weights."""
    encoder, split = nn.Linear(INPUTS, HIDDEN), place // stack.count
    objective = _objective(method, weights)
    layers = [encoder, objective.output]
    drawn = [*stack.layers, *stack.second]
    if isinstance(objective, LabelEmbedding) and objective.auxiliary is not None:
        layers.append(objective.auxiliary)  # one that is missing is found below: `layers` must be as many as were drawn
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
    epochs, epoch = -(-STEPS // (100 // BATCH)), 0
    for _ in range(STEPS):
        if not order:
            if epoch:
                objective.end_epoch()
            objective.start_epoch(epoch, epochs, 100 // BATCH)
            epoch += 1
            shuffled = torch.randperm(100, generator=generator)
            order = [part for part in shuffled.split(BATCH) if len(part) == BATCH]
        places = order.pop(0)
        chosen = examples.train[split, places]
        objective(torch.relu(encoder(inputs[chosen])), examples.labels[chosen], places).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    with torch.no_grad():
        return objective.logits(torch.relu(encoder(inputs)))


@pytest.mark.parametrize("method", MORE_KINDS)
def test_stack_trains_as_the_objective_does(method: str) -> None:
    examples = _examples()
    kind = MORE_KINDS[method]
    other = {"none": Weights(uniform=0.4), "progressive": Weights(similarity=0.3)}.get(kind, MIXTURE)
    both = [RECOMMENDED[method], other]
    begun = Stack((INPUTS, HIDDEN, LABELS), [3, 4], both, kind=kind)
    stack = Stack((INPUTS, HIDDEN, LABELS), [3, 4], both, kind=kind)
    stack.train(examples, steps=STEPS, batch_size=BATCH, learning_rate=0.01, weight_decay=0.1)
    everything = torch.arange(200).expand(2, -1)
    ours = stack.predict(examples, everything)
    for place in range(4):
        weights = both[place % 2]
        name = "label_smoothing" if method == "cross_entropy" and weights.uniform else method
        wanted = _logits_of_library(begun, place, examples, name, weights)
        # float32 sums of another order, through twelve steps of Adam
        torch.testing.assert_close(ours[place // 2, place % 2], wanted, rtol=1e-3, atol=1e-4)


def _write_results(folder: Path, names: Sequence[str], *, gain: float) -> None:
    """Writes results in which trial 1 is the better one, and online smoothing better than smoothing by `gain`."""
    for place, name in enumerate(names):
        rows = []
        for regime, trial, method, seed in itertools.product(REGIMES, ("0", "1", FIXED), KINDS, range(SEEDS)):
            error = 0.2 - 0.01 * place + 0.001 * seed + {"0": 0.05, "1": 0.0, FIXED: 0.02}[trial]
            error -= gain * (method == "online_label_smoothing") * (1 + 0.1 * (seed % 2))
            numbers = dict.fromkeys(FIELDS, 0.0) | {"validation_error": error, "error": error, "nll": 2 * error}
            rows.append(numbers | {"regime": regime, "trial": trial, "method": method, "seed": seed, "steps": 10})
        append(folder / f"{name}.csv", rows)


def test_summary_compares_what_validation_chose_or_the_fixed_settings(tmp_path: Path) -> None:
    _write_results(tmp_path, ["letter", "texture"], gain=0.01)
    tuned, untuned, both_untuned = (
        differences(tmp_path, "long", "error", "online_label_smoothing", comparison)["letter"]
        for comparison in COMPARISONS
    )
    assert tuned.mean == pytest.approx(-0.0105)
    assert untuned.mean == pytest.approx(-0.0105 + 0.02)
    assert both_untuned.mean == pytest.approx(-0.0105)
    assert tuned.shown
    assert level(tmp_path, DATA_SETS[0], "long", "error") == pytest.approx(0.2035)
    printed = summary(tmp_path)
    assert "| texture | 19.35 |" in printed  # per cent
    assert "better 2, worse 0" in printed


def page(name: str) -> str:
    """Returns a page of the docs, or the README, on one line."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def test_tables_of_the_evidence_are_those_of_the_results() -> None:
    more = [more_summary(RESULTS / name, PLANS[name]) for name in ("pretrained", "noise", "captions")]
    printed = "\n".join([summary(RESULTS), *more]).splitlines()
    before, _, after = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8").partition("## The goals")
    goals, _, after = after.partition("\n## ")
    assert "| missed" in goals
    lines = [*before.splitlines(), *after.splitlines()]
    headings = [line for line, below in itertools.pairwise(lines) if below.startswith("|--")]
    rows = [line for line in lines if line.startswith("| ") and line not in headings]
    assert len(rows) > 10
    assert [row for row in rows if row not in printed] == []
    assert set(printed) <= set((RESULTS / "tables.md").read_text(encoding="utf-8").splitlines())


def changes(regime: str, metric: str, method: str) -> list[float]:
    """Returns a method's change on each data set, in per cent of smoothing's."""
    of_name = {data_set.name: data_set for data_set in DATA_SETS}
    return [
        100 * one.mean / level(RESULTS, of_name[name], regime, metric)
        for name, one in differences(RESULTS, regime, metric, method).items()
    ]


@pytest.mark.parametrize("method", LEARNED)
def test_headlines_on_tuned_methods_are_those_of_the_results(method: str) -> None:
    name, nll = method.replace("_", " "), changes("long", "nll", method)
    change, half = mean_with_half(nll)
    low, high, mean = -change - half, -change + half, -change
    assert f"{mean:.0f} % ({name})" in page("README.md")
    assert f"{mean:.0f} % with {name}" in page("docs/better-than-smoothing.md")
    assert f"{mean:.0f} % with {name} ({low:.0f} to {high:.0f})" in page("docs/evidence.md")
    assert f"{mean:.1f} % [{low:.1f}, {high:.1f}] lower" in page(f"docs/{method.replace('_', '-')}.md")
    assert sum(one < 0 for one in nll) == 14  # "lower on fourteen of fifteen"
    for regime in REGIMES:  # "no difference is shown on any of the fifteen"
        assert not any(one.shown for one in differences(RESULTS, regime, "error", method).values())


NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_can_be_imported(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert name in ("gradient_histograms", "pretrained_features", "made_data", "timing", "readme_pictures") or callable(
        module.run
    )
