"""R8: NaN and infinity are caught before the step that they would spoil, by name, whatever they are in."""

from __future__ import annotations

import csv
import dataclasses
import math

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from labelembed import seeds
from labelembed.lab import report
from labelembed.lab.errors import TrainingError
from labelembed.lab.runs import run as run_module
from labelembed.lab.runs.comparison import compare
from labelembed.lab.training import trainer
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.device import make_accelerator
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES, Objective
from tests.made_in_process import make_runs_here
from tests.made_objectives import build
from tests.made_training import (
    BATCHES,
    EPOCHS,
    STEPS,
    CommandLines,
    cached_data,
    contents,
    differences,
    newest,
    objective_cases,
    small_recipe,
    stop_after,
    train,
    with_saved_geometry,
)
from tests.reliability.figures import sized
from tests.test_training_processes import start_two, train_words

pytestmark = pytest.mark.usefixtures("no_flush")

PLAIN = {"name": "mlp", "hidden_sizes": [12]}  # no dropout
# The step before which something is spoiled, from 1: the second of the second epoch.
STEP = 7
VALUES = sized(short=[math.nan], full=[math.nan, math.inf])
# What an objective keeps of the labels or the rows.
TABLES = {
    "label_embedding": "objective.embedding.weight",
    "adaptive_labels": "objective.centroids",
    "retrospection": "objective.stored",
    "online_label_smoothing": "objective.similarities",
    "distillation": "objective.teacher_logits",
    "static_labels": "objective.vectors",
}


@pytest.fixture
def networks(monkeypatch):
    """Collects the networks that runs build."""
    found, build_one = [], run_module._network

    def kept(*arguments, **named):
        found.append(build_one(*arguments, **named))
        return found[-1]

    monkeypatch.setattr(run_module, "_network", kept)
    return found


def spoil_terms(hooks, step, **values):
    """Replaces terms of the objective at one step (from 1)."""
    made = 0

    def spoil(module, arguments, terms):
        nonlocal made
        if not isinstance(module, Objective):
            return None
        made += 1
        if made != step:
            return None
        return terms._replace(**{name: getattr(terms, name) * 0 + value for name, value in values.items()})

    hooks.append(register_module_forward_hook(spoil))


def before_step(hooks, step, act):
    """Calls `act` once, when the step before the given one has been made; returns the steps made."""
    made = []

    def count(*_):
        made.append(1)
        if len(made) == step - 1:
            act()

    hooks.append(register_optimizer_step_post_hook(count))
    return made


def fails(recipe, folder, match):
    """Trains, which must fail; the folder must say why and hold nothing that is not finite."""
    with pytest.raises(TrainingError, match=match) as error:
        train(recipe, folder)
    assert_failed(folder, error.value)
    return RunFolder(folder).result()


def assert_failed(folder, error, *, step=None):
    """The folder says why and holds nothing that is not finite; returns the message."""
    assert error.exit_code == 1
    assert RunFolder(folder).state() == "failed"
    result = RunFolder(folder).result()
    assert (result["status"], result["message"]) == ("failed", str(error))
    assert result["diverged_at_step"] == (step or result["diverged_at_step"])
    assert isinstance(result["diverged_at_step"], int)
    assert not (folder / "model.safetensors").exists()
    checkpoint, damaged = load_newest(folder / "checkpoints")
    assert damaged == []
    if checkpoint is not None:
        for tensors in checkpoint.tensors.values():
            assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())
    return str(error)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_term_that_is_not_finite_ends_the_run_by_name(name, hooks, tmp_path, figure):
    terms = build(name, 2, 2)(torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([0, 1]))._fields
    made = with_saved_geometry(objective_cases()[name], tmp_path)
    for number, term in enumerate(sized(short=terms[-1:], full=terms)):
        spoil_terms(hooks, STEP, **({"total": math.nan} | {term: math.inf}))
        where = rf"term `{term}` is inf at step 7 \(epoch 2, batch 2 of 5\)"
        result = fails(small_recipe(objective=made), tmp_path / str(number), where)
        assert result["epochs"] == 1
        assert newest(tmp_path / str(number)).step == BATCHES
        hooks.pop().remove()
        figure.count("caught before the step, by name", 1, 1)


def test_weight_that_is_not_finite_is_not_saved(hooks, networks, tmp_path):
    recipe = small_recipe(checkpoints={"every_steps": 1, "minimum_seconds": 1000.0})
    before_step(hooks, 4, lambda: spoil_first_weight(networks[-1], math.nan))
    fails(recipe, tmp_path / "run", r"weights are not finite after step 3 \(epoch 1\): `encoder.layers.1.weight`")
    assert newest(tmp_path / "run").step == 2


@pytest.mark.parametrize(
    ("step", "name", "value", "message"),
    [
        # No prediction depends on E, so that no measure shows it.
        *(
            (step, TABLES["label_embedding"], math.inf, rf"weights are not finite after step {step} \(epoch {epoch}\)")
            for step, epoch in ((BATCHES, 1), (STEPS, EPOCHS))
        ),
        # The weight is finite; its product with a hidden row is not.
        (BATCHES, "encoder.layers.1.weight", 3e38, r"predictions are not finite after step 5 \(epoch 1\)"),
    ],
)
def test_network_that_is_not_finite_after_an_epoch_is_not_selected(
    step, name, value, message, hooks, networks, tmp_path
):
    before_step(hooks, step + 1, lambda: networks[-1].get_parameter(name).data[0].fill_(value))
    fails(small_recipe(model=PLAIN), tmp_path / "run", message)


def test_failed_run_goes_on_from_its_last_checkpoint(hooks, tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "unbroken")
    spoil_terms(hooks, 12, output=math.nan)
    fails(recipe, tmp_path / "run", "step 12")
    hooks.pop().remove()
    stop_after(recipe, tmp_path / "run", 2)
    assert RunFolder(tmp_path / "run").state() == "unfinished"  # no longer failed
    train(recipe, tmp_path / "run")
    assert differences(contents(tmp_path / "run"), contents(tmp_path / "unbroken")) == []


# ---- every objective, whatever is spoiled


def spoil_first_weight(network, value):
    name, weight = next(iter(network.named_parameters()))
    weight.data.view(-1)[0] = value
    return name


def spoil_first_gradient(network, value):
    name, weight = next(iter(network.named_parameters()))
    weight.register_hook(lambda gradient: gradient + torch.zeros_like(gradient).index_fill_(0, torch.tensor(0), value))
    return name


SPOILED = {"weight": spoil_first_weight, "gradient": spoil_first_gradient}


def diverges(recipe, folder, made, *, data=None, step=STEP):
    """Trains, which must stop before the step that is spoiled; returns the message."""
    with pytest.raises(TrainingError) as error:
        train(recipe, folder, data=data)
    assert len(made) == step - 1, str(error.value)
    return assert_failed(folder, error.value, step=step)


def objective_of(name, folder):
    objective = objective_cases()[name] | ({"store_every": 1} if name == "retrospection" else {})
    return with_saved_geometry(objective, folder)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("what", SPOILED)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_weight_or_gradient_that_is_not_finite_moves_no_weight(name, what, value, hooks, networks, tmp_path, figure):
    recipe = small_recipe(objective=objective_of(name, tmp_path))
    spoiled = []
    made = before_step(hooks, STEP, lambda: spoiled.append(SPOILED[what](networks[-1], value)))
    message = diverges(recipe, tmp_path / "run", made)
    assert f"at step {STEP} (epoch 2, batch 2 of 5)" in message
    if what == "gradient":
        assert message.startswith(f"the gradient is not finite: that of `{spoiled[0]}` at step")
    else:
        assert f"before it `{spoiled[0]}` is not finite" in message
    assert newest(tmp_path / "run").step == BATCHES
    figure.count("caught before the step, by name", 1, 1)


@pytest.mark.parametrize("value", VALUES)
def test_input_that_is_not_finite_is_named_by_its_index(value, hooks, tmp_path, figure):
    recipe = small_recipe()
    data = cached_data(recipe)
    spoiled = type(data.train)(data.train.inputs.float(), data.train.labels)
    data = dataclasses.replace(data, train=spoiled)
    rows = sorted(seeds.example_order(len(spoiled), recipe.seed, 1)[45:47].tolist())  # of the second batch of 40

    def spoil():
        spoiled.inputs.view(len(spoiled), -1)[rows, 3] = value

    message = diverges(recipe, tmp_path / "run", before_step(hooks, STEP, spoil), data=data)
    assert (
        f"at step {STEP} (epoch 2, batch 2 of 5); the input is not finite: training examples {rows[0]}, {rows[1]}"
        in message
    )
    figure.count("caught before the step, by name", 1, 1)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", TABLES)
def test_table_of_an_objective_that_is_not_finite_is_named(name, value, hooks, networks, tmp_path, figure):
    # Centroids that are taken from every batch anew would heal at once.
    case = "adaptive, every third step" if name == "adaptive_labels" else name
    recipe = small_recipe(objective=objective_of(case, tmp_path))

    def spoil():
        network = networks[-1]
        values = dict(network.named_parameters()) | dict(network.named_buffers())
        values[TABLES[name]].data[:] = value

    message = diverges(recipe, tmp_path / "run", before_step(hooks, STEP, spoil))
    assert f"before it `{TABLES[name]}` is not finite" in message
    figure.count("caught before the step, by name", 1, 1)


def test_every_objective_is_tried_and_every_table_is_known():
    assert set(OBJECTIVES) <= set(objective_cases())
    without = {"one_hot", "label_smoothing", "confidence_penalty", "teacher_free"}
    assert set(TABLES) | without == set(OBJECTIVES)
    for name in without:
        floating = [key for key, value in build(name, 2, 2).named_buffers() if value.is_floating_point()]
        assert floating == ["output_temperature"]


# ---- ways to make a step


@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"micro_batches": 3, "max_gradient_norm": 0.1}],
    ids=["bf16", "micro-batches, clipped"],
)
def test_gradient_that_is_not_finite_is_seen_however_steps_are_made(changes, hooks, networks, tmp_path):
    made = before_step(hooks, STEP, lambda: spoil_first_gradient(networks[-1], math.inf))
    message = diverges(small_recipe(**changes), tmp_path / "run", made)
    assert message.startswith("the gradient is not finite: that of `encoder.layers.1.weight` at step 7")


def test_gradient_whose_squares_overflow_is_finite(hooks, networks, tmp_path):
    # Its norm is infinite in float32, no number in it is.
    def enlarge():
        weight = next(iter(networks[-1].parameters()))
        weight.register_hook(lambda gradient: torch.full_like(gradient, 1e25))

    before_step(hooks, 2, enlarge)
    recipe = small_recipe(optimizer={"name": "sgd", "learning_rate": 1e-30}, objective="one_hot")
    assert train(recipe, tmp_path / "run")["status"] == "finished"


# ---- what is told of it


def test_diverged_seed_is_counted_and_told_in_table_files_and_report(hooks, networks, tmp_path, monkeypatch, figure):
    make_runs_here(monkeypatch)
    settings = {"data.train_examples": 190, "model.hidden_sizes": [12], "batch_size": 40, "epochs": 2}
    # Ten steps a run: the third run is that of one_hot with the second seed.
    before_step(hooks, 2 * 10 + 4, lambda: spoil_first_gradient(networks[-1], math.nan))
    asked = {"objectives": "one_hot,label_smoothing", "seeds": 2, "settings": settings, "out": tmp_path, "quiet": True}
    made = compare("digits-mlp", **asked, device="cpu")
    assert list(made.failed) == ["one_hot seed 1"]
    reason = "diverged at step 4: the gradient is not finite: that of `encoder.layers.1.weight`"
    told = [made.failed["one_hot seed 1"].startswith(reason)]
    told += [reason in " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())]
    with (tmp_path / "runs.csv").open(newline="") as file:
        [line] = [line for line in csv.DictReader(file) if (line["variant"], line["seed"]) == ("one_hot", "1")]
    told += [line["status"] == "failed" and line["message"].startswith(reason)]
    with (tmp_path / "comparison.csv").open(newline="") as file:
        [row] = [line for line in csv.DictReader(file) if line["variant"] == "one_hot"]
    told += [(row["n"], row["failed_seeds"]) == ("1", "1")]
    assert report.load_comparison(tmp_path).variants[0].failed.keys() == {1}
    assert RunFolder(tmp_path / "runs/one_hot/seed-1").result()["diverged_at_step"] == 4
    figure.count("places that tell of the diverged seed", sum(told), 4)


# ---- fp16


@pytest.fixture
def scaled(monkeypatch):
    """Lets runs on the CPU scale their loss as fp16 does on a GPU."""

    def make(precision, *, device=None):
        accelerator = make_accelerator("float32", device=device)
        accelerator.scaler = torch.amp.GradScaler("cpu")
        return accelerator

    monkeypatch.setattr(trainer, "make_accelerator", make)


@pytest.mark.filterwarnings("ignore:Seems like `optimizer.step:UserWarning")  # Accelerate puts its own in the place
def test_scaled_loss_leaves_out_steps_that_overflow_and_stops_when_all_do(scaled, hooks, networks, tmp_path):
    def overflow_once():
        weight = next(iter(networks[-1].parameters()))
        handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * math.inf)[1])

    before_step(hooks, 2, overflow_once)
    train(small_recipe(), tmp_path / "once")
    # 65,536 halved once.
    assert newest(tmp_path / "once").values["scaler"]["scale"] == 2**15
    hooks.pop().remove()
    made = before_step(hooks, 6, lambda: spoil_first_gradient(networks[-1], math.nan))
    message = r"the gradient is not finite: that of `encoder.layers.1.weight` at step 37 "
    with pytest.raises(TrainingError, match=message):
        train(small_recipe(epochs=10), tmp_path / "always")
    assert len(made) == 36  # five, and 31 halvings from 2 to the 16th to 2 to the -15th
    assert RunFolder(tmp_path / "always").result()["diverged_at_step"] == 37


# ---- several processes


def test_two_processes_stop_alike_with_the_same_words(tmp_path, figure):
    commands = CommandLines(tmp_path)
    settings = ["objective={name: label_embedding, embedding: compressed, rank: 4}", "epochs=3"]
    settings += ["data.train_examples=190", "batch_size=40", "model.hidden_sizes=[12]"]
    settings += ["optimizer={name: sgd, learning_rate: 1e30}"]
    words = train_words(tmp_path / "run", settings)
    ended = [(command.code(), command.output()) for command in start_two(commands, *words)]
    said = [output[output.index("the loss is not finite: ") :].strip() for _, output in ended]
    assert said[0] == said[1]
    figure.count("processes that stopped alike", sum(code == 1 for code, _ in ended), 2)
    assert RunFolder(tmp_path / "run").result()["diverged_at_step"] == 2
