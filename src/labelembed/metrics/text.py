"""BLEU and chrF as sacrebleu computes them, with its signature, and ROUGE-1, ROUGE-2 and ROUGE-L.

Hypotheses are texts [N], one a sentence; references are a list of such lists, one for each set of references.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from labelembed.errors import ArgumentErrors, DataError

Texts = Sequence[str]
Tokenizer = Literal["13a", "none", "zh", "char", "intl"]  # sacrebleu's others download models or need packages
Level = Literal["word", "character"]


class TextScore(NamedTuple):
    """A score in [0, 1] (publications print it times 100), every choice that it depends on, and its parts by name."""

    value: float
    signature: str
    details: dict[str, float]


def bleu(hypotheses: Texts, references: Sequence[Texts], *, tokenize: Tokenizer = "13a") -> TextScore:
    """Returns the BLEU of a corpus by sacrebleu (Post 2018); `details` has the brevity penalty and counts of tokens.

    Args:
        hypotheses: Texts as people write them, not tokenised.
        references: Sets of references.
        tokenize: How sacrebleu divides texts into words: `13a` (the usual one), `intl`, `zh` and `char` for Chinese,
            `none` for tokens between spaces.

    Raises:
        ValueError, TypeError: When these are no lists of as many texts, at least one, or `tokenize` is unknown.
        DataError: When sacrebleu is not installed.
    """
    _check_choice("tokenize", tokenize, Tokenizer)
    # `force`: sacrebleu would print that texts look tokenised.
    score, parts = _by_sacrebleu("BLEU", hypotheses, references, tokenize=tokenize, force=True)
    details = {"brevity_penalty": parts.bp, "hypothesis_tokens": parts.sys_len, "reference_tokens": parts.ref_len}
    return score._replace(details=details)


def chrf(hypotheses: Texts, references: Sequence[Texts]) -> TextScore:
    """Returns the chrF of a corpus (Popović 2015), the F2 of its character n-grams up to 6; raises as `bleu`."""
    return _by_sacrebleu("CHRF", hypotheses, references)[0]


def rouge(hypotheses: Texts, references: Sequence[Texts], *, level: Level = "word") -> dict[str, TextScore]:
    """Returns ``rouge1``, ``rouge2`` and ``rougeL`` (Lin 2004, sections 2 and 3), each the mean F1 over the sentences.

    F1 is ``2 common / (tokens of both)``, of n-grams or of the longest common subsequence of the whole line; 0 where
    there is nothing to count. Of several references the one with the best F1 counts, for each metric by itself. No
    letter is dropped and nothing stemmed, so that Chinese can be scored.

    Args:
        hypotheses: Texts.
        references: Sets of references.
        level: Tokens are what stands between white space (`word`), or every character but white space.

    Raises:
        ValueError, TypeError: As `bleu`.

    Example:
        >>> {name: round(score.value, 3) for name, score in rouge(["the cat sat"], [["the cat was there"]]).items()}
        {'rouge1': 0.571, 'rouge2': 0.4, 'rougeL': 0.571}
    """
    _check_lines(hypotheses, references)
    _check_choice("level", level, Level)
    best = []
    for lines in zip(hypotheses, *references, strict=True):
        words = [line.split() for line in lines]
        hypothesis, *wanted = words if level == "word" else [list("".join(line)) for line in words]
        scores = [_f1_scores(hypothesis, reference) for reference in wanted]
        best.append([max(metric) for metric in zip(*scores, strict=True)])
    means = [sum(metric) / len(best) for metric in zip(*best, strict=True)]
    signature = f"nrefs:{len(references)}|case:mixed|level:{level}|mean:sentences"
    signature += "|refs:best F1" if len(references) > 1 else ""
    names = ("rouge1", "rouge2", "rougeL")
    return {name: TextScore(mean, signature, {}) for name, mean in zip(names, means, strict=True)}


def _by_sacrebleu(
    metric: str, hypotheses: Texts, references: Sequence[Texts], **settings: Any
) -> tuple[TextScore, Any]:
    """Returns the score as a fraction with its signature, and sacrebleu's own."""
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise DataError(f'BLEU and chrF need sacrebleu ({error}): pip install "labelembed[text]"') from error
    _check_lines(hypotheses, references)
    scorer: Any = getattr(metrics, metric)(**settings)
    score = scorer.corpus_score(list(hypotheses), [list(lines) for lines in references])
    # Its exp of a mean of logarithms may exceed 100 by a rounding.
    return TextScore(min(score.score / 100, 1.0), str(scorer.get_signature()), {}), score


def _check_choice(name: str, value: str, allowed: Any) -> None:
    errors = ArgumentErrors()
    errors.choice(name, value, get_args(allowed))
    errors.raise_if_any()


def _check_lines(hypotheses: Texts, references: Sequence[Texts]) -> None:
    if any(isinstance(texts, str) for texts in (hypotheses, references, *references)):
        what = "`hypotheses` must be a list of texts and `references` a list of such lists"
        raise TypeError(f"{what}; with one reference a sentence: [references]")
    counts = [len(lines) for lines in references]
    if not hypotheses or set(counts) != {len(hypotheses)}:
        what = "each set of `references` must have as many texts as `hypotheses`, at least 1"
        raise ValueError(f"{what}, got {counts} and {len(hypotheses)}")


def _f1_scores(hypothesis: list[str], reference: list[str]) -> list[float]:
    """Returns the F1 of words, of pairs of words, and of the longest common subsequence."""
    words, pairs = (hypothesis, reference), tuple(list(itertools.pairwise(text)) for text in (hypothesis, reference))
    common = [(Counter(one) & Counter(other)).total() for one, other in (words, pairs)]
    common.append(_longest_common_subsequence(hypothesis, reference))
    tokens = [len(one) + len(other) for one, other in (words, pairs, words)]
    return [2 * shared / count if shared else 0.0 for shared, count in zip(common, tokens, strict=True)]


def _longest_common_subsequence(first: Texts, second: Texts) -> int:
    """Returns its length. A row of the usual table is one integer, a bit a token (Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for index, token in enumerate(second):
        positions[token] = positions.get(token, 0) | 1 << index
    everything = (1 << len(second)) - 1
    row = everything  # a zero bit: the length grows at this token of `second`
    for token in first:
        matching = row & positions.get(token, 0)
        row = ((row + matching) | (row - matching)) & everything
    return len(second) - row.bit_count()
