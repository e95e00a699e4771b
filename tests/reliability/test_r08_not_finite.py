"""R8: NaN and infinity are caught before the step that they would spoil, by name, whatever they are in."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from labelembed.lab.errors import TrainingError
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer
from labelembed.objectives import OBJECTIVES, Objective
from tests.made_objectives import build
from tests.made_survival import Case
from tests.made_training import BATCHES, newest, objective_cases, small_recipe, train, with_saved_geometry
from tests.reliability.figures import sized

# The step before which something is spoiled, from 1: the second of the second epoch.
STEP = 7
# What an objective keeps of the labels or the examples.
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
    """Collects the networks that are trained."""
    trained, fit = [], Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda trainer: (trained.append(trainer.network), fit(trainer))[1])
    return trained


def before_step(hooks, step, act):
    """Calls `act` once, when the step before the given one has been made; returns the steps made."""
    made = []

    def count(*_):
        made.append(1)
        if len(made) == step - 1:
            act()

    hooks.append(register_optimizer_step_post_hook(count))
    return made


def failure(recipe, folder):
    """Trains, which must fail; the folder must say why and hold nothing that is not finite. Returns the message."""
    with pytest.raises(TrainingError) as error:
        train(recipe, folder)
    result = RunFolder(folder).result()
    assert (error.value.exit_code, RunFolder(folder).state()) == (1, "failed")
    assert (result["message"], result["diverged_at_step"]) == (str(error.value), error.value.step)
    assert not (folder / "model.safetensors").exists()
    checkpoint, damaged = load_newest(folder / "checkpoints")
    assert damaged == []
    for tensors in checkpoint.tensors.values() if checkpoint else ():
        assert all(torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point())
    return str(error.value)


def spoil_term(hooks, step, term, value):
    """Replaces a term of the objective, and the total, at one step (from 1)."""
    made = []

    def spoil(module, arguments, terms):
        if isinstance(module, Objective):
            made.append(1)
        if not isinstance(module, Objective) or len(made) != step:
            return None
        return terms._replace(total=terms.total * math.nan, **{term: getattr(terms, term) * 0 + value})

    hooks.append(register_module_forward_hook(spoil))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_term_that_is_not_finite_ends_the_run_by_name(name, hooks, tmp_path, figure):
    terms = build(name, 2, 2)(torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([0, 1]))._fields[1:]
    recipe = small_recipe(objective=with_saved_geometry(objective_cases()[name], tmp_path))
    for number, term in enumerate(sized(short=terms[-1:], full=terms)):
        spoil_term(hooks, STEP, term, math.inf)
        assert f"term `{term}` is inf at step 7 (epoch 2, batch 2 of 5)" in failure(recipe, tmp_path / str(number))
        assert newest(tmp_path / str(number)).step == BATCHES
        hooks.pop().remove()
        figure.count("caught before the step, by name", 1, 1)


@pytest.mark.parametrize(
    ("step", "name", "value", "message"),
    [
        # No prediction depends on E, so that no metric shows it.
        (BATCHES, TABLES["label_embedding"], math.inf, "weights are not finite after step 5 (epoch 1)"),
        # In the middle of an epoch, where a save is due after each step.
        (3, "encoder.layers.1.weight", math.nan, "weights are not finite after step 3 (epoch 1)"),
    ],
)
def test_network_that_is_not_finite_is_neither_saved_nor_selected(
    step, name, value, message, hooks, networks, tmp_path
):
    before_step(hooks, step + 1, lambda: networks[-1].get_parameter(name).data[0].fill_(value))
    model = {"name": "mlp", "hidden_sizes": [12]}  # no dropout
    recipe = small_recipe(model=model, checkpoints={"every_steps": 1, "minimum_seconds": 1000.0})
    assert message in failure(recipe, tmp_path / "run")
    assert newest(tmp_path / "run").step == step - 1


# ---- every objective, whatever is spoiled, however steps are made


def spoil_weight(network, value):
    next(iter(network.parameters())).data.view(-1)[0] = value
    return "is not finite"


def spoil_gradient(network, value):
    name, weight = next(iter(network.named_parameters()))
    weight.register_hook(lambda gradient: gradient + torch.zeros_like(gradient).index_fill_(0, torch.tensor(0), value))
    return f"the gradient is not finite: that of `{name}` at step"


def spoil_table(network, value):
    values = dict(network.named_parameters()) | dict(network.named_buffers())
    name = next(name for name in TABLES.values() if name in values)
    values[name].data[:] = value
    return "is not finite"


CASES = [(name, spoil, {}) for name in OBJECTIVES for spoil in (spoil_weight, spoil_gradient)]
CASES += [(name, spoil_table, {}) for name in TABLES]
CASES += [("one_hot", spoil_gradient, {"precision": "bf16"})]
CASES += [("one_hot", spoil_gradient, {"micro_batches": 3, "max_gradient_norm": 0.1})]


@pytest.mark.parametrize("value", sized(short=[math.nan], full=[math.nan, math.inf]))
@pytest.mark.parametrize(("name", "spoil", "changes"), CASES)
def test_what_is_not_finite_moves_no_weight(name, spoil, changes, value, hooks, networks, tmp_path, figure):
    # Centroids that are taken from every batch anew would heal at once.
    case = "adaptive, every third step" if (name, spoil) == ("adaptive_labels", spoil_table) else name
    objective = objective_cases()[case] | ({"store_every": 1} if name == "retrospection" else {})
    recipe = small_recipe(objective=with_saved_geometry(objective, tmp_path), **changes)
    said = []
    made = before_step(hooks, STEP, lambda: said.append(spoil(networks[-1], value)))
    message = failure(recipe, tmp_path / "run")
    assert len(made) == STEP - 1
    assert f"at step {STEP} (epoch 2, batch 2 of 5)" in message
    assert said[0] in message
    assert newest(tmp_path / "run").step == BATCHES
    figure.count("caught before the step, by name", 1, 1)


def test_two_processes_stop_alike_with_the_same_words(commands, tmp_path, figure):
    settings = ["objective={name: label_embedding, embedding: compressed, rank: 4}", "epochs=3"]
    settings += ["data.train_examples=190", "batch_size=40", "model.hidden_sizes=[12]"]
    settings += ["optimizer={name: sgd, learning_rate: 1e30}"]
    case = Case("digits-mlp", settings, 15, processes=2)
    started = case.start(commands, case.train(tmp_path / "run"))
    ended = [(command.code(), command.output()) for command in started]
    said = [output[output.index("the loss is not finite: ") :].strip() for _, output in ended]
    assert said[0] == said[1]
    figure.count("processes that stopped alike", sum(code == 1 for code, _ in ended), 2)
    assert RunFolder(tmp_path / "run").result()["diverged_at_step"] == 2
