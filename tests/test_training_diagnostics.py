"""The diagnostics that a run leaves for the report: counted by hand beside it, and small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from labelembed.lab.errors import RunFolderError
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.evaluation import predicted_logits
from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import small_recipe, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "run"
    train(small_recipe(objective={"name": "one_hot"}), folder)
    return folder


def test_large_examples_pass_the_network_in_smaller_batches(digits):
    network, seen = SavedRun.load(digits).network, []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    predicted_logits(network, torch.zeros(1_200, 1, 8, 8))
    with pytest.raises(RuntimeError, match="shapes"):
        predicted_logits(network, torch.zeros(100, 3, 224, 224))
    assert seen == [1_000, 200, 55]


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
    # A byte and two times two bytes an example, and the header.
    assert folder.examples_file.stat().st_size < len(rows) * 5 + 400


def test_sentences_of_a_run_on_a_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("sacrebleu", reason="no sacrebleu here: pip install 'labelembed[text]'")
    train(sequence_recipe(tmp_path, epochs=1), tmp_path / "run")
    found = RunFolder(tmp_path / "run").read("diagnostics/sentences.json")
    written = (tmp_path / "run" / "translations" / f"{found['split']}.txt").read_text().splitlines()
    assert found["of"] == len(written)
    assert [one["output"] for one in found["sentences"]] == [written[one["place"]] for one in found["sentences"]]
    assert all(0 <= one["score"] <= 1 for one in found["sentences"])
    errors = RunFolder(tmp_path / "run").read("diagnostics/errors.json")
    assert RunFolder(tmp_path / "run").examples() is None
    assert errors["worst"] == []


@pytest.mark.parametrize(
    ("split", "right", "nll"),
    [
        ("train", np.zeros(9, bool), np.zeros(9, np.float16)),
        ("test", np.zeros(8, bool), np.zeros(9, np.float16)),
        ("test", np.zeros(9, bool), np.full(9, np.inf, np.float16)),
    ],
)
def test_outcomes_that_cannot_be_true_are_refused(split, right, nll, tmp_path):
    folder = RunFolder(tmp_path)
    folder.examples_file.parent.mkdir()
    save_file({"right": right, "nll": nll}, folder.examples_file, metadata={"split": split})
    with pytest.raises(RunFolderError, match="does not hold the outcomes"):
        folder.examples()
