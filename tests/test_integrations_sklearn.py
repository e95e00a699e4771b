"""The classifiers for scikit-learn: its own checks, its tools, and training as a plain loop would do it."""

from __future__ import annotations

import inspect
import pickle
import random
import warnings
from dataclasses import fields
from itertools import pairwise

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
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from labelembed import fit_temperature, seeds
from labelembed.integrations.sklearn import LabelEmbeddingClassifier, ObjectiveClassifier
from labelembed.integrations.sklearn.estimator import NeuralClassifier
from labelembed.objectives import OBJECTIVES
from tests.made_objectives import label_vectors

# As scikit-learn's checks want it right on blobs, and quickly.
QUICK = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.02, "max_iter": 12}


def blobs(number=90, labels=3, seed=0):
    inputs, numbers = make_blobs(number, centers=labels, n_features=4, cluster_std=1.0, random_state=seed)
    return inputs.astype(np.float32), numbers


def of_kind(name, arguments=None, **settings):
    needed = {"embedding": label_vectors(3)} if name == "static_labels" else {}
    return ObjectiveClassifier(name, objective_arguments=needed | (arguments or {}), **(QUICK | settings))


# Between them these cover every way through the estimator: a state, indices, a teacher.
@pytest.mark.parametrize(
    "model",
    [LabelEmbeddingClassifier(), ObjectiveClassifier("distillation")],
    ids=["label_embedding", "distillation"],
)
def test_classifier_passes_the_checks_of_scikit_learn(model):
    ran = 0
    model.set_params(hidden_layer_sizes=(16,), learning_rate_init=0.05, max_iter=6)
    # As for MLPClassifier: the same to 1e-6, and 1e-7 is asked for.
    inexact = {f"check_sample_weight_equivalence_on_{kind}_data": "float32" for kind in ("dense", "sparse")}
    for estimator, check in estimator_checks_generator(model, mark="skip", expected_failed_checks=inexact):
        try:
            check(estimator)
            ran += 1
        except BaseException as error:
            if type(error).__name__ not in ("SkipTest", "Skipped"):  # of the array API and of pandas
                raise
    assert ran >= 50


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_classifies_and_is_kept_by_joblib(name, tmp_path):
    inputs, numbers = blobs()
    fitted = of_kind(name, max_iter=40, random_state=0).fit(inputs, numbers)
    assert fitted.score(inputs, numbers) > 0.95
    said = fitted.predict_proba(inputs)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        np.log(said.clip(1e-30)), fitted.predict_log_proba(inputs).clip(np.log(1e-30)), atol=1e-4
    )
    assert fitted.label_geometry_.names == ("0", "1", "2")
    assert set(fitted.history_[0]) >= {"total", "output"}
    joblib.dump(fitted, tmp_path / "model.joblib")
    opened = joblib.load(tmp_path / "model.joblib")
    assert np.array_equal(opened.predict_proba(inputs), said)
    assert opened.label_geometry_.names == fitted.label_geometry_.names


def test_fields_are_the_arguments_of_the_objective():
    common = {setting.name for setting in fields(NeuralClassifier)}
    own = {field.name: field.default for field in fields(LabelEmbeddingClassifier) if field.name not in common}
    parameters = inspect.signature(OBJECTIVES["label_embedding"]).parameters
    assert own.keys() == parameters.keys() - {"hidden_size", "num_labels", "impl", "common"}
    for field, default in own.items():
        assert default == parameters[field].default, field


def test_fit_is_a_plain_loop():
    """Two layers, SGD with momentum, batches in the order of the seed; the same weights to rounding."""
    inputs, numbers = blobs(50)
    fitted = ObjectiveClassifier(
        "label_smoothing",
        objective_arguments={"smoothing": 0.3},
        hidden_layer_sizes=(8,),
        optimizer="sgd",
        learning_rate_init=0.05,
        schedule="linear",
        batch_size=16,
        max_iter=3,
        random_state=5,
    ).fit(inputs, numbers)
    seed = int(np.random.RandomState(5).randint(2**31 - 1))
    with seeds.seeded(seed, "encoder"):
        hidden = nn.Linear(4, 8)
    with seeds.seeded(seed, "objective"):
        output = nn.Linear(8, 3)
    optimizer = torch.optim.SGD([*hidden.parameters(), *output.parameters()], lr=0.05, momentum=0.9)
    step, totals = 0, []
    for epoch in range(3):
        order = seeds.example_order(50, seed, epoch)
        losses = 0.0
        for start in range(0, 50, 16):
            some = order[start : start + 16]
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 - step / 12)
            logits = output(F.relu(hidden(torch.from_numpy(inputs)[some])))
            loss = F.cross_entropy(logits, torch.from_numpy(numbers)[some], label_smoothing=0.3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            losses += loss.item() * len(some)
        totals.append(losses / 50)
    found = dict(fitted.network_.named_parameters())
    # float32, twelve steps
    torch.testing.assert_close(found["encoder.layers.1.weight"], hidden.weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found["objective.output.weight"], output.weight, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(fitted.loss_curve_, totals, rtol=1e-5)
    assert all(before > after for before, after in pairwise(fitted.loss_curve_))


@pytest.mark.parametrize("name", ["label_embedding", "adaptive_labels"])
def test_same_random_state_gives_the_same_and_no_global_state_moves(name):
    inputs, numbers = blobs()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    make = of_kind(name, random_state=3, dropout=0.2)
    first = make.fit(inputs, numbers).predict_proba(inputs)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert np.array_equal(first, clone(make).fit(inputs, numbers).predict_proba(inputs))
    other = clone(make).set_params(random_state=4).fit(inputs, numbers)
    assert not np.array_equal(first, other.predict_proba(inputs))


@pytest.mark.parametrize(
    "labels", [["cat", "dog", "car"], [-5, 7, 10**12], np.array(["ant", "bee", "cow"], dtype=object), [False, True]]
)
def test_labels_of_any_type_come_back(labels):
    inputs, numbers = blobs(labels=len(labels))
    named = np.asarray(labels)[numbers]
    fitted = ObjectiveClassifier(**QUICK, random_state=0).fit(inputs, named)
    assert fitted.predict(inputs).dtype == named.dtype
    assert list(fitted.classes_) == sorted(set(named))
    assert (fitted.predict(inputs) == named).mean() > 0.95
    assert fitted.label_geometry_.names == tuple(str(label) for label in fitted.classes_)


def test_early_stopping_keeps_the_best_epoch():
    inputs, _ = blobs(120)
    generator = np.random.RandomState(0)
    # Labels that can only be learned by heart: the accuracy on rows held out goes nowhere.
    noise = generator.randint(3, size=120)
    fitted = ObjectiveClassifier(
        max_iter=200, early_stopping=True, n_iter_no_change=4, validation_fraction=0.25, random_state=1
    ).fit(inputs, noise)
    scores = fitted.validation_scores_
    assert fitted.n_iter_ == len(scores) < 200
    assert fitted.best_validation_score_ == max(scores)
    assert fitted.best_iter_ == 1 + int(np.argmax(scores))
    assert max(scores[:-4]) >= max(scores[-4:]) - 1e-4
    # What predicts is the best epoch: trained for just so long, it says the same of the rows.
    again = clone(fitted).set_params(max_iter=fitted.best_iter_, n_iter_no_change=200).fit(inputs, noise)
    assert again.best_iter_ == fitted.best_iter_
    assert np.array_equal(again.predict_proba(inputs), fitted.predict_proba(inputs))
    assert ObjectiveClassifier(max_iter=1).fit(inputs, noise).validation_scores_ is None


def test_what_only_training_remembers_is_not_pickled():
    inputs, numbers = blobs(2_000)
    fitted = of_kind("retrospection", {"store_every": 2}, max_iter=6, random_state=0).fit(inputs, numbers)
    assert "stored soft labels" in fitted.label_geometry_.source
    assert fitted.history_[-1]["retrospection"] > 0
    assert fitted.network_.objective.store.num_examples == 0
    plain = ObjectiveClassifier(**(QUICK | {"max_iter": 6}), random_state=0).fit(inputs, numbers)
    # The store would be 2,000 rows of 3 labels in float16 and their labels: 20,000 bytes.
    assert len(pickle.dumps(fitted)) < len(pickle.dumps(plain)) + 10_000


def test_sparse_rows_are_the_same_as_dense_ones():
    inputs, numbers = blobs()
    inputs[np.abs(inputs) < 2] = 0
    for name in ("adaptive_labels", "distillation"):
        dense = of_kind(name, max_iter=4, random_state=0).fit(inputs, numbers)
        compact = of_kind(name, max_iter=4, random_state=0).fit(sparse.csr_matrix(inputs), numbers)
        assert np.array_equal(dense.predict_proba(inputs), compact.predict_proba(sparse.csr_array(inputs)))


def test_probabilities_are_scaled_on_the_validation_set():
    inputs, numbers = load_digits(return_X_y=True)
    inputs = inputs.astype(np.float32) / 16
    train, test = slice(0, 1_200), slice(1_200, None)
    model = LabelEmbeddingClassifier(hidden_layer_sizes=(64,), max_iter=15, random_state=0)
    fitted = clone(model).fit(inputs[train], numbers[train])
    plain = clone(model).set_params(calibrate=False).fit(inputs[train], numbers[train])
    assert plain.output_temperature_ == 1
    # Soft targets leave a network under-confident: what is fitted makes it surer, and tells what MLPClassifier tells.
    assert fitted.output_temperature_ < 0.8
    losses = [log_loss(numbers[test], each.predict_proba(inputs[test])) for each in (fitted, plain)]
    assert losses[0] < 0.75 * losses[1]
    reference = MLPClassifier((64,), max_iter=15, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference.fit(inputs[train], numbers[train])
    assert losses[0] < 1.5 * log_loss(numbers[test], reference.predict_proba(inputs[test]))
    # The temperature is that of the held-out tenth, which was not trained on.
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    kept, held = train_test_split(np.arange(1_200), test_size=0.1, stratify=numbers[train], random_state=seed % 2**32)
    logits = fitted.predict_log_proba(inputs[held]) * fitted.output_temperature_
    assert fitted.output_temperature_ == pytest.approx(fit_temperature(logits, numbers[held]), rel=1e-3)
    alone = clone(model).set_params(calibrate=False)
    alone._split = lambda examples, seed: (examples.select(kept), None)
    alone.fit(inputs[train], numbers[train])
    np.testing.assert_allclose(alone.predict(inputs[test]), fitted.predict(inputs[test]))
    # Nothing is held out of few examples.
    assert ObjectiveClassifier(**QUICK).fit(*blobs(300)).output_temperature_ == 1


@pytest.mark.parametrize("name", ["label_embedding", "distillation", "retrospection"])
def test_weights_are_repeated_examples(name):
    inputs, numbers = blobs(40)
    weights = np.arange(40) % 3
    weighted = of_kind(name, random_state=0).fit(inputs, numbers, sample_weight=weights)
    repeated = of_kind(name, random_state=0).fit(inputs.repeat(weights, axis=0), numbers.repeat(weights))
    # One batch an epoch: the means are the same to the rounding of float32.
    np.testing.assert_allclose(weighted.predict_proba(inputs), repeated.predict_proba(inputs), rtol=1e-3, atol=1e-5)


def test_weights_of_classes_are_weights_of_their_examples():
    inputs, numbers = blobs(60)
    inputs, numbers = inputs[numbers < 2], numbers[numbers < 2]
    named = np.array(["cat", "dog"])[numbers]
    by_class = ObjectiveClassifier(**QUICK, class_weight={"cat": 1.0, "dog": 5.0}, random_state=0).fit(inputs, named)
    by_example = ObjectiveClassifier(**QUICK, random_state=0).fit(inputs, named, sample_weight=1.0 + 4.0 * numbers)
    np.testing.assert_allclose(by_class.predict_proba(inputs), by_example.predict_proba(inputs), rtol=1e-4, atol=1e-6)
    even = ObjectiveClassifier(**QUICK, class_weight="balanced", random_state=0).fit(inputs[5:], named[5:])
    counts = np.unique(named[5:], return_counts=True)[1]
    np.testing.assert_allclose(even.network_.objective.weight, len(named[5:]) / 2 / counts, rtol=1e-5)
    with pytest.raises(ValueError, match="`class_weight` and the objective's `weight`"):
        of_kind("one_hot", {"weight": [1.0, 2.0]}, class_weight="balanced").fit(inputs, named)


def test_grid_search_and_cross_validation_in_a_pipeline():
    inputs, numbers = load_digits(return_X_y=True)
    inputs, numbers = inputs[:300], numbers[:300]
    model = make_pipeline(StandardScaler(), LabelEmbeddingClassifier(**QUICK, random_state=0))
    grid = {
        "labelembeddingclassifier__temperature": np.array([1.0, 3.0]),
        "labelembeddingclassifier__hidden_layer_sizes": [(8,), (32, 16)],
    }
    found = GridSearchCV(model, grid, cv=2).fit(inputs, numbers)
    assert len(found.cv_results_["mean_test_score"]) == 4
    assert found.best_score_ > 0.7
    assert found.best_params_["labelembeddingclassifier__hidden_layer_sizes"] == (32, 16)
    scores = cross_val_score(model, inputs, numbers, cv=3)
    assert scores.mean() > 0.7


def test_an_encoder_of_ones_own_is_copied_and_learns():
    inputs, numbers = blobs()
    pictures = inputs.reshape(-1, 1, 2, 2)
    encoder = nn.Sequential(nn.Conv2d(1, 6, 2), nn.Flatten(), nn.BatchNorm1d(6), nn.ReLU())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    # 91 rows in batches of 30: the last would be of one row, which no batch normalisation takes.
    pictures, numbers = np.concatenate([pictures, pictures[:1]]), np.concatenate([numbers, numbers[:1]])
    fitted = LabelEmbeddingClassifier(
        encoder=encoder, batch_size=30, learning_rate_init=0.05, max_iter=10, random_state=0
    ).fit(pictures, numbers)
    assert fitted.score(pictures, numbers) > 0.95
    assert fitted.network_.objective.hidden_size == 6
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_distillation_learns_from_the_teacher_it_is_given():
    inputs, numbers = blobs()
    other = (numbers + 1) % 3
    teacher = LogisticRegression().fit(inputs, other)
    arguments = {"teacher": FrozenEstimator(teacher), "teacher_weight": 1.0}
    student = of_kind("distillation", arguments, max_iter=30, random_state=0).fit(inputs, numbers)
    # With all the weight on a teacher that is wrong everywhere, the student is wrong everywhere.
    assert student.score(inputs, other) > 0.95
    fitted = of_kind("distillation", random_state=0).fit(inputs, numbers)
    assert fitted.teacher_.objective == "one_hot"
    assert fitted.teacher_.hidden_layer_sizes == (16,)
    unknown = LogisticRegression().fit(inputs, numbers + 5)
    with pytest.raises(ValueError, match=r"`teacher` must know the labels \[.*0.*\], got \[.*5"):
        of_kind("distillation", {"teacher": FrozenEstimator(unknown)}).fit(inputs, numbers)


def test_geometry_of_labels_by_name_trains_whatever_its_order():
    inputs, numbers = blobs()
    names = np.array(["cat", "dog", "car"])[numbers]
    taught = LabelEmbeddingClassifier(**QUICK, random_state=0).fit(inputs, names).label_geometry_
    shuffled = taught.select(["dog", "cat", "car"])
    first, second = (
        LabelEmbeddingClassifier(**QUICK, embedding=geometry, random_state=0).fit(inputs, names)
        for geometry in (taught, shuffled)
    )
    assert np.array_equal(first.predict_proba(inputs), second.predict_proba(inputs))
    with pytest.raises(ValueError, match=r"`embedding` must have every label by its name, and has none for 0"):
        LabelEmbeddingClassifier(**QUICK, embedding=taught).fit(inputs, numbers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adan"}, r"`optimizer` must be one of 'adam', 'adamw', 'sgd', got 'adan' \(did you mean 'adam'"),
        ({"batch_size": 0}, "`batch_size` must be 'auto' or a whole number >= 1, got 0"),
        ({"max_iter": 1.5}, "`max_iter` must be a whole number >= 1, got 1.5"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must be between 0 and 1, got 1.0"),
        ({"temperature": 0.0}, "`temperature` must be > 0, got 0.0"),
        ({"temperature": "warm"}, "`temperature` must be"),
        ({"encoder": 3}, "`encoder` must be a torch module, a function that makes one, or None, got 3"),
        ({"hidden_layer_sizes": ()}, "`hidden_sizes` must be one or more widths >= 1"),
        ({"learning_rate_init": 1e30, "optimizer": "sgd"}, "the loss is not finite: term"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    inputs, numbers = blobs()
    with pytest.raises(ValueError, match=message):
        LabelEmbeddingClassifier(**(QUICK | settings)).fit(inputs, numbers)


def test_wrong_objectives_are_named():
    inputs, numbers = blobs()
    with pytest.raises(ValueError, match=r"unknown objective 'one_hut' \(did you mean 'one_hot'\?\)"):
        ObjectiveClassifier("one_hut").fit(inputs, numbers)
    with pytest.raises(ValueError, match=r"`smoothin` unknown key \(did you mean 'smoothing'\?\)"):
        ObjectiveClassifier("label_smoothing", objective_arguments={"smoothin": 0.1}).fit(inputs, numbers)
    with pytest.raises(ValueError, match="`embedding` missing"):
        ObjectiveClassifier("static_labels").fit(inputs, numbers)
    with pytest.raises(NotFittedError):
        ObjectiveClassifier().predict(inputs)
