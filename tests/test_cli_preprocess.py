"""The verb `preprocess`: files in, a corpus folder out, and one clear message for what cannot be."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from labelembed.lab.data import read_corpus
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


def test_two_files_a_split_become_a_corpus(text):
    split_words = [
        "--validation",
        "dev.source.gz",
        "--validation",
        "dev.target.gz",
        "--test",
        "test.source.gz",
        "--test",
        "test.target.gz",
    ]
    called = succeed(*TRAIN, *split_words, "--out", "corpus/")
    corpus = read_corpus("corpus")
    assert {name: len(split) for name, split in corpus.splits.items()} == {"train": 50, "validation": 8, "test": 9}
    assert [line.split()[0] for line in called.out.splitlines()] == ["source", "target", "train", "validation", "test"]
    tokens = len(corpus.train.source.tokens)
    assert f"50 pairs, {tokens:,} source tokens (0.00% unknown)" in called.out


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.jsonl", "pairs.jsonl.gz"])
def test_one_file_of_pairs_gives_the_same_arrays(text, name):
    succeed(*TRAIN, "--out", "two")
    pairs = made_pairs(50)
    if "tsv" in name:
        lines = ["source\tid\ttarget", *(f"{source}\t7\t{target}" for source, target in pairs)]
    else:
        lines = [json.dumps({"source": source, "id": 7, "target": target}) for source, target in pairs]
    write_text(text / name, lines)
    succeed("preprocess", "--train", name, "--validation", name, "--out", "one")
    one, two = read_corpus("one"), read_corpus("two")
    assert (one.train.source.tokens == two.train.source.tokens).all()
    assert (one.train.target.tokens == two.train.target.tokens).all()
    assert one.references("validation") == [target for _, target in pairs]


def test_settings_reach_the_corpus(text):
    write_text(text / "a", ["The DOG", "the cat sleeps", "x"])
    write_text(text / "b", ["der HUND", "Die Katze", "y"])
    words = [
        "--set",
        "source_level=character",
        "--set",
        "lowercase=true",
        "--set",
        "vocabulary_size=6",
        "--set",
        "max_length=9",
    ]
    called = succeed("preprocess", "--train", "a", "--train", "b", "--out", "corpus", *words)
    corpus = read_corpus("corpus")
    assert corpus.source_tokenizer.level, corpus.target_tokenizer.level == ("character", "word")
    assert corpus.source_tokenizer.tokens("The DOG") == list("the dog")
    assert corpus.target_tokenizer.vocabulary.tokens[4:] == ("der", "hund")
    assert len(corpus.train) == 2
    assert "note: train: pairs with more than 9 tokens left out: 1" in called.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--train", "no", "--train", "train.target.gz"],
            "no: does not exist; expected two text files of the same number",
        ),
        (
            ["--train", "train.source.gz", "--train", "dev.target.gz"],
            "train.source.gz has 50 lines and dev.target.gz has 8;",
        ),
        (["--train", "train.source.gz"], "one file must have two columns; expected two text files"),
        (["--train", "a", "--train", "b", "--train", "c"], "a file of source lines and one of target lines"),
        (["--train", "a", "--train", "b", "c"], "unexpected extra argument"),
        (
            [*TRAIN[1:], "--set", "vocabulary_size=4"],
            "`vocabulary_size` must be > 4, the special tokens <pad>, <unk>, <s>",
        ),
        ([*TRAIN[1:], "--set", "min_count=0"], "`min_count` must be >= 1, got 0"),
        ([*TRAIN[1:], "--set", "max_length=0"], "`max_length` must be >= 1, got 0"),
        ([*TRAIN[1:], "--set", "min_count=9999"], "no token occurs 9,999 times; set a smaller --min-count"),
        ([*TRAIN[1:], "--set", "shared_vocabulary=true", "--set", "source_level=character"], "level"),
        ([*TRAIN[1:], "--set", "level=letter"], "level"),
    ],
)
def test_what_cannot_be_is_one_message_and_nothing_is_written(text, words, message):
    before = listing(text)
    called = call("preprocess", *words, "--out", "corpus")
    assert called.code == 2
    assert message in " ".join(called.err.split())
    assert "Traceback" not in called.err
    assert listing(text) == before


def test_a_corpus_of_the_same_is_left_and_of_other_settings_replaced_on_demand_only(text):
    succeed(*TRAIN, "--out", "corpus")
    before = listing(text)
    succeed(*TRAIN, "--out", "corpus")
    called = call(*TRAIN, "--out", "corpus", "--set", "min_count=2")
    assert called.code == 2
    assert "corpus: holds a corpus of other files or settings; give --overwrite" in called.err
    assert listing(text) == before
    succeed(*TRAIN, "--out", "corpus", "--set", "min_count=9", "--overwrite")
    assert read_corpus("corpus").num_labels < 24
    assert not list(text.glob(".corpus*"))


def test_a_folder_with_other_files_is_never_replaced(text):
    (text / "mine").mkdir()
    (text / "mine" / "thesis.txt").write_text("years of work")
    called = call(*TRAIN, "--out", "mine", "--overwrite")
    assert called.code == 2
    assert "holds files that are no corpus (thesis.txt)" in called.err
    succeed(*TRAIN, "--out", "corpus")
    (text / "corpus" / "notes.txt").write_text("mine")
    called = call(*TRAIN, "--out", "corpus", "--overwrite", "--set", "min_count=2")
    assert called.code == 2
    assert "holds notes.txt, which is not of the corpus" in called.err
    called = call(*TRAIN, "--out", "train.source.gz")
    assert (called.code, "is no folder" in called.err) == (2, True)


def test_an_empty_folder_is_taken(text):
    (text / "corpus").mkdir()
    succeed(*TRAIN, "--out", "corpus")
    assert len(read_corpus("corpus").train) == 50


@pytest.mark.parametrize("moment", ["_tokenizers", "_write_split", "files_of", "json.dumps"])
@pytest.mark.parametrize("replaces", [False, True])
def test_ctrl_c_leaves_what_was_there(text, monkeypatch, moment, replaces):
    if replaces:
        succeed(*TRAIN, "--out", "corpus", "--set", "min_count=2")
    before = listing(text)

    def stop(*arguments, **keywords):
        folders = list(text.glob(".corpus-*/new"))
        if folders:  # json.dumps is called before, too
            asked.append(len(list(folders[0].iterdir())))
            raise KeyboardInterrupt
        return true_dumps(*arguments, **keywords)

    asked, true_dumps = [], json.dumps
    monkeypatch.setattr(f"labelembed.lab.data.corpus.preprocessing.{moment}", stop)
    called = call(*TRAIN, "--out", "corpus", "--overwrite")
    monkeypatch.undo()
    assert called.code == 130
    assert asked == [{"_tokenizers": 0, "_write_split": 4, "files_of": 8, "json.dumps": asked[0]}[moment]]
    assert "Traceback" not in called.err
    assert listing(text) == before


def test_gzip_is_seen_from_the_content(text):
    (text / "a").write_bytes(gzip.compress(b"x y\n"))
    (text / "b.gz").write_bytes(b"u\n")
    succeed("preprocess", "--train", "a", "--train", "b.gz", "--out", "corpus")
    np.testing.assert_array_equal(read_corpus("corpus").train.source[0], [4, 5])
