"""BLEU and chrF as sacrebleu computes them, with its signature, and ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from labelembed.errors import ArgumentErrors, DataError

Tokenizer = Literal["13a", "none", "zh", "char", "intl"]
#: sacrebleu has more, which download a model or need a further package.
TOKENIZERS = ("13a", "none", "zh", "char", "intl")
LEVELS = ("word", "character")

# F1, precision (the share of the hypothesis that the reference has) and recall (the reverse) of two texts.
Overlap = tuple[float, float, float]


class TextScore(NamedTuple):
    """What one metric says of a text.

    Attributes:
        value: The score, a fraction in [0, 1]; publications print it times 100.
        signature: Every choice that the value depends on, in a form to be printed beside it.
        details: The parts of the value, by name: fractions where they are shares, counts where they are counts.
    """

    value: float
    signature: str
    details: dict[str, float]


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: Tokenizer = "13a") -> TextScore:
    """Returns the BLEU of a corpus, by sacrebleu.

    Args:
        hypotheses: One text a sentence ``[N]``, as people write it (not tokenised).
        references: One list ``[N]`` for each set of references.
        tokenize: How sacrebleu cuts the texts into words: `13a` (the usual one), `intl`, `zh` and `char` for Chinese,
            `none` for texts that already are tokens between spaces.

    Returns:
        The score with sacrebleu's signature; `details` holds ``precision1`` to ``precision4`` and
        ``brevity_penalty`` as fractions, and the tokens of hypotheses and references.

    Raises:
        ValueError: When numbers of lines differ, there are none, or `tokenize` is unknown.
        TypeError: When a text stands where a list of texts is expected.
        DataError: When sacrebleu is not installed.

    Example:
        >>> bleu(["the cat sat on the mat"], [["the cat sat on a mat"]]).signature.split("|version")[0]
        'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'

    Reference:
        Papineni et al. (2002), BLEU; Post (2018), A call for clarity in reporting BLEU scores.
    """
    errors = ArgumentErrors()
    errors.choice("tokenize", tokenize, TOKENIZERS)
    errors.raise_if_any()
    # `force`: sacrebleu would print that texts look tokenised.
    score, found = _by_sacrebleu("BLEU", hypotheses, references, tokenize=tokenize, force=True)
    details = {f"precision{order}": part / 100 for order, part in enumerate(found.precisions, start=1)}
    details |= {"brevity_penalty": found.bp, "hypothesis_tokens": found.sys_len, "reference_tokens": found.ref_len}
    return score._replace(details=details)


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> TextScore:
    """Returns the chrF of a corpus, the F2 of its character n-grams up to 6, by sacrebleu.

    Args:
        hypotheses: One text a sentence ``[N]``.
        references: One list ``[N]`` for each set of references.

    Returns:
        The score with sacrebleu's signature.

    Raises:
        ValueError: When numbers of lines differ, or there are none.
        TypeError: When a text stands where a list of texts is expected.
        DataError: When sacrebleu is not installed.

    Reference:
        Popović (2015), chrF: character n-gram F-score for automatic MT evaluation.
    """
    return _by_sacrebleu("CHRF", hypotheses, references)[0]


def rouge(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    level: Literal["word", "character"] = "word",
) -> dict[str, TextScore]:
    """Returns ROUGE-1, ROUGE-2 and ROUGE-L, each the mean F1 over the sentences.

    ROUGE-n compares the n-grams, each counted at most as often as the other text has it; ROUGE-L the longest common
    subsequence of the whole line (sentence level, not the summary level that splits at line ends). A sentence with
    nothing to count, such as an empty hypothesis or a single word for ROUGE-2, scores 0. Of several references of a
    sentence the one with the best F1 counts, with its precision and recall, for each metric by itself.

    Common packages drop all but Latin letters and digits before they count, and so give 0 for Chinese. Here nothing is
    dropped or stemmed.

    Args:
        hypotheses: One text a sentence ``[N]``.
        references: One list ``[N]`` for each set of references.
        level: `word`: tokens are what stands between white space; `character`: every character but white space, for
            Chinese and Japanese, whose words no space divides.

    Returns:
        ``rouge1``, ``rouge2``, ``rougeL``; `details` holds the mean ``precision`` and ``recall``.

    Raises:
        ValueError: When numbers of lines differ, there are none, or `level` is unknown.
        TypeError: When a text stands where a list of texts is expected.

    Example:
        >>> found = rouge(["the cat sat"], [["the cat was there"]])
        >>> {name: round(score.value, 3) for name, score in found.items()}
        {'rouge1': 0.571, 'rouge2': 0.4, 'rougeL': 0.571}
        >>> rouge(["天气很好"], [["天气好"]], level="character")["rouge1"].details
        {'precision': 0.75, 'recall': 1.0}

    Reference:
        Lin (2004), ROUGE: a package for automatic evaluation of summaries, sections 2 and 3.
    """
    _check_lines(hypotheses, references)
    errors = ArgumentErrors()
    errors.choice("level", level, LEVELS)
    errors.raise_if_any()
    best: list[list[Overlap]] = []
    for hypothesis, *wanted in zip(hypotheses, *references, strict=True):
        tokens = _tokens(hypothesis, level)
        overlaps = [_overlaps(tokens, _tokens(line, level)) for line in wanted]
        best.append([max(of_all, key=lambda overlap: overlap[0]) for of_all in zip(*overlaps, strict=True)])
    signature = f"nrefs:{len(references)}|case:mixed|level:{level}|mean:sentences"
    if len(references) > 1:
        signature += "|refs:best F1"
    scores = {}
    for name, found in zip(("rouge1", "rouge2", "rougeL"), zip(*best, strict=True), strict=True):
        f1, precision, recall = (sum(part) / len(hypotheses) for part in zip(*found, strict=True))
        scores[name] = TextScore(f1, signature, {"precision": precision, "recall": recall})
    return scores


def _by_sacrebleu(
    metric: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]], **settings: Any
) -> tuple[TextScore, Any]:
    """Returns the score as a fraction with its signature, and sacrebleu's own."""
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise DataError(
            f"BLEU and chrF are computed by sacrebleu, which cannot be imported ({error}); "
            'pip install "labelembed[text]"'
        ) from error
    _check_lines(hypotheses, references)
    scorer: Any = getattr(metrics, metric)(**settings)
    found = scorer.corpus_score(list(hypotheses), [list(lines) for lines in references])
    # Its exp of a mean of logarithms may exceed 100 by a rounding.
    return TextScore(min(found.score / 100, 1.0), str(scorer.get_signature()), {}), found


def _check_lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(hypotheses, str):
        raise TypeError("`hypotheses` must be a list of texts, one a sentence, got one text")
    if isinstance(references, str) or any(isinstance(lines, str) for lines in references):
        raise TypeError(
            "`references` must be a list of lists, one for each set of references with one text a sentence; "
            "with one reference a sentence: [references]"
        )
    counts = [len(lines) for lines in references]
    if not hypotheses or not counts or set(counts) != {len(hypotheses)}:
        raise ValueError(
            f"each set of `references` must have as many texts as `hypotheses`, at least 1, got {counts} and "
            f"{len(hypotheses)}"
        )


def _tokens(line: str, level: str) -> list[str]:
    words = line.split()
    return words if level == "word" else list("".join(words))


def _overlaps(hypothesis: list[str], reference: list[str]) -> list[Overlap]:
    """Returns the overlap of two texts by words, by pairs of words, and by their longest common subsequence."""
    pairs, wanted_pairs = list(itertools.pairwise(hypothesis)), list(itertools.pairwise(reference))
    return [
        _overlap((Counter(hypothesis) & Counter(reference)).total(), len(hypothesis), len(reference)),
        _overlap((Counter(pairs) & Counter(wanted_pairs)).total(), len(pairs), len(wanted_pairs)),
        _overlap(_longest_common_subsequence(hypothesis, reference), len(hypothesis), len(reference)),
    ]


def _overlap(common: int, of_hypothesis: int, of_reference: int) -> Overlap:
    if common == 0:
        return 0.0, 0.0, 0.0
    return 2 * common / (of_hypothesis + of_reference), common / of_hypothesis, common / of_reference


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns how many tokens two sequences have in common in the same order.

    A whole row of the usual table is one integer with a bit a token, so that a row is four operations (Hyyrö 2004,
    Bit-parallel LCS-length computation revisited).
    """
    places: dict[str, int] = {}
    for place, token in enumerate(other):
        places[token] = places.get(token, 0) | 1 << place
    everything = (1 << len(other)) - 1
    row = everything  # a zero bit: the length grows at this token of `other`
    for token in one:
        matching = row & places.get(token, 0)
        row = ((row + matching) | (row - matching)) & everything
    return len(other) - row.bit_count()
