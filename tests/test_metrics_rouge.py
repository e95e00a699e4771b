"""ROUGE against hand-worked values and against plain loops, for words and for Chinese characters."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from labelembed.metrics import rouge
from labelembed.metrics.rouge import longest_common_subsequence
from tests.naive.rouge import naive_longest_common_subsequence, naive_rouge

NAMES = ("rouge1", "rouge2", "rougeL")


def f1_of(hypothesis, *references, level="word", **arguments):
    found = rouge([hypothesis], [[line] for line in references], level=level, **arguments)
    return tuple(found[name].value for name in NAMES)


HAND_WORKED = [
    # hypothesis, reference, level, F1 of ROUGE-1, ROUGE-2, ROUGE-L as 2 common / (grams of both)
    ("the cat sat", "the cat sat", "word", (1, 1, 1)),
    ("dogs run", "the cat sat", "word", (0, 0, 0)),
    # unigrams the, cat: 2 * 2 / (3 + 4); bigram "the cat": 2 * 1 / (2 + 3)
    ("the cat sat", "the cat was there", "word", (Fraction(4, 7), Fraction(2, 5), Fraction(4, 7))),
    # "the" three times against once: clipped to 1
    ("the the the", "the cat", "word", (Fraction(2, 5), 0, Fraction(2, 5))),
    # twice against twice counts twice; bigrams (a a) (a b) against (b a) (a a)
    ("a a b", "b a a", "word", (1, Fraction(1, 2), Fraction(2, 3))),
    # the same words the other way round: one of them is a subsequence
    ("c b a", "a b c", "word", (1, 0, Fraction(1, 3))),
    # Lin's example: S2 "police kill the gunman", S1 "police killed the gunman": 3 of 4, bigram "the gunman"
    ("police kill the gunman", "police killed the gunman", "word", (Fraction(3, 4), Fraction(1, 3), Fraction(3, 4))),
    # Lin's S3 "the gunman kill police": the same words and bigrams as S2, but the subsequence is "the gunman"
    ("the gunman kill police", "police killed the gunman", "word", (Fraction(3, 4), Fraction(1, 3), Fraction(1, 2))),
    ("", "the cat", "word", (0, 0, 0)),
    ("the cat", "", "word", (0, 0, 0)),
    ("", "", "word", (0, 0, 0)),
    ("cat", "cat", "word", (1, 0, 1)),  # a single word has no bigram
    # 天 气 好 of 4 and 3 characters; bigrams 天气 of 天气 气很 很好 and 天气 气好
    ("天气很好", "天气好", "character", (Fraction(6, 7), Fraction(2, 5), Fraction(6, 7))),
    # 北京 and 天 气 against 天气 of 北京: other order
    ("北京天气", "天气北京", "character", (1, Fraction(2, 3), Fraction(1, 2))),
    # spaces are no characters: the same text
    ("天 气 很 好", "天气很好", "character", (1, 1, 1)),
    # as words a Chinese line is one word
    ("天气很好", "天气好", "word", (0, 0, 0)),
    # 好好学习 against 好学: clipped to one 好; bigram 好学
    ("好好学习", "好学", "character", (Fraction(2, 3), Fraction(1, 2), Fraction(2, 3))),
]


@pytest.mark.parametrize(("hypothesis", "reference", "level", "expected"), HAND_WORKED)
def test_rouge_equals_hand_worked_values(hypothesis, reference, level, expected):
    assert f1_of(hypothesis, reference, level=level) == pytest.approx([float(part) for part in expected], abs=1e-12)


def test_of_several_references_the_best_f1_counts_for_each_measure_by_itself():
    # ROUGE-1 is best by the second (all words), ROUGE-2 by the first (the bigram a b).
    assert f1_of("a b c", "a b", "c b a") == pytest.approx((1.0, 2 / 3, 0.8), abs=1e-12)
    found = rouge(["a b c"], [["a b"], ["c b a"]])
    assert found["rouge1"].details == {"precision": 1.0, "recall": 1.0}
    assert found["rouge2"].details == {"precision": 0.5, "recall": 1.0}


def test_lowercase_makes_capitals_equal():
    assert f1_of("The Cat", "the cat") == (0, 0, 0)
    assert f1_of("The Cat", "the cat", lowercase=True) == (1, 1, 1)


def test_the_signature_says_every_choice():
    assert rouge(["a"], [["a"]])["rouge1"].signature == "nrefs:1|case:mixed|level:word|mean:sentences"
    two = rouge(["a"], [["a"], ["b"]], level="character", lowercase=True)["rougeL"].signature
    assert two == "nrefs:2|case:lower|level:character|mean:sentences|refs:best F1"


def test_chinese_by_words_is_a_note():
    (note,) = rouge(["天气很好"], [["天气好"]])["rouge1"].notes
    assert "level='character'" in note
    assert rouge(["天气很好"], [["天气好"]], level="character")["rouge1"].notes == ()
    assert rouge(["the weather"], [["the weather 天气"]])["rouge1"].notes == ()


def made_lines(random, count, letters, level):
    joint = " " if level == "word" else ""
    return [joint.join(random.choice(letters, size=int(random.integers(0, 9)))) for _ in range(count)]


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("seed", range(8))
def test_rouge_equals_plain_loops(level, seed):
    random = np.random.default_rng(seed)
    letters = list("abcde") if level == "word" else list("天气很好 学")
    hypotheses = made_lines(random, 6, letters, level)
    references = [made_lines(random, 6, letters, level) for _ in range(1 + seed % 3)]
    expected = naive_rouge(hypotheses, references, level)
    for name, score in rouge(hypotheses, references, level=level).items():
        # Sums of six fractions.
        assert (score.value, *score.details.values()) == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_the_subsequence_of_bits_equals_the_recursion(seed):
    random = np.random.default_rng(seed)
    one, other = ([str(letter) for letter in random.integers(0, 4, size=random.integers(0, 90))] for _ in range(2))
    expected = naive_longest_common_subsequence(tuple(one), tuple(other))
    assert longest_common_subsequence(one, other) == expected
    assert longest_common_subsequence(other, one) == expected


@pytest.mark.parametrize(
    ("hypotheses", "references", "arguments", "error", "message"),
    [
        (["a", "b"], [["a"]], {}, ValueError, r"`references` must have as many texts as `hypotheses`, 2, got 1"),
        (
            ["a"],
            [["a"], ["a", "b"]],
            {},
            ValueError,
            r"set 2 of `references` must have as many texts as `hypo.*, 1, got 2",
        ),
        ([], [[]], {}, ValueError, r"`hypotheses` must hold one or more texts, got none"),
        (["a"], [], {}, ValueError, r"`references` must hold one or more sets"),
        ("a b", [["a b"]], {}, TypeError, r"`hypotheses` must be a list of texts"),
        (["a b"], ["a b"], {}, TypeError, r"with one reference a sentence: \[references\]"),
        (["a", "b"], [["a", None]], {}, TypeError, r"`references` must hold texts, got NoneType at 1"),
        (
            ["a"],
            [["a"]],
            {"level": "words"},
            ValueError,
            r"`level` must be one of 'word', 'character', got 'words'.*'word'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(hypotheses, references, arguments, error, message):
    with pytest.raises(error, match=message):
        rouge(hypotheses, references, **arguments)
