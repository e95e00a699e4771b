"""`labelembed` on a corpus: train, translate, evaluate, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import signal
from statistics import fmean

import pytest

from labelembed.lab.runs import saved_run
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_corpus import made_pairs, write_corpus
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import train

pytestmark = pytest.mark.usefixtures("own_folder")
SMALL = ["--set", "model={name: attention_lstm, width: 12, embedding_size: 8}", "--set", "epochs=2", "--quiet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a corpus and a finished run on it; nothing changes them."""
    folder = tmp_path_factory.mktemp("made")
    write_corpus(folder, train=300, longest=4)
    model = {"name": "attention_lstm", "width": 24, "embedding_size": 16, "dropout": 0.0, "initial_range": None}
    train(sequence_recipe(folder, epochs=5, objective="one_hot", model=model), folder / "run")
    return folder


@pytest.fixture
def lines():
    return [source for source, _ in made_pairs(20, seed=9)]


def test_translations_come_in_the_order_of_the_lines_and_need_no_corpus(made, lines, tmp_path):
    recipe = shutil.copytree(made / "run", tmp_path / "moved") / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(made / "corpus"), str(tmp_path / "gone")))
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    written = succeed("translate", "moved", "lines.txt", "--set", "decoding.beam=3").out.splitlines()
    saved = SavedRun.load(made / "run")
    assert written == [next(iter(saved.translate([line], Decoding(beam=3)))) for line in lines]
    assert len(set(written)) > 1


def test_empty_lines_stay_and_gzip_standard_input_work(made, lines, tmp_path, monkeypatch):
    run, content = str(made / "run"), f"{lines[0]}\n\nnothing known\n"
    (tmp_path / "lines.gz").write_bytes(gzip.compress(content.encode()))
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    piped = succeed("translate", run, "-").out
    assert piped.splitlines()[1] == ""
    succeed("translate", run, "lines.gz", "--out", "out.txt")
    assert (tmp_path / "out.txt").read_text() == piped


def test_a_signal_keeps_what_is_done(made, lines, tmp_path, monkeypatch):
    monkeypatch.setattr("labelembed.lab.runs.saved_run._LINES_AT_ONCE", 5)
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    whole = succeed("translate", str(made / "run"), "lines.txt").out.splitlines()
    real, calls = saved_run.decode, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(saved_run, "decode", interrupted)
    found = call("translate", str(made / "run"), "lines.txt", "--out", "out.txt")
    assert found.code == 128 + signal.SIGTERM
    assert "stopped; the first 10 lines are written" in found.err
    assert (tmp_path / "out.txt").read_text().splitlines() == whole[:10]


def test_evaluate_gives_the_numbers_of_the_result(made):
    evaluated = succeed("evaluate", str(made / "run"), "--json").json
    expected = RunFolder(made / "run").result()["test"]
    assert {name: evaluated[name] for name in expected} == pytest.approx(expected)
    assert "BLEU" in succeed("evaluate", str(made / "run"), "--split", "validation").out


def test_comparison_of_translations_is_decided_by_bleu(made, tmp_path):
    objectives = "one_hot,label_smoothing:smoothing=0.1"
    words = ("compare", "translation-lstm", "--data", str(made / "corpus"), *SMALL, "--objectives", objectives)
    rows = succeed(*words, "--seeds", "2", "--jobs", "1", "--out", "both", "--json").json
    assert "BLEU" in (tmp_path / "both" / "report.html").read_text()
    results = [json.loads(file.read_text()) for file in (tmp_path / "both/runs/one_hot").glob("seed-*/result.json")]
    assert rows[0]["bleu_mean"] == pytest.approx(fmean(result["test"]["bleu"] for result in results))
    assert rows[1]["bleu_difference_n"] == 2


def test_files_that_are_no_text_or_no_run(made, tmp_path):
    run = str(made / "run")
    (tmp_path / "latin.txt").write_bytes(b"w1\nw\xfc\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "one.txt").write_text("w1\n")
    shutil.copytree(run, tmp_path / "broken")
    vocabulary = tmp_path / "broken" / "target-tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"v1":', '"v1"'))
    succeed("train", "digits-mlp", "--set", "epochs=1", "--quiet", "--out", "digits")
    other = write_corpus(tmp_path / "other", train=80, vocabulary_size=12).folder
    corpus = ("--data", str(made / "corpus"), "--out", "run")
    tied = ("--objective", "adaptive_labels:label_dimension=7", "--set", "model.tied_output=true")
    for words, said in {
        ("translate", run, "missing.txt"): "missing.txt",
        ("translate", run, "latin.txt"): "line 2",
        ("translate", run, "empty.txt"): "holds no line",
        ("translate", str(tmp_path), "one.txt"): "no run folder",
        ("translate", "digits", "one.txt"): "translates nothing",
        ("translate", "broken", "one.txt"): "target-tokenizer.json",
        ("predict", run, "picture.png"): "labelembed translate",
        ("export", run): "labelembed translate",
        ("evaluate", run, "--data", str(other)): "vocabulary",
        ("train", "lcsts", *corpus): "model.shared_embeddings",
        ("train", "translation-lstm", *corpus, *tied): "model.tied_output",
    }.items():
        found = call(*words)
        assert (found.code, found.out) == (2, ""), found.err
        assert len(found.err.splitlines()) <= 10
        assert said in found.err
