"""Vocabularies: their order, their file, and what cannot be one."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest

from labelembed.errors import DataError
from labelembed.lab.data import Vocabulary
from labelembed.lab.special_tokens import SPECIAL_TOKENS
from tests.naive.corpus import naive_numbers, naive_vocabulary

SPECIAL = "<pad>\n<unk>\n<s>\n</s>\n"


@pytest.mark.parametrize(("size", "min_count"), [(None, 1), (9, 1), (None, 3), (7, 3), (1000, 1)])
def test_vocabulary_is_the_naive_one(size, min_count):
    generator = random.Random(0)
    words = [f"w{number}" for number in range(12)] + ["<s>", "<unk>", "Ä", "ä"]
    lines = [[words[int(16 * generator.random() ** 2)] for _ in range(5)] for _ in range(30)]
    counts = Counter(word for line in lines for word in line)
    vocabulary = Vocabulary.from_counts(counts, size=size, min_count=min_count)
    expected = naive_vocabulary(lines, size=size, min_count=min_count)
    assert list(vocabulary.tokens) == expected
    for line in lines:
        assert vocabulary.encode(line).tolist() == naive_numbers(line, expected)


def test_what_is_spelt_like_a_special_token_is_unknown():
    vocabulary = Vocabulary.from_counts({"<s>": 9, "</s>": 9, "<pad>": 9, "a": 1})
    assert vocabulary.tokens == (*SPECIAL_TOKENS, "a")
    assert vocabulary.encode(["<s>", "a", "</s>", "<pad>", "<unk>"]).tolist() == [1, 4, 1, 1, 1]
    assert vocabulary.encode([]).tolist() == []


def test_decode_returns_the_tokens_and_refuses_other_numbers():
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "b"))
    assert vocabulary.decode([5, 4, 0]) == ["b", "a", "<pad>"]
    for wrong in (-1, 6):
        with pytest.raises(ValueError, match=f"must be 0 to 5, got {wrong}"):
            vocabulary.decode([wrong])
    with pytest.raises(ValueError, match="`tokens` must begin with the special tokens"):
        Vocabulary(("a", "b"))


def test_file_is_plain_text_and_comes_back(tmp_path):
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "Übung", " ", "\u2028", "狗"))
    vocabulary.save(tmp_path / "v.txt")
    content = (tmp_path / "v.txt").read_bytes()
    assert content == (SPECIAL + "Übung\n \n\u2028\n狗\n").encode()
    assert Vocabulary.load(tmp_path / "v.txt") == vocabulary
    assert vocabulary.digest() == hashlib.sha256(content).hexdigest()
    assert vocabulary.digest() != Vocabulary(vocabulary.tokens[:-1]).digest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: .* must begin with the special tokens <pad>, <unk>, <s>, </s>, found ''"),
        (b"<pad>\n<unk>\n<s>\n", "line 4: .* found its end"),
        (b"<pad>\n<s>\n<unk>\n</s>\n", "line 2: .* found '<s>'"),
        (SPECIAL.encode() + b"a\nb\na\n", "line 7: .* found 'a' again"),
        (SPECIAL.encode() + b"a\n\nb\n", "line 6: .* found ''"),
        (SPECIAL.encode() + b"caf\xe9\n", "is not UTF-8"),
    ],
)
def test_damaged_file_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"v.txt: .*{message}"):
        Vocabulary.load(tmp_path / "v.txt")
