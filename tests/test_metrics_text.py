"""BLEU and chrF are sacrebleu's own numbers with its signature; ROUGE against hand-worked values and plain loops."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from labelembed.errors import DataError
from labelembed.metrics import bleu, chrf, rouge
from tests.naive.rouge import naive_rouge

sacrebleu = pytest.importorskip("sacrebleu")

HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]


@pytest.mark.parametrize("tokenize", ["13a", "none", "zh", "char", "intl"])
def test_scores_and_signatures_are_sacrebleus(tokenize):
    for metric, found in (
        (sacrebleu.BLEU(tokenize=tokenize, force=True), bleu(HYPOTHESES, REFERENCES, tokenize=tokenize)),
        (sacrebleu.CHRF(), chrf(HYPOTHESES, REFERENCES)),
    ):
        assert found.value == metric.corpus_score(HYPOTHESES, REFERENCES).score / 100
        assert found.signature == str(metric.get_signature())


@pytest.mark.parametrize("metric", [bleu, chrf])
def test_equal_texts_score_one_and_empty_ones_zero(metric, capsys):
    assert 1 - 1e-12 < metric(HYPOTHESES, [HYPOTHESES]).value <= 1.0
    assert metric(["", "", ""], REFERENCES).value == 0.0
    metric(["the dog bit the man ."] * 200, [["the dog bit the man."] * 200])  # sacrebleu would print a warning
    assert capsys.readouterr() == ("", "")


def test_without_sacrebleu_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(DataError, match=r'pip install "labelembed\[text\]"'):
        bleu(HYPOTHESES, REFERENCES)


def f1_of(hypothesis, *references, level="word"):
    return tuple(score.value for score in rouge([hypothesis], [[line] for line in references], level=level).values())


HAND_WORKED = [
    # hypothesis, reference, level, F1 of ROUGE-1, ROUGE-2, ROUGE-L as 2 common / (grams of both)
    # unigrams the, cat: 2 * 2 / (3 + 4); bigram "the cat": 2 * 1 / (2 + 3)
    ("the cat sat", "the cat was there", "word", (Fraction(4, 7), Fraction(2, 5), Fraction(4, 7))),
    # Lin's S3 "the gunman kill police": the subsequence is "the gunman"
    ("the gunman kill police", "police killed the gunman", "word", (Fraction(3, 4), Fraction(1, 3), Fraction(1, 2))),
    ("", "the cat", "word", (0, 0, 0)),
    ("cat", "cat", "word", (1, 0, 1)),  # a single word has no bigram
    # spaces are no characters: the same text
    ("天 气 很 好", "天气很好", "character", (1, 1, 1)),
    # 好好学习 against 好学: clipped to one 好; bigram 好学
    ("好好学习", "好学", "character", (Fraction(2, 3), Fraction(1, 2), Fraction(2, 3))),
]


@pytest.mark.parametrize(("hypothesis", "reference", "level", "expected"), HAND_WORKED)
def test_rouge_equals_hand_worked_values(hypothesis, reference, level, expected):
    assert f1_of(hypothesis, reference, level=level) == pytest.approx([float(part) for part in expected], abs=1e-12)


def made_lines(random, count, letters, level):
    joint = " " if level == "word" else ""
    return [joint.join(random.choice(letters, size=int(random.integers(0, 90)))) for _ in range(count)]


@pytest.mark.parametrize("level", ["word", "character"])
@pytest.mark.parametrize("seed", range(4))
def test_rouge_equals_plain_loops(level, seed):
    random = np.random.default_rng(seed)
    letters = list("abcde") if level == "word" else list("天气很好 学")
    hypotheses = made_lines(random, 6, letters, level)
    references = [made_lines(random, 6, letters, level) for _ in range(1 + seed % 3)]
    expected = naive_rouge(hypotheses, references, level)
    for name, score in rouge(hypotheses, references, level=level).items():
        assert score.value == pytest.approx(expected[name], abs=1e-12)  # a sum of six fractions
