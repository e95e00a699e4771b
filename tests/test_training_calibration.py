"""The temperature of a run: fitted after training, in its folder, used by what predicts; left out where asked."""

from __future__ import annotations

import json

import pytest
import torch

from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import calibrate, predicted_logits
from labelembed.metrics import fit_temperature
from tests.made_training import cached_data, contents, differences, small_recipe, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe, its folder and what it reached; tests only read them."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    recipe = small_recipe(objective={"name": "label_smoothing", "smoothing": 0.5}, epochs=6)
    return recipe, folder, train(recipe, folder)


def test_the_temperature_is_that_of_the_selected_weights_on_the_validation_rows(finished):
    recipe, folder, result = finished
    data, saved = cached_data(recipe), SavedRun.load(folder)
    logits = predicted_logits(saved.network, data.validation.inputs)
    assert result["temperature"] == fit_temperature(logits, data.validation.labels)
    assert result["temperature"] < 1  # smoothing leaves a network unsure
    assert result == json.loads((folder / "result.json").read_text())
    assert result["calibration"] == "fitted on the validation examples"


def test_a_saved_run_predicts_and_evaluates_with_it(finished):
    recipe, folder, result = finished
    test, saved = cached_data(recipe).test, SavedRun.load(folder)
    assert saved.output_temperature == result["temperature"]
    probabilities = saved.probabilities(test.inputs)
    expected = (predicted_logits(saved.network, test.inputs) / result["temperature"]).softmax(dim=1)
    assert torch.equal(probabilities, expected)
    assert saved.evaluate_both(test) == (result["test"], result["calibrated"]["test"])


def test_off_means_off_and_nothing_but_the_result_depends_on_it(finished, tmp_path):
    recipe, folder, result = finished
    off = train(recipe.model_copy(update={"calibration": False}), tmp_path / "run")
    assert differences(contents(folder), contents(tmp_path / "run")) == ["result"]
    assert (off["temperature"], off["calibration"], off["calibrated"]) == (None, "off", None)
    assert off["test"] == result["test"]
    assert SavedRun.load(tmp_path / "run").output_temperature == 1.0


@pytest.mark.parametrize(("examples", "is_fitted"), [(49, False), (50, True)])
def test_on_a_handful_of_validation_examples_it_is_not_fitted_and_said(finished, examples, is_fitted):
    recipe, folder, _ = finished
    data, saved = cached_data(recipe), SavedRun.load(folder)
    few = type(data)(**{**vars(data), "validation": data.validation.select(torch.arange(examples))})
    found = calibrate(saved.network, few)
    assert (found["temperature"] is not None, found["calibrated"] is not None) == (is_fitted, is_fitted)
    assert ("not fitted" in found["calibration"]) == (not is_fitted)
