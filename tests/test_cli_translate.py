"""`labelembed` on a corpus: train, translate, evaluate, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
from statistics import fmean

import pytest

from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.schema import combination_errors
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call, succeed
from tests.made_corpus import made_pairs, write_corpus
from tests.made_corpus_runs import sequence_recipe
from tests.made_training import no_flush, one_thread, train  # noqa: F401

SMALL = ["--set", "model={name: attention_lstm, width: 12, embedding_size: 8}", "--set", "epochs=2", "--quiet"]


def refuse(*words, has):
    """Calls a verb that must refuse: exit code 2, one message that names what is wrong."""
    found = call(*words)
    assert found.code == 2, found.err
    assert found.out == ""
    assert len(found.err.splitlines()) <= 10
    for text in has:
        assert text in found.err


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a corpus and a finished run on it; nothing changes them."""
    folder = tmp_path_factory.mktemp("made")
    write_corpus(folder, train=300, longest=4)
    model = {"name": "attention_lstm", "width": 24, "embedding_size": 16, "dropout": 0.0, "initial_range": None}
    train(sequence_recipe(folder, epochs=5, objective="one_hot", model=model), folder / "run")
    return folder


@pytest.fixture(autouse=True)
def _inside_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines():
    return [source for source, _ in made_pairs(20, seed=9)]


def test_translations_come_in_the_order_of_the_lines(made, lines, tmp_path):
    text = tmp_path / "lines.txt"
    text.write_text("".join(f"{line}\n" for line in lines))
    found = succeed("translate", str(made / "run"), str(text), "--set", "decoding.beam=3").out.splitlines()
    saved = SavedRun.load(made / "run")
    alone = [next(iter(saved.translate([line], Decoding(beam=3)))).translations[0].text for line in lines]
    assert found == alone
    assert len(set(found)) > 1


def test_empty_lines_stay_and_gzip_and_standard_input_are_read(made, lines, tmp_path, monkeypatch):
    import io

    content = f"{lines[0]}\n\n{lines[1]}\n"
    (tmp_path / "lines.gz").write_bytes(gzip.compress(content.encode()))
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    piped = succeed("translate", str(made / "run"), "-").out
    assert piped.splitlines()[1] == ""
    assert succeed("translate", str(made / "run"), "lines.gz").out == piped
    succeed("translate", str(made / "run"), "lines.gz", "--out", "out.txt")
    assert (tmp_path / "out.txt").read_text() == piped


def test_n_best_has_number_text_and_score(made, lines, tmp_path):
    (tmp_path / "lines.txt").write_text(f"{lines[0]}\n{lines[1]}\n")
    found = succeed(
        "translate", str(made / "run"), "lines.txt", "--set", "decoding.beam=4", "--n-best", "3"
    ).out.splitlines()
    numbers, scores = zip(
        *[(int(line.split(" ||| ")[0]), float(line.split(" ||| ")[2])) for line in found], strict=True
    )
    assert numbers == (0, 0, 0, 1, 1, 1)
    assert scores[0] >= scores[1] >= scores[2]


def test_line_without_a_known_word_is_translated_and_told_of(made, tmp_path):
    (tmp_path / "lines.txt").write_text("w1 w2\nnothing known\n")
    found = succeed("translate", str(made / "run"), "lines.txt")
    assert len(found.out.splitlines()) == 2
    assert "1 of 2 lines have no word that the run knows" in found.err


def test_unknown_words_are_replaced_by_what_was_looked_at(made, lines):
    saved = SavedRun.load(made / "run")
    from labelembed.lab.models import Hypothesis
    from labelembed.lab.special_tokens import UNKNOWN
    from labelembed.lab.training.decoding import hypothesis_text

    known = saved.sentences.target.encode("v1")[0]
    found = Hypothesis((known, UNKNOWN, UNKNOWN), 0.0, 0.0, attention=(0, 1, 2))

    def text(replace):
        return hypothesis_text(
            found, "w1 strange", saved.sentences.source, saved.sentences.target, replace_unknown=replace
        )

    assert text(True) == "v1 strange <unk>"  # the third looked at the end of the sentence
    assert text(False) == "v1 <unk> <unk>"


def test_ctrl_c_keeps_what_is_done(made, lines, tmp_path, monkeypatch):
    monkeypatch.setattr("labelembed.lab.runs.saved_run._LINES_AT_ONCE", 5)
    (tmp_path / "lines.txt").write_text("".join(f"{line}\n" for line in lines))
    whole = succeed("translate", str(made / "run"), "lines.txt").out.splitlines()
    real, calls = SavedRun._translated, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)

    monkeypatch.setattr(SavedRun, "_translated", interrupted)
    found = call("translate", str(made / "run"), "lines.txt", "--out", "out.txt")
    assert found.code == 128 + signal.SIGINT
    assert "stopped; the first 10 lines are written" in found.err
    assert (tmp_path / "out.txt").read_text().splitlines() == whole[:10]


def test_run_translates_without_its_corpus(made, lines, tmp_path):
    shutil.copytree(made / "run", tmp_path / "moved")
    recipe = tmp_path / "moved" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(made / "corpus"), str(tmp_path / "gone")))
    (tmp_path / "lines.txt").write_text(f"{lines[0]}\n")
    here, there = (succeed("translate", str(folder), "lines.txt").out for folder in (made / "run", tmp_path / "moved"))
    assert here == there


def test_evaluate_gives_the_numbers_of_the_result(made):
    found = succeed("evaluate", str(made / "run"), "--json").json
    expected = RunFolder(made / "run").result()["test"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    shown = succeed("evaluate", str(made / "run"), "--split", "validation").out
    assert "BLEU" in shown
    assert "perplexity" in shown


def test_neighbours_of_words(made):
    unit, found = succeed("labels", str(made / "run"), "v1", "--count", "3").out.splitlines()
    assert unit == "(in brackets: minus the Euclidean distance between class means)"
    assert found.startswith("v1: v")


def test_comparison_of_translations_is_decided_by_bleu(made, tmp_path):
    objectives = "one_hot,label_smoothing:smoothing=0.1"
    corpus = str(made / "corpus")
    words = ("compare", "translation-lstm", "--data", corpus, *SMALL, "--objectives", objectives)
    found = succeed(*words, "--seeds", "2", "--jobs", "1", "--out", "both")
    assert "BLEU" in found.out
    assert "BLEU" in (tmp_path / "both" / "report.html").read_text()
    rows = succeed(*words, "--seeds", "2", "--jobs", "1", "--out", "both", "--json").json
    assert rows[1]["bleu_difference_n"] == 2
    results = [
        json.loads(file.read_text()) for file in (tmp_path / "both" / "runs" / "one_hot").glob("seed-*/result.json")
    ]
    assert rows[0]["bleu_mean"] == pytest.approx(fmean(result["test"]["bleu"] for result in results))


# ------------------------------------------------------------------------------------------------- what is refused


def test_files_that_are_no_text_or_no_run(made, tmp_path):
    run = str(made / "run")
    refuse("translate", run, "missing.txt", has=["missing.txt"])
    (tmp_path / "latin.txt").write_bytes(b"w1\nw\xfc\n")
    refuse("translate", run, "latin.txt", has=["latin.txt", "line 2", "UTF-8"])
    (tmp_path / "empty.txt").write_text("")
    refuse("translate", run, "empty.txt", has=["holds no line"])
    refuse("translate", str(tmp_path), "empty.txt", has=["no run folder"])
    refuse("predict", run, "picture.png", has=["labelembed translate"])
    (tmp_path / "one.txt").write_text("w1\n")
    refuse("translate", run, "one.txt", "--set", "decoding.beam=2", "--n-best", "3", has=["n_best"])


def test_run_of_pictures_translates_nothing(tmp_path):
    succeed("train", "digits-mlp", "--set", "epochs=1", "--quiet", "--out", "digits")
    (tmp_path / "one.txt").write_text("w1\n")
    refuse("translate", "digits", "one.txt", has=["translates nothing"])


def test_damaged_vocabulary_of_a_run_is_named(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "broken")
    vocabulary = tmp_path / "broken" / "target-tokenizer.json"
    vocabulary.write_text(vocabulary.read_text().replace('"v1":', '"v1"'))
    (tmp_path / "one.txt").write_text("w1\n")
    refuse("translate", "broken", "one.txt", has=["target-tokenizer.json"])


def test_another_corpus_is_refused(made, tmp_path):
    other = write_corpus(tmp_path / "other", train=80, vocabulary_size=12).folder
    refuse("evaluate", str(made / "run"), "--data", str(other), has=["vocabulary", "labelembed translate"])
    recipe = sequence_recipe(made, epochs=7)
    train(sequence_recipe(made, epochs=1), tmp_path / "begun")
    changed = recipe.model_copy(update={"epochs": 1, "data": recipe.data | {"path": str(other)}})
    (tmp_path / "begun" / "result.json").unlink()
    with pytest.raises(RunFolderError, match="other data"):
        train(changed, tmp_path / "begun")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model=mlp", "model.name: 'mlp' cannot read the sentences"),
        ("data.augmentation=flip", "data.augmentation: must be left out of a corpus"),
        ("data.validation.fraction=0.1", "data.validation: must be left out"),
        ("batch_size={per_label: 5}", "batch_size: of a corpus"),
        ("compile=true", "compile: must be false"),
        ("decoding.beem=3", "decoding.beem: unknown key"),
        ("decoding.beam=0", "decoding.beam"),
        ("max_gradient_norm=0", "max_gradient_norm"),
        ("model.widht=3", "model.widht: unknown key"),
        ("model.tied_output=true", None),
    ],
)
def test_recipes_that_mix_rows_and_sentences_are_refused(setting, words, made):
    if words is None:  # as wide as the embedding by default
        recipe, _ = load_recipe("translation-lstm", settings=[setting], data=str(made / "corpus"))
        assert list(combination_errors(recipe)) == []
        return
    with pytest.raises(RecipeError) as refused:
        load_recipe("translation-lstm", settings=[setting], data=str(made / "corpus"))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model=attention_lstm", "model.name: 'attention_lstm' cannot read data"),
        ("batch_size={tokens: 100}", "batch_size: {tokens: N} is for a corpus"),
        ("decoding.beam=4", "decoding: is for a corpus"),
        ("selection.by=validation_bleu", "'validation_bleu' is for a corpus"),
        ("batch_size={words: 3}", "batch_size: must be a number of examples"),
    ],
)
def test_recipes_of_rows_with_parts_for_sentences_are_refused(setting, words):
    with pytest.raises(RecipeError) as refused:
        load_recipe("digits-mlp", settings=[setting])
    assert words in str(refused.value)


def test_shared_embeddings_need_a_shared_vocabulary(made):
    refuse(
        "train",
        "lcsts",
        "--data",
        str(made / "corpus"),
        "--out",
        "run",
        has=["model.shared_embeddings", "--shared-vocabulary"],
    )


def test_tied_output_needs_an_output_of_the_same_shape(made):
    setting = ["--objective", "adaptive_labels:label_dimension=7", "--set", "model.tied_output=true"]
    refuse("train", "translation-lstm", "--data", str(made / "corpus"), *setting, has=["model.tied_output"])
