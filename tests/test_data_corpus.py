"""Corpora: text in, arrays and tokenizers out; every error of a text with its file and line."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.lab.data import CorpusSettings, PairFiles, preprocess, read_corpus
from labelembed.lab.data.corpus.pair_files import read_lines
from labelembed.lab.data.corpus.text_corpus import open_corpus
from labelembed.lab.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS
from tests.made_corpus import made_pairs, write_corpus, write_pair_files, write_text
from tests.naive.corpus import naive_numbers, naive_vocabulary


def corpus_of(folder, source, target, *, validation=None, **settings):
    """A corpus of these lines, in FOLDER/corpus."""
    files = {"train": PairFiles(write_text(folder / "a", source), write_text(folder / "b", target))}
    if validation is not None:
        files["validation"] = write_pair_files(folder, "dev", validation)
    return preprocess(**files, out=folder / "corpus", settings=CorpusSettings(**settings))


def sides(corpus):
    return ((0, corpus.source_tokenizer, corpus.train.source), (1, corpus.target_tokenizer, corpus.train.target))


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("limits", [{}, {"min_count": 3, "vocabulary_size": 12}])
def test_tokens_and_ids_are_the_naive_ones(tmp_path, level, limits):
    pairs = made_pairs(80)
    corpus = write_corpus(tmp_path, train=80, level=level, **limits)
    for side, tokenizer, sentences in sides(corpus):
        lines = [(str.split if level == "word" else list)(pair[side]) for pair in pairs]
        tokens = naive_vocabulary(lines, size=limits.get("vocabulary_size"), min_count=limits.get("min_count", 1))
        ids = [naive_numbers(line, tokens) for line in lines]
        assert list(tokenizer.vocabulary) == tokens
        assert [each.tolist() for each in sentences] == ids
        assert any(1 in line for line in ids) == bool(limits)
    assert (corpus.names, corpus.num_labels) == (tuple(tokens), len(tokens))


@pytest.mark.parametrize("level", ["word", "character", "subword"])
def test_no_text_produces_a_special_token(tmp_path, level):
    lines = ["<s> a b </s>", "<pad><s> a<s>b <s>", "a b c"] * 20
    corpus = corpus_of(tmp_path, lines, lines, level=level, vocabulary_size=60)
    assert corpus.names[:4] == SPECIAL_TOKENS
    for sentences in (corpus.train.source, [*corpus.source_tokenizer.encode_lines(lines)]):
        assert not {PAD, BEGIN, END} & {token for line in sentences for token in line.tolist()}


def test_empty_pairs_and_long_training_pairs_are_left_out_together_and_counted(tmp_path):
    pairs = [("S1", "t1"), ("", "t2"), ("s3", " \t "), ("s4", "t4"), ("\u3000", ""), ("s1 x x x", "t5"),
             ("s1", "u u u u")]  # fmt: skip
    corpus = corpus_of(tmp_path, *zip(*pairs, strict=True), validation=pairs, max_length=3, lowercase=True)
    decode = corpus.source_tokenizer.decode
    assert [decode(each) for each in corpus.train.source] == ["s1", "s4"]
    assert [decode(each) for each in corpus.validation.source] == ["s1", "s4", "s1 x x x", "s1"]
    assert corpus.references("validation") == ["t1", "t4", "t5", "u u u u"]
    assert corpus.source_lines("validation")[0] == "s1"  # in lower case, as the tokens are
    assert [note.rpartition(" ")[2] for note in corpus.notes] == ["3", "2", "3"]


def test_a_shared_vocabulary_is_counted_over_both_sides(tmp_path):
    corpus = corpus_of(tmp_path, ["a b", "c"], ["b b", "d"], shared_vocabulary=True)
    assert corpus.names == (*SPECIAL_TOKENS, "b", "a", "c", "d")
    assert corpus.source_tokenizer.vocabulary == corpus.target_tokenizer.vocabulary


def test_fingerprint_is_of_the_content_and_not_of_the_folder(tmp_path):
    first = write_corpus(tmp_path / "x").fingerprint()
    assert write_corpus(tmp_path / "y").fingerprint() == first
    changes = [{"train": 59}, {"validation": 11}, {"min_count": 9}, {"lowercase": True}, {"level": "character"}]
    others = {write_corpus(tmp_path / str(number), **each).fingerprint() for number, each in enumerate(changes)}
    assert len(others | {first}) == 6


def test_fewer_training_pairs_are_part_of_more_and_whole(tmp_path):
    whole = write_corpus(tmp_path)
    path = str(whole.folder)

    def pairs(corpus):
        return [(a.tolist(), b.tolist()) for a, b in zip(corpus.train.source, corpus.train.target, strict=True)]

    few, more = (open_corpus(path=path, train_examples=count) for count in (10, 30))
    assert (len(few.train), len(more.train)) == (10, 30)
    assert all(pair in pairs(more) for pair in pairs(few))
    assert all(pair in pairs(whole) for pair in pairs(more))
    assert pairs(few) == pairs(open_corpus(path=path, train_examples=10))
    assert few.train.num_examples == sum(len(target) + 1 for _, target in pairs(few))
    assert len({corpus.fingerprint() for corpus in (whole, few, more)}) == 3
    assert (few.names, len(few.validation)) == (whole.names, len(whole.validation))
    with pytest.raises(DataError, match=r"train_examples.*60 pairs"):
        open_corpus(path=path, train_examples=61)
    with pytest.raises(DataError, match=r"has no corpus\.json"):
        open_corpus(path=str(tmp_path))


def test_decoding_stops_at_the_end_and_characters_are_code_points(tmp_path):
    words = corpus_of(tmp_path, ["a a b"], ["a"]).source_tokenizer
    assert words.decode([BEGIN, 4, PAD, 1, 5, END, 4, 99]) == "a <unk> b"
    assert words.decode(np.array([], np.uint16)) == ""
    (tmp_path / "other").mkdir()
    letters = corpus_of(tmp_path / "other", ["狗狗狗 𝄞𝄞 b 狗"], ["a"], level="character").source_tokenizer
    assert letters.tokens("\t狗\u3000 𝄞?b ") == ["狗", " ", "𝄞", "?", "b"]
    assert letters.encode_lines(["\t狗\u3000 𝄞?b "])[0].tolist() == [4, 5, 6, 1, 7]
    assert letters.decode([4, 5, 6]) == "狗 𝄞"


@pytest.mark.parametrize("shared", [False, True])
def test_subwords_come_back_and_are_the_same_each_time(tmp_path, shared):
    settings = {"level": "subword", "vocabulary_size": 24, "shared_vocabulary": shared}
    corpus = write_corpus(tmp_path / "x", **settings)
    for side, tokenizer, sentences in sides(corpus):
        lines = [pair[side] for pair in made_pairs(60)]
        assert len(tokenizer.vocabulary) == 24
        assert [tokenizer.decode(each) for each in sentences] == lines
        assert "".join(tokenizer.tokens(lines[0])).replace("\u2581", " ").strip() == lines[0]
    assert (corpus.source_tokenizer.digest() == corpus.target_tokenizer.digest()) == shared
    assert write_corpus(tmp_path / "y", **settings).fingerprint() == corpus.fingerprint()


def test_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"labelembed\[text\]"):
        write_corpus(tmp_path)


def test_lines_end_with_line_feeds_only(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffa\u2028b\r\n\r\nc\x0bd\re\n\nlast".encode())
    lines = ["a\u2028b", "", "c\x0bd\re", "", "last"]
    assert list(read_lines(tmp_path / "a")) == lines
    assert list(read_lines(write_text(tmp_path / "a.gz", lines))) == lines


GZIP = gzip.compress(b"".join(b"%d %d\n" % (number, hash((number, 0))) for number in range(60_000)))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"caf\xc3\xa9\n" * 200_000 + b"caf\xe9 x\nb\n", "line 200,001 is not UTF-8"),
        (GZIP[: len(GZIP) // 2], r"damaged after line [\d,]+"),
        (GZIP[:1000] + bytes(200) + GZIP[1200:], r"damaged after line [\d,]+"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_its_line(tmp_path, content, line):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=f"a: .*{line}"):
        list(read_lines(tmp_path / "a"))


@pytest.mark.parametrize(
    ("source", "target", "word"),
    [
        (["a b"] * 3, ["c"] * 2, "not 3 and 2"),
        ([], ["c"] * 4, "not 0 and 4"),
        ([], [], "only empty lines"),
        (["a b c"], ["a b c"], "no pair is left"),
    ],
)
def test_files_without_pairs_are_refused_and_nothing_is_written(tmp_path, source, target, word):
    with pytest.raises(DataError, match=word):
        corpus_of(tmp_path, source, target, max_length=2)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "b"}


def test_a_corpus_with_sides_of_unequal_length_is_refused(tmp_path):
    folder = write_corpus(tmp_path, train=60, validation=12).folder
    for name in ("{}-target.bin", "{}-target-offsets.bin"):
        (folder / name.format("validation")).replace(folder / name.format("train"))
    with pytest.raises(DataError, match="60 source and 12 target sentences"):
        read_corpus(folder)
