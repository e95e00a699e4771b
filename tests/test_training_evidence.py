"""What a run leaves for the report: counted by hand beside it, and small."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.schema import parse_recipe
from labelembed.lab.report import write_report
from labelembed.lab.runs.options import RunOptions, peak_memory, reset_peak_memory
from labelembed.lab.runs.run import run_recipe, start_over
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import ExampleOutcomes, RunFolder
from tests.made_corpus_runs import sequence_recipe

DIGITS = {
    "data": {"name": "digits", "validation": {"fraction": 0.15}},
    "model": {"name": "mlp", "hidden_sizes": [16]},
    "objective": {"name": "one_hot"},
    "epochs": 1,
    "batch_size": 100,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "run"
    published = [{"objective": "one_hot", "value": 0.01, "source": "a paper"}]
    run_recipe(parse_recipe(DIGITS | {"published": published}, source="test"), folder, options=RunOptions(device="cpu"))
    return folder


def test_evidence_is_what_the_saved_network_does(digits):
    saved = SavedRun.load(digits)
    rows = saved.read_data().splits["test"]
    shares = saved.network.logits(rows.inputs).detach().double().softmax(dim=1).numpy()
    labels = rows.labels.numpy()
    wrong = {}
    for share, label in zip(shares, labels, strict=True):
        predicted = int(share.argmax())
        if predicted != label:
            wrong[int(label), predicted] = wrong.get((int(label), predicted), 0) + 1
    found = RunFolder(digits).read("diagnostics/errors.json")
    assert {(right, predicted): count for right, predicted, count in found["confusions"]} == wrong
    assert found["of_label"] == np.bincount(labels, minlength=10).tolist()
    counts = found["reliability"]["before"]["count"]
    assert counts == [sum(b / 15 < top <= (b + 1) / 15 for top in shares.max(axis=1)) for b in range(15)]
    assert sum(found["reliability"]["calibrated"]["count"]) == len(labels)
    own = shares[np.arange(len(labels)), labels]
    mistaken = [row for row in range(len(labels)) if shares[row].argmax() != labels[row]]
    worst = sorted(mistaken, key=lambda row: own[row])[:12]
    assert [one["row"] for one in found["worst"]] == worst
    picture = Image.open(io.BytesIO(base64.b64decode(found["worst"][0]["png"])))
    assert np.array_equal(np.asarray(picture), (rows.inputs[worst[0], 0].double() * 255 / 16).round().numpy())
    assert (digits / "diagnostics" / "errors.json").stat().st_size < 20_000


def test_outcome_of_every_test_example_is_kept(digits):
    saved, folder = SavedRun.load(digits), RunFolder(digits)
    rows, result = saved.read_data().splits["test"], folder.result()
    logits = saved.network.logits(rows.inputs).detach().double()
    found = folder.examples()
    assert found.split == "test"
    assert found.right.tolist() == (logits.argmax(dim=1) == rows.labels).tolist()
    assert result["test"]["error"] == pytest.approx(1 - found.right.mean(), abs=1e-12)
    # float16 has 11 bits.
    for kept, temperature, measured in (
        (found.nll, 1.0, result["test"]["nll"]),
        (found.nll_calibrated, result["temperature"], result["calibrated"]["test"]["nll"]),
    ):
        losses = torch.nn.functional.cross_entropy(logits / temperature, rows.labels, reduction="none").numpy()
        np.testing.assert_allclose(kept.astype(np.float64), losses, rtol=2**-10, atol=1e-6)
        assert kept.astype(np.float64).mean() == pytest.approx(measured, rel=1e-3)
    # A bit and two times two bytes an example, and the header.
    assert folder.examples_file.stat().st_size < len(rows) * 4.125 + 400


@pytest.mark.parametrize("examples", [1, 8, 13])
@pytest.mark.parametrize("has_temperature", [False, True])
def test_outcomes_are_read_as_they_were_written(examples, has_temperature, tmp_path):
    random = np.random.default_rng(examples)
    nll = random.exponential(size=examples).astype(np.float16)
    outcomes = ExampleOutcomes("validation", random.random(examples) < 0.5, nll, nll / 2 if has_temperature else None)
    RunFolder(tmp_path).write_examples(outcomes)
    found = RunFolder(tmp_path).examples()
    assert (found.split, found.right.tolist(), found.nll.tolist()) == ("validation", outcomes.right.tolist(), [*nll])
    assert (found.nll_calibrated is None) == (not has_temperature)


def test_published_figures_go_with_the_run_and_start_over_takes_the_evidence(digits, tmp_path):
    assert RunFolder(digits).environment()["published"][0]["source"] == "a paper"
    assert "published" not in RunFolder(digits).recipe()
    folder = tmp_path / "run"
    run_recipe(parse_recipe(DIGITS, source="test"), folder, options=RunOptions(device="cpu"))
    start_over(folder)
    assert not (folder / "diagnostics").exists()


def test_sentences_of_a_run_on_a_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("sacrebleu", reason="no sacrebleu here: pip install 'labelembed[text]'")
    run_recipe(sequence_recipe(tmp_path, epochs=1), tmp_path / "run", options=RunOptions(device="cpu"))
    found = RunFolder(tmp_path / "run").read("diagnostics/sentences.json")
    written = (tmp_path / "run" / "translations" / f"{found['split']}.txt").read_text().splitlines()
    assert found["of"] == len(written)
    assert [one["output"] for one in found["sentences"]] == [written[one["place"]] for one in found["sentences"]]
    assert all(0 <= one["score"] <= 1 for one in found["sentences"])
    errors = RunFolder(tmp_path / "run").read("diagnostics/errors.json")
    assert RunFolder(tmp_path / "run").examples() is None
    assert errors["worst"] == []
    assert sum(errors["of_label"]) == errors["examples"]
    text = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "sentences, the highest chrF first" in text


def test_peak_memory_is_of_what_came_after_the_beginning():
    if peak_memory(torch.device("cpu")) is None:
        pytest.skip("this system does not tell a process' peak memory")
    reset_peak_memory()
    before = peak_memory(torch.device("cpu"))["bytes"]
    block = torch.ones(30_000_000)
    after = peak_memory(torch.device("cpu"))
    assert after["of"] == "process"
    assert after["bytes"] - before > 100_000_000
    del block
    reset_peak_memory()
    assert peak_memory(torch.device("cpu"))["bytes"] < after["bytes"] - 50_000_000
    assert math.isfinite(before)


@pytest.mark.parametrize(
    ("change", "nll", "message"),
    [
        ({"examples": 10**12}, 0, "outcomes of 1000000"),
        ({"split": "train"}, 0, "of which split"),
        ({"format": 2}, 0, "in format 1"),
        ({}, np.inf, "outcomes of 9 examples"),
    ],
)
def test_outcomes_that_cannot_be_true_are_refused(change, nll, message, tmp_path):
    folder = RunFolder(tmp_path)
    folder.diagnostics_folder.mkdir()
    about = json.dumps({"format": 1, "split": "test", "examples": 9} | change)
    tensors = {"right": np.zeros(2, np.uint8), "nll": np.full(9, nll, np.float16)}
    save_file(tensors, folder.examples_file, metadata={"examples": about})
    with pytest.raises(RunFolderError, match=message):
        folder.examples()
