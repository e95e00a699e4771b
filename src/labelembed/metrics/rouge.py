"""ROUGE-1, ROUGE-2 and ROUGE-L for words and for characters (Lin 2004).

Common packages drop all but Latin letters and digits before they count, and so give 0 for Chinese. Here a token is what
`level` says and nothing is dropped or stemmed; text that is to be compared with numbers of such a package is
prepared the same way first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from labelembed.errors import ArgumentFaults
from labelembed.metrics.text_lines import LEVELS, Level, TextScore, check_lines, mostly_without_spaces, split_tokens

MEASURES = ("rouge1", "rouge2", "rougeL")


# F1, precision (the share of the hypothesis that the reference has) and recall (the reverse) of two texts.
Overlap = tuple[float, float, float]


def rouge(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    level: Level = "word",
    lowercase: bool = False,
) -> dict[str, TextScore]:
    """Returns ROUGE-1, ROUGE-2 and ROUGE-L, each the mean F1 over the sentences.

    ROUGE-n compares the n-grams, each counted at most as often as the other text has it; ROUGE-L the longest common
    subsequence of the whole line (sentence level, not the summary level that splits at line ends). A sentence with
    nothing to count, such as an empty hypothesis or a single word for ROUGE-2, scores 0. Of several references of a
    sentence the one with the best F1 counts, with its precision and recall, for each measure by itself.

    Args:
        hypotheses: One text a sentence ``[N]``.
        references: One list ``[N]`` for each set of references.
        level: `word`: tokens are what stands between white space; `character`: every character but white space.
        lowercase: Whether capitals count as small letters.

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
    check_lines(hypotheses, references)
    faults = ArgumentFaults()
    faults.choice("level", level, LEVELS)
    faults.raise_if_any()
    found: dict[str, list[Overlap]] = {name: [] for name in MEASURES}
    for hypothesis, *wanted in zip(hypotheses, *references, strict=True):
        tokens = split_tokens(hypothesis, level=level, lowercase=lowercase)
        overlaps = [_overlaps(tokens, split_tokens(line, level=level, lowercase=lowercase)) for line in wanted]
        for name in MEASURES:
            found[name].append(max((one[name] for one in overlaps), key=lambda overlap: overlap[0]))
    case = "lower" if lowercase else "mixed"
    signature = f"nrefs:{len(references)}|case:{case}|level:{level}|mean:sentences"
    if len(references) > 1:
        signature += "|refs:best F1"
    notes: tuple[str, ...] = ()
    if level == "word" and mostly_without_spaces(references[0]):
        notes = ("most letters are of a script without spaces, whose lines are few long words; take level='character'",)
    scores = {}
    for name in MEASURES:
        f1, precision, recall = (sum(part) / len(hypotheses) for part in zip(*found[name], strict=True))
        scores[name] = TextScore(f1, signature, {"precision": precision, "recall": recall}, notes)
    return scores


def _overlaps(hypothesis: list[str], reference: list[str]) -> dict[str, Overlap]:
    pairs_of = [list(itertools.pairwise(tokens)) for tokens in (hypothesis, reference)]
    return {
        "rouge1": _overlap(_common(hypothesis, reference), len(hypothesis), len(reference)),
        "rouge2": _overlap(_common(*pairs_of), len(pairs_of[0]), len(pairs_of[1])),
        "rougeL": _overlap(longest_common_subsequence(hypothesis, reference), len(hypothesis), len(reference)),
    }


def _common(hypothesis: Sequence[object], reference: Sequence[object]) -> int:
    return (Counter(hypothesis) & Counter(reference)).total()


def _overlap(common: int, of_hypothesis: int, of_reference: int) -> Overlap:
    """Returns F1, precision and recall, 0 where nothing is in common or there is nothing to count."""
    if common == 0:
        return 0.0, 0.0, 0.0
    return 2 * common / (of_hypothesis + of_reference), common / of_hypothesis, common / of_reference


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns how many tokens two sequences have in common in the same order.

    A whole row of the usual table is one integer with a bit a token, so that a row is four operations (Hyyrö 2004,
    Bit-parallel LCS-length computation revisited).

    Example:
        >>> longest_common_subsequence("a b c d".split(), "a c b d".split())
        3
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
