"""The classifier for scikit-learn: its own checks, its tools, and training as a plain loop would do it."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from labelembed import seeds
from labelembed.geometry import LabelGeometry
from labelembed.integrations.sklearn import ObjectiveClassifier
from labelembed.objectives import OBJECTIVES
from tests.made_objectives import label_vectors

# As scikit-learn's checks want it: right on blobs, and quick.
QUICK = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.05, "max_iter": 12}
# Weights are repeated examples to 1e-6, the precision of float32; 1e-7 is asked for.
FLOAT32 = {f"check_sample_weight_equivalence_on_{kind}_data": "float32" for kind in ("dense", "sparse")}


def blobs(number=90, labels=3):
    inputs, numbers = make_blobs(number, centers=labels, n_features=4, cluster_std=1.0, random_state=0)
    return inputs.astype(np.float32), numbers


def made(name="one_hot", arguments=None, **settings):
    needed = {"static_labels": {"embedding": label_vectors(3)}, "retrospection": {"store_every": 2}}.get(name, {})
    return ObjectiveClassifier(name, objective_arguments=needed | (arguments or {}), **(QUICK | settings))


# Between them these cover every way through the estimator: a state, indices, a teacher.
@parametrize_with_checks(
    [ObjectiveClassifier(name, **(QUICK | {"max_iter": 6})) for name in ("label_embedding", "distillation")],
    expected_failed_checks=lambda estimator: FLOAT32,
    xfail_strict=False,  # the smallest weights may round alike
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_classifier_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_classifies_and_is_kept_by_joblib(name, tmp_path):
    inputs, numbers = blobs()
    before = torch.get_rng_state()
    fitted = made(name, max_iter=30, random_state=0).fit(inputs, numbers)
    assert torch.equal(torch.get_rng_state(), before)
    assert fitted.score(inputs[::-1], numbers[::-1]) > 0.95
    probabilities = fitted.predict_proba(inputs)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(inputs)), probabilities, atol=1e-6)
    assert fitted.label_geometry_.names == ("0", "1", "2")
    assert set(fitted.history_[0]) >= {"total", "output"}
    joblib.dump(fitted, tmp_path / "model.joblib")
    opened = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(opened.predict_proba(inputs), probabilities)
    assert opened.label_geometry_.names == fitted.label_geometry_.names


def test_fit_is_a_plain_loop():
    """One hidden layer, SGD with momentum, a cosine; the same weights to rounding."""
    inputs, numbers = blobs(50)
    settings = {"hidden_layer_sizes": 8, "optimizer": "sgd", "schedule": "cosine", "batch_size": 16, "max_iter": 3}
    fitted = made("label_smoothing", {"smoothing": 0.3}, random_state=5, **settings).fit(inputs, numbers)
    seed = int(np.random.RandomState(5).randint(2**31 - 1))
    with seeds.seeded(seed, "encoder"):
        hidden = nn.Linear(4, 8)
        nn.init.xavier_uniform_(hidden.weight)
    with seeds.seeded(seed, "objective"):
        network = nn.Sequential(hidden, nn.ReLU(), nn.Linear(8, 3))
        nn.init.xavier_uniform_(network[2].weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    totals = []
    for epoch in range(3):
        for some in seeds.example_order(50, seed, epoch).split(16):
            logits = network(torch.from_numpy(inputs)[some])
            loss = F.cross_entropy(logits, torch.from_numpy(numbers)[some], label_smoothing=0.3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            totals.append(loss.item() * len(some) / 50)
    # float32, twelve steps
    trained = nn.Sequential(*fitted.network_.encoder, fitted.network_.objective.output).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained[name], value, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(fitted.loss_curve_, np.reshape(totals, (3, 4)).sum(axis=1), rtol=1e-5)


def test_early_stopping_keeps_the_best_epoch():
    inputs, _ = blobs(120)
    noise = np.random.RandomState(0).randint(3, size=120)  # can only be memorised: the accuracy on others goes nowhere
    settings = {"early_stopping": True, "n_iter_no_change": 4, "validation_fraction": 0.25}
    fitted = ObjectiveClassifier(max_iter=200, random_state=1, **settings).fit(inputs, noise)
    scores = fitted.validation_scores_
    assert fitted.n_iter_ == len(scores) < 200
    assert fitted.best_iter_ == 1 + int(np.argmax(scores))
    # What predicts is the best epoch: trained for just so long, it gives the same.
    again = clone(fitted).set_params(max_iter=fitted.best_iter_, n_iter_no_change=200).fit(inputs, noise)
    assert np.array_equal(again.predict_proba(inputs), fitted.predict_proba(inputs))


@pytest.mark.parametrize("name", ["adaptive_labels", "distillation"])
def test_sparse_inputs_are_the_same_as_dense_ones(name):
    inputs, numbers = blobs()
    inputs[np.abs(inputs) < 2] = 0
    forms = inputs, sparse.csr_matrix(inputs)
    dense, compact = (made(name, random_state=0).fit(form, numbers).predict_proba(form) for form in forms)
    assert np.array_equal(dense, compact)


def test_probabilities_are_calibrated_on_the_validation_set():
    inputs, numbers = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(inputs / 16, numbers, stratify=numbers, random_state=0)
    model = ObjectiveClassifier("label_embedding", hidden_layer_sizes=(64,), max_iter=30, random_state=0)
    fitted = clone(model).set_params(calibrate=True).fit(train_x, train_y)
    plain = clone(model).fit(train_x, train_y)
    assert plain.output_temperature_ == 1
    # Soft targets leave a network under-confident.
    assert fitted.output_temperature_ < 0.8
    losses = [log_loss(test_y, each.predict_proba(test_x)) for each in (fitted, plain)]
    assert losses[0] < 0.75 * losses[1]
    assert made(calibrate=True).fit(*blobs(300)).output_temperature_ == 1  # of few examples nothing is held out


@pytest.mark.parametrize("name", ["label_embedding", "distillation", "retrospection"])
def test_weights_are_repeated_examples(name):
    inputs, numbers = blobs(40)
    weights = np.arange(40) % 3
    weighted = made(name, random_state=0).fit(inputs, numbers, sample_weight=weights)
    repeated = made(name, random_state=0).fit(inputs.repeat(weights, axis=0), numbers.repeat(weights))
    # One batch an epoch: the means are the same to the rounding of float32.
    np.testing.assert_allclose(weighted.predict_proba(inputs), repeated.predict_proba(inputs), rtol=1e-3, atol=1e-5)
    tables = [one.label_geometry_.soft_targets() for one in (weighted, repeated)]
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-4)


def test_a_hold_out_that_leaves_too_few_to_train_on_is_left_out():
    assert made(calibrate=True, validation_fraction=0.99).fit(*blobs(200)).output_temperature_ == 1


def test_class_weights_are_weights_of_their_examples():
    inputs, numbers = blobs(60, labels=2)
    named = np.array(["cat", "dog"])[numbers]
    by_class = made(class_weight={"cat": 1.0, "dog": 5.0}, random_state=0).fit(inputs, named)
    by_example = made(random_state=0).fit(inputs, named, sample_weight=1.0 + 4.0 * numbers)
    np.testing.assert_allclose(by_class.predict_proba(inputs), by_example.predict_proba(inputs), rtol=1e-4, atol=1e-6)
    rare = made(class_weight="balanced").fit(*blobs(100)).network_.objective.weight
    torch.testing.assert_close(rare, torch.tensor([100 / 34 / 3, 100 / 33 / 3, 100 / 33 / 3]))
    with pytest.raises(ValueError, match="class_weight"):
        made("one_hot", {"weight": [1.0, 2.0]}, class_weight="balanced").fit(inputs, named)


def test_an_encoder_of_your_own_is_copied_and_learns():
    inputs, numbers = blobs(91)  # in batches of 30: the last would be of one example, which batch normalisation refuses
    encoder = nn.Sequential(nn.Conv2d(1, 6, 2), nn.Flatten(), nn.BatchNorm1d(6), nn.ReLU())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = made("label_embedding", encoder=encoder, batch_size=30, random_state=0)
    assert model.fit(inputs.reshape(-1, 1, 2, 2), numbers).score(inputs.reshape(-1, 1, 2, 2), numbers) > 0.95
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    of_features = made(encoder=lambda features: nn.Linear(features, 7)).fit(inputs, numbers)
    assert of_features.network_.objective.hidden_size == 7


def test_distillation_learns_from_the_teacher_it_is_given():
    inputs, numbers = blobs()
    other = (numbers + 1) % 3
    teacher = FrozenEstimator(LogisticRegression().fit(inputs, other))
    student = made("distillation", {"teacher": teacher, "teacher_weight": 1.0}, max_iter=30).fit(inputs, numbers)
    assert student.score(inputs, other) > 0.95  # as wrong as its teacher
    assert made("distillation").fit(inputs, numbers).teacher_.objective == "one_hot"
    with pytest.raises(ValueError, match="teacher"):
        made("distillation", {"teacher": teacher}).fit(inputs, numbers + 5)


def test_geometry_is_found_by_the_names_of_the_classes():
    inputs, numbers = blobs()
    names = np.array(["cat", "dog", "car"])[numbers]
    vectors = LabelGeometry(("cat", "car", "dog"), vectors=torch.eye(3))
    fitted = made("static_labels", {"embedding": vectors}).fit(inputs, names)
    assert fitted.network_.objective.vectors.argmax(dim=1).tolist() == [1, 0, 2]  # car, cat, dog
    with pytest.raises(KeyError, match="0"):
        made("static_labels", {"embedding": vectors}).fit(inputs, numbers)


def test_all_that_is_wrong_is_named_at_once():
    inputs, numbers = blobs()
    settings = {"optimizer": "adan", "batch_size": 0, "max_iter": 1.5, "validation_fraction": 1.0, "encoder": 3}
    with pytest.raises(ValueError, match="optimizer") as refused:
        made("label_smoothin", learning_rate_init=-1.0, weight_decay=-0.1, **settings).fit(inputs, numbers)
    lines = str(refused.value).splitlines()
    assert len(lines) == 8
    for name in (*settings, "objective", "learning_rate_init", "weight_decay"):
        assert any(line.startswith(f"`{name}`") for line in lines), name
    with pytest.raises(TypeError, match="smoothin"):
        made("label_smoothing", {"smoothin": 0.1}).fit(inputs, numbers)
    with pytest.raises(ValueError, match="learning_rate_init"):
        made(learning_rate_init=1e30, optimizer="sgd").fit(inputs, numbers)
    with pytest.raises(NotFittedError):
        made().predict(inputs)
