"""Distillation over a corpus: the teacher's table of every token, and what the run needs of teacher and table."""

from __future__ import annotations

import shutil
import signal

import pytest
import torch

from labelembed.lab.data import read_corpus
from labelembed.lab.errors import InterruptedTraining, RecipeError
from labelembed.lab.runs import teacher as teacher_table
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.runs.saved_translator import SavedTranslator
from labelembed.lab.runs.teacher import open_table
from labelembed.lab.runs.training_network import network_for
from labelembed.lab.training.run_folder import RunFolder
from tests.made_corpus import write_corpus
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import (
    contents,
    differences,
    stop_after,
    train,
)
from tests.naive.cross_entropy import naive_softmax
from tests.naive.distillation import naive_token_distillation_terms
from tests.naive.remembering import naive_sparse

pytestmark = pytest.mark.usefixtures("no_flush")
TEACHER = {"name": "attention_lstm", "width": 16, "embedding_size": 8, "dropout": 0.2}
QUIET = {"name": "attention_lstm", "width": 12, "embedding_size": 8, "dropout": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a corpus and the finished run of a teacher on it."""
    folder = tmp_path_factory.mktemp("made")
    write_corpus(folder)
    train(sequence_recipe(folder, objective="one_hot", model=TEACHER, epochs=2, seed=5), folder / "teacher")
    return folder


def distilled(made, *, teacher=None, objective=None, **changes):
    given = {"name": "distillation", "teacher": str(teacher or made / "teacher"), "temperature": 2.0}
    return sequence_recipe(made, objective=given | (objective or {}), **changes)


@torch.no_grad()
def teachers_logits(folder, pairs):
    """The teacher's logits of every token by its row number, each sentence alone and without padding."""
    network = SavedTranslator.load(folder).network
    logits = {}
    for batch in pairs.batches(1):
        said = network.logits(batch.inputs)[0].double().tolist()
        logits |= dict(zip(batch.indices[0].tolist(), said, strict=True))
    return logits


@pytest.mark.parametrize("top_k", [None, 3])
def test_table_is_what_the_teacher_says_of_each_sentence_alone(top_k, made, tmp_path):
    recipe = distilled(made, objective={"top_k": top_k}, epochs=1)
    asked = []
    train(recipe, tmp_path / "run", asking=lambda done, total: asked.append((done, total)))
    corpus = read_corpus(made / "corpus")
    table = open_table(tmp_path / "run" / "teacher.safetensors", recipe, corpus)
    logits = teachers_logits(made / "teacher", corpus.train)
    assert sorted(logits) == list(range(corpus.train.num_examples))
    assert asked[-1] == (corpus.train.num_examples, corpus.train.num_examples)
    assert (table.labels is None) == (top_k is None)  # 24 words: all are kept
    for row, said in logits.items():
        expected = naive_sparse(naive_softmax(said, 2.0), top_k or corpus.num_labels)
        labels = range(corpus.num_labels) if table.labels is None else table.labels[row].tolist()
        # float16, and a network in float32 that reads other sentences beside this one.
        wanted = [expected[label] for label in labels]
        assert table.values[row].tolist() == pytest.approx(wanted, rel=2e-3, abs=1e-5)


def test_terms_of_a_run_are_the_naive_ones(made, tmp_path):
    # With no step and no dropout the terms of the epoch are those of the network as it began.
    recipe = distilled(
        made,
        objective={"top_k": 4, "teacher_weight": 0.6},
        epochs=1,
        model=QUIET,
        optimizer={"name": "sgd", "learning_rate": 1e-12},
    )
    train(recipe, tmp_path / "run")
    corpus = read_corpus(made / "corpus")
    student = network_for(recipe, corpus, to_try=True).eval()
    logits, labels, rows = [], [], []
    with torch.no_grad():
        for batch in corpus.train.batches(1):
            logits.append(student.logits(batch.inputs)[0].double().tolist())
            labels.append(batch.labels[0].tolist())
            rows.append(batch.indices[0].tolist())
    said = teachers_logits(made / "teacher", corpus.train)
    expected = naive_token_distillation_terms(logits, labels, rows, said, temperature=2.0, teacher_weight=0.6, top_k=4)
    (line,) = RunFolder(tmp_path / "run").history()
    assert line["train"].keys() == expected.keys()
    for name, value in line["train"].items():
        # The table's float16: 2^-11 of each of the entries kept, times temperature squared in the total.
        assert value == pytest.approx(expected[name], abs=2e-3), name
    assert expected["teacher"] > 0.02


def test_broken_off_run_ends_as_an_unbroken_one_and_translates_without_its_teacher(made, tmp_path):
    copied = tmp_path / "teacher"
    shutil.copytree(made / "teacher", copied)
    recipe = distilled(made, teacher=copied, objective={"top_k": 3})
    train(recipe, tmp_path / "unbroken")
    stop_after(recipe, tmp_path / "broken", 11)
    shutil.rmtree(copied)
    shutil.move(tmp_path / "broken", tmp_path / "moved")
    train(recipe, tmp_path / "moved")
    assert differences(contents(tmp_path / "moved"), contents(tmp_path / "unbroken")) == []

    (tmp_path / "moved" / "teacher.safetensors").unlink()
    saved = SavedTranslator.load(tmp_path / "moved")
    assert saved.recipe.objective["teacher"] == "teacher.safetensors"
    corpus = saved.read_corpus()
    result = RunFolder(tmp_path / "moved").result()
    measured = saved.evaluate(corpus, "test")
    assert measured["nll"] == pytest.approx(result["test"]["nll"], rel=1e-5)
    assert measured["bleu"] == result["test"]["bleu"]
    assert len(list(saved.translate(["w1 w2", "w3"]))) == 2


def test_table_of_another_run_is_taken_over_without_asking_again(made, tmp_path, monkeypatch):
    train(distilled(made, epochs=1), tmp_path / "first")
    monkeypatch.setattr(teacher_table, "teacher_network", lambda *_: pytest.fail("the teacher was asked"))
    table = tmp_path / "first" / "teacher.safetensors"
    train(distilled(made, teacher=table, epochs=1), tmp_path / "second")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert models[0] == models[1]
    assert (tmp_path / "second" / "teacher.safetensors").samefile(table)  # of gigabytes there need be one only
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    train(distilled(made, teacher=table, epochs=1), tmp_path / "third")
    assert (tmp_path / "third" / "teacher.safetensors").read_bytes() == table.read_bytes()


def test_teacher_of_another_vocabulary_is_refused_and_both_are_named(made, tmp_path):
    write_corpus(tmp_path / "small", vocabulary_size=15)
    recipe = sequence_recipe(tmp_path / "small", objective=distilled(made).objective)
    with pytest.raises(RecipeError) as caught:
        train(recipe, tmp_path / "run")
    (error,) = caught.value.errors
    assert error.startswith("objective.teacher: ")
    for words in (str(tmp_path / "small" / "corpus"), str(made / "teacher"), "15 tokens by word, the run 24 by word"):
        assert words in error
    assert not (tmp_path / "run").exists()


def test_stopping_while_the_teacher_is_asked_leaves_nothing_begun(made, tmp_path):
    asked = []
    corpus = read_corpus(made / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelembed.lab.training.batches.EVALUATION_TOKENS", 60)
        with pytest.raises(InterruptedTraining, match="stopped while the teacher was asked") as caught:
            run_recipe(
                distilled(made),
                tmp_path / "run",
                data=corpus,
                device="cpu",
                stop=lambda: len(asked) >= 1,
                asking=lambda *at: asked.append(at),
            )
    assert caught.value.exit_code == 128 + signal.SIGINT
    assert len(asked) == 1
    assert not (tmp_path / "run").exists()
    train(distilled(made, epochs=1), tmp_path / "run")
