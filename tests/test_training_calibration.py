"""The temperature of a run: fitted after training, in its folder, used by what predicts; left out where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import calibrate, predicted_logits
from labelembed.metrics import classification_metrics, fit_temperature
from tests.made_cli import call, succeed
from tests.made_training import cached_data, contents, differences, small_recipe, timeless, train

TRAIN = ["train", "digits-mlp", "--set", "epochs=2", "--set", "model.hidden_sizes=[8]", "--out", "run", "--quiet"]


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
    # And the metrics are those of what it predicts; float32 rounds the probabilities.
    assert classification_metrics(probabilities.log(), test.labels)["nll"] == pytest.approx(
        result["calibrated"]["test"]["nll"], abs=1e-5
    )


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
    words = "fitted on the validation examples" if is_fitted else "not fitted, 49 validation examples are fewer than 50"
    assert found["calibration"] == words


@pytest.mark.parametrize(("factor", "is_extreme"), [(0.1, True), (1.0, False), (200.0, True)])
def test_extreme_temperature_is_noted(finished, factor, is_extreme):
    recipe, folder, result = finished
    saved = SavedRun.load(folder)
    with torch.no_grad():
        for value in saved.network.objective.output.parameters():
            value.mul_(factor)
    found = calibrate(saved.network, cached_data(recipe))
    assert found["temperature"] == pytest.approx(factor * result["temperature"], rel=1e-3)
    noted = found["calibration"].endswith("; extreme, outside 0.05 to 20: compare the NLL before and after")
    assert noted == is_extreme


def test_the_command_line_says_what_came_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = succeed(*TRAIN).out.splitlines()[1]
    assert line.startswith("temperature ")
    assert "fitted on the validation examples: test NLL" in line
    assert succeed(*TRAIN, "--set", "calibration=false", "--overwrite").out.splitlines()[1] == (
        "no temperature: calibration is off"
    )
    assert "calibration: false\n" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert succeed(*TRAIN, "--set", "data.validation=null", "--overwrite").out.splitlines()[1] == (
        "no temperature: not fitted, there are no validation examples"
    )
    few = ("--set", "data.validation={examples: 7}", "--overwrite")
    why = "7 validation examples are fewer than 50"
    assert succeed(*TRAIN, *few).out.splitlines()[1] == f"no temperature: not fitted, {why}"
    assert why in (succeed("export", "run", "--format", "card"), Path("run/README.md").read_text())[1]


def test_rows_of_a_step_may_grow_with_the_labels(tmp_path):
    by_label = small_recipe(batch_size={"per_label": 4})
    result = train(by_label, tmp_path / "by-label")
    assert result["batch_size"] == 40
    assert by_label.of_one_run()["batch_size"] == {"per_label": 4}
    assert "batch_size: {per_label: 4}\n" in (tmp_path / "by-label" / "recipe.yaml").read_text()
    plain = train(small_recipe(batch_size=40), tmp_path / "plain")
    assert timeless(result) == timeless(plain)
    assert train(by_label, tmp_path / "by-label") == result  # reads its own recipe back


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{per_label: 0}", "batch_size: must be >= 1, got 0"),
        ("{per_label: many}", "batch_size: must be a whole number, got 'many'"),
        ("{rows: 50}", "batch_size: must be a number of examples, {per_label: EXAMPLES}"),
    ],
)
def test_rows_of_a_step_that_cannot_be_are_refused(value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = call(*TRAIN, "--set", f"batch_size={value}")
    assert refused.code == 2
    assert message in refused.err
    assert not (tmp_path / "run").exists()
