"""The subcommand `preprocess`: files in, a corpus folder out, and one clear message for what cannot be."""

from __future__ import annotations

import pytest

from labelembed.lab.data import read_corpus
from labelembed.lab.data.corpus import preprocessing
from tests.made_cli import call, listing, succeed
from tests.made_corpus import made_pairs, write_pair_files, write_text


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Train, validation and test text in the working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, (name, count) in enumerate({"train": 50, "dev": 8, "test": 9}.items()):
        write_pair_files(tmp_path, name, made_pairs(count, seed=seed), suffix=".gz")
    return tmp_path


TRAIN = ["preprocess", "--train", "train.source.gz", "--train", "train.target.gz"]


def test_settings_reach_the_corpus(text):
    write_text(text / "a", ["The DOG", "the cat sleeps", "x"])
    write_text(text / "b", ["der HUND", "Die Katze", "y"])
    words = ["level=character", "lowercase=true", "vocabulary_size=6", "max_length=9"]
    settings = [part for word in words for part in ("--set", word)]
    called = succeed("preprocess", "--train", "a", "--train", "b", "--out", "corpus", *settings)
    corpus = read_corpus("corpus")
    assert corpus.source_tokenizer.tokens("The DOG") == list("the dog")
    assert (corpus.num_labels, len(corpus.train)) == (6, 2)
    assert "too many tokens left out: 1" in called.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train", "train.source.gz"], "Got 1"),
        ([*TRAIN[1:], "--train", "c"], "Got 3"),
        ([*TRAIN[1:], "--set", "vocabulary_size=4"], "vocabulary_size"),
        ([*TRAIN[1:], "--set", "min_count=9999"], "no token occurs 9,999 times"),
        ([*TRAIN[1:], "--set", "level=subword", "--set", "min_count=2"], "min_count"),
        ([*TRAIN[1:], "--set", "level=letter"], "level"),
    ],
)
def test_what_cannot_be_is_one_message_and_nothing_is_written(text, words, message):
    before = listing(text)
    called = call("preprocess", *words, "--out", "corpus")
    assert called.code == 2
    assert message in " ".join(called.err.split())
    assert listing(text) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--set", "selection.by=validation_bleu"], "selection.by: 'validation_bleu' needs validation"),
        (["compare", "--tuned"], "--tuned: needs a validation set"),
    ],
)
def test_what_a_corpus_cannot_do_is_said_before_the_training(text, words, message):
    succeed(*TRAIN, "--out", "corpus")
    command, *more = words
    called = call(command, "translation-lstm", "--data", "corpus", "--out", "run", *more)
    assert (called.code, message in " ".join(called.err.split())) == (2, True), called.err
    assert not [*text.glob("run/**/recipe.yaml")]


def test_nothing_that_is_there_is_replaced(text):
    (text / "corpus").mkdir()  # an empty folder is taken
    succeed(*TRAIN, "--out", "corpus")
    before = listing(text)
    for out in ("corpus", "train.source.gz"):
        assert call(*TRAIN, "--out", out).code == 2
        assert listing(text) == before


@pytest.mark.parametrize("moment", ["learned_tokenizer", "_write_split", "file_digest"])
def test_ctrl_c_leaves_nothing(text, monkeypatch, moment):
    before = listing(text)
    unfinished = []

    def stop(*arguments, **keywords):
        unfinished.extend(text.glob(".corpus-*/new"))
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocessing, moment, stop)
    called = call(*TRAIN, "--out", "corpus")
    assert (called.code, len(unfinished)) == (130, 1)
    assert listing(text) == before
