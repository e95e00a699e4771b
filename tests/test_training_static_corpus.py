"""Static labels over a corpus: the words' vectors from a saved geometry, what is refused, translating by distance."""

from __future__ import annotations

import pytest

from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.runs.task import build_task
from labelembed.lab.training.decoding import Decoding
from tests.made_corpus import made_pairs, write_corpus
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import train

pytestmark = pytest.mark.usefixtures("no_flush")


def network_of(recipe, corpus):
    return build_task(recipe, data=corpus).build_network()


QUIET = {"name": "attention_lstm", "width": 12, "embedding_size": 8, "dropout": 0.0}


def static(folder, embedding, **changes):
    objective = {"name": "static_labels", "embedding": str(embedding)}
    return sequence_recipe(folder, objective=objective, **changes)


def test_run_learns_and_writes_by_distance_and_needs_only_its_folder(tmp_path):
    write_corpus(tmp_path, train=600, validation=40, test=40, longest=3)
    model = {"name": "attention_lstm", "width": 32, "embedding_size": 16, "dropout": 0.0, "initial_range": None}
    first = sequence_recipe(tmp_path, objective="one_hot", model=model, epochs=4, batch_size=16)
    assert train(first, tmp_path / "first")["test"]["error"] < 0.3  # 0.9 by chance
    path = tmp_path / "vectors.safetensors"
    (tmp_path / "first" / "label_geometry.safetensors").rename(path)
    result = train(static(tmp_path, path, model=model, epochs=8, batch_size=16), tmp_path / "run")
    path.unlink()
    assert result["test"]["error"] < 0.2
    saved = SavedRun.load(tmp_path / "run")
    corpus = saved.read_corpus(str(tmp_path / "corpus"))
    assert saved.evaluate_corpus(corpus, "test")["bleu"] == result["test"]["bleu"]
    lines = [source for source, _ in made_pairs(40, seed=9, longest=3)]
    wanted = [target for _, target in made_pairs(40, seed=9, longest=3)]
    found = list(saved.translate(lines, Decoding(beam=3)))
    assert sum(each.texts[0] == right for each, right in zip(found, wanted, strict=True)) > 20
    assert all(each.scores[0] < 0 for each in found)
