"""The one loop over a corpus: what is counted and what is measured."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from labelembed.lab.data import read_corpus
from labelembed.lab.runs.task import build_task
from labelembed.lab.training.decoding import text_metrics, token_metrics
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import bleu
from tests.made_corpus import write_corpus
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import contents, train


def network_of(recipe, corpus):
    return build_task(recipe, data=corpus).build_network()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write_corpus(folder)
    return folder


@torch.no_grad()
def token_by_token(network, pairs):
    """Returns the sum of the losses and the wrong tokens, each sentence alone and without padding."""
    loss, wrong, count = 0.0, 0, 0
    network.eval()
    for batch in pairs.batches(1):
        logits = network.logits(batch.inputs)[0].double()
        loss += float(F.cross_entropy(logits, batch.labels[0], reduction="sum"))
        wrong += int((logits.argmax(-1) != batch.labels[0]).sum())
        count += batch.labels.shape[1]
    return loss, wrong, count


def test_token_metrics_are_those_of_each_sentence_alone(made):
    corpus = read_corpus(made / "corpus")
    network = network_of(sequence_recipe(made), corpus)
    loss, wrong, count = token_by_token(network, corpus.validation)
    assert count == corpus.validation.num_examples
    network.train()
    found = token_metrics(network, corpus.validation)
    assert network.training
    assert found["error"] == wrong / count
    assert found["nll"] == pytest.approx(loss / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-4)
    assert found["error"] >= found["top5_error"] > 0


def test_history_has_means_over_tokens_not_over_batches(made, tmp_path):
    # With no step and no dropout the terms of the epoch are those of the network as it began.
    recipe = sequence_recipe(
        made,
        epochs=1,
        objective="one_hot",
        model={"name": "attention_lstm", "width": 12, "embedding_size": 8, "dropout": 0.0},
        optimizer={"name": "sgd", "learning_rate": 1e-12},
        test_every_epoch=True,
    )
    result = train(recipe, tmp_path / "run")
    corpus = read_corpus(made / "corpus")
    loss, _, count = token_by_token(network_of(recipe, corpus), corpus.train)
    (line,) = RunFolder(tmp_path / "run").history()
    assert line["train"]["output"] == pytest.approx(loss / count, rel=1e-5)
    assert {"bleu", "chrf", "rougeL", "perplexity", "error"} <= line["validation"].keys()
    assert "bleu" not in line["test"]
    assert result["test"] == result["test"] | line["test"]


@pytest.mark.parametrize("batch_size", [8, {"tokens": 60}])
def test_run_on_a_corpus_leaves_texts_and_their_measures(batch_size, made, tmp_path):
    result = train(sequence_recipe(made, batch_size=batch_size, decoding={"beam": 3}), tmp_path)
    corpus = read_corpus(made / "corpus")
    for split in ("validation", "test"):
        written = (tmp_path / "translations" / f"{split}.txt").read_text().splitlines()
        assert len(written) == len(corpus.splits[split])
        assert result[split]["bleu"] == bleu(written, [corpus.references(split)]).value
        assert result[split] == result[split] | text_metrics(written, corpus.references(split), level="word")
    assert result["temperature"] is None
    assert result["selected_by"] == "validation bleu"
    scores = [(-line["validation"]["bleu"], line["validation"]["nll"]) for line in RunFolder(tmp_path).history()]
    assert result["selected_epoch"] == 1 + scores.index(min(scores))
    geometry = RunFolder(tmp_path).label_geometry()
    assert geometry.names == corpus.names


def test_gradients_above_the_norm_are_scaled_down(made, tmp_path):
    # Plain descent with rate 1: no step is longer than the norm.
    recipe = sequence_recipe(
        made, epochs=1, max_gradient_norm=0.01, optimizer={"name": "sgd", "learning_rate": 1.0}, batch_size=60
    )
    corpus = read_corpus(made / "corpus")
    before = network_of(recipe, corpus).state_dict()
    train(recipe, tmp_path)
    after = dict(contents(tmp_path))
    moved = sum(
        float((after[f"model: {name}"] - value).double().square().sum())
        for name, value in before.items()
        if value.is_floating_point()
    )
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)
