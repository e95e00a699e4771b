"""BLEU and chrF as sacrebleu computes them, with the signature that makes the numbers comparable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from labelembed.errors import ArgumentFaults, DataError, unknown_name
from labelembed.metrics.text_lines import TextScore, check_lines, mostly_without_spaces

Tokenizer = Literal["13a", "none", "zh", "char", "intl"]
#: sacrebleu has more, which download a model or need a further package.
TOKENIZERS = ("13a", "none", "zh", "char", "intl")
# sacrebleu's paired test copies the counts of every sentence once for every sample.
_MOST_SAMPLED_SENTENCES = 30_000_000


class BootstrapScore(NamedTuple):
    """A system's score and the 95 % interval of its bootstrap samples, fractions in [0, 1]."""

    value: float
    interval_low: float
    interval_high: float


class PairedBootstrap(NamedTuple):
    """Two systems on the same sentences, compared by paired bootstrap resampling (Koehn 2004).

    Attributes:
        difference: Score of the system minus that of the baseline, a fraction.
        p_value: How often a difference as large comes from the choice of the sentences; 1 for equal texts.
        baseline: Score and interval of the baseline.
        system: Score and interval of the system.
        signature: sacrebleu's, with the number of samples and the seed.
    """

    difference: float
    p_value: float
    baseline: BootstrapScore
    system: BootstrapScore
    signature: str


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Tokenizer = "13a",
    lowercase: bool = False,
) -> TextScore:
    """Returns the BLEU of a corpus, by sacrebleu.

    Args:
        hypotheses: One text a sentence ``[N]``, as people write it (not tokenised).
        references: One list ``[N]`` for each set of references.
        tokenize: How sacrebleu cuts the texts into words: `13a` (the usual one), `intl`, `zh` and `char` for Chinese,
            `none` for texts that already are tokens between spaces.
        lowercase: Whether capitals count as small letters.

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
    check_lines(hypotheses, references)
    metric = _bleu(tokenize, lowercase)
    found = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    details = {f"precision{order}": part / 100 for order, part in enumerate(found.precisions, start=1)}
    details |= {"brevity_penalty": found.bp, "hypothesis_tokens": found.sys_len, "reference_tokens": found.ref_len}
    notes = _notes(hypotheses, references, tokenize)
    return TextScore(_fraction(found.score), str(metric.get_signature()), details, notes)


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    lowercase: bool = False,
    word_order: int = 0,
) -> TextScore:
    """Returns the chrF of a corpus, the F2 of its character n-grams up to 6, by sacrebleu.

    Args:
        hypotheses: One text a sentence ``[N]``.
        references: One list ``[N]`` for each set of references.
        lowercase: Whether capitals count as small letters.
        word_order: Longest word n-gram that counts as well; 0: chrF2, 2: chrF2++.

    Returns:
        The score with sacrebleu's signature.

    Raises:
        ValueError: When numbers of lines differ, there are none, or `word_order` is negative.
        TypeError: When a text stands where a list of texts is expected.
        DataError: When sacrebleu is not installed.

    Reference:
        Popović (2015), chrF: character n-gram F-score for automatic MT evaluation.
    """
    check_lines(hypotheses, references)
    metric = _chrf(lowercase, word_order)
    found = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    return TextScore(_fraction(found.score), str(metric.get_signature()), {})


def paired_bootstrap(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[Literal["bleu", "chrf"]] = ("bleu", "chrf"),
    samples: int = 1000,
    seed: int = 12345,
    tokenize: Tokenizer = "13a",
    lowercase: bool = False,
) -> dict[str, PairedBootstrap]:
    """Compares two systems on the same sentences, by sacrebleu's paired bootstrap.

    The p value is about the choice of the test sentences. It says nothing about the choice of the seeds that the two
    systems were trained with.

    Args:
        baseline: One text a sentence ``[N]``, of the system to compare with.
        system: The same of the other system.
        references: One list ``[N]`` for each set of references.
        metrics: What to compare by, `bleu` and `chrf`.
        samples: How many samples of N sentences are drawn.
        seed: Of the draws.
        tokenize: See `bleu`.
        lowercase: Whether capitals count as small letters.

    Returns:
        One comparison for each of `metrics`.

    Raises:
        ValueError: When numbers of lines differ, there are none, or an argument is out of its range.
        TypeError: When a text stands where a list of texts is expected.
        DataError: When sacrebleu is not installed.

    Reference:
        Koehn (2004), Statistical significance tests for machine translation evaluation.
    """
    check_lines(baseline, references, name="baseline")
    check_lines(system, references, name="system")
    faults = ArgumentFaults()
    for name in metrics:
        if name not in ("bleu", "chrf"):
            raise ValueError(unknown_name("metric", name, ("bleu", "chrf")))
    faults.require(samples >= 1, "samples", samples, "must be >= 1")
    most = _MOST_SAMPLED_SENTENCES // len(system)
    if samples > most >= 1:
        faults.require(False, "samples", samples, f"must be at most {most:,} with {len(system):,} sentences")
    faults.require(seed >= 0, "seed", seed, "must be >= 0")
    faults.raise_if_any()
    by_name = {"bleu": lambda: _bleu(tokenize, lowercase), "chrf": lambda: _chrf(lowercase, 0)}
    named = [("baseline", list(baseline)), ("system", list(system))]
    test = _sacrebleu().significance.PairedTest
    found: dict[str, PairedBootstrap] = {}
    for name in metrics:
        with _sacrebleu_seed(seed):
            signatures, scores = test(
                named, {name: by_name[name]()}, [list(lines) for lines in references], test_type="bs", n_samples=samples
            )()
        (key,) = signatures
        first, second = scores[key]
        # Of a system compared with itself sacrebleu says p = 1 / (samples + 1).
        p_value = 1.0 if list(baseline) == list(system) else float(second.p_value)
        found[name] = PairedBootstrap(
            float(second.score - first.score) / 100,
            p_value,
            _with_interval(first),
            _with_interval(second),
            str(signatures[key]),
        )
    return found


def _bleu(tokenize: str, lowercase: bool) -> Any:
    faults = ArgumentFaults()
    faults.choice("tokenize", tokenize, TOKENIZERS)
    faults.raise_if_any()
    # `force`: sacrebleu would print that texts look tokenised; here that is a note.
    return _sacrebleu().metrics.BLEU(tokenize=tokenize, lowercase=lowercase, force=True)


def _chrf(lowercase: bool, word_order: int) -> Any:
    faults = ArgumentFaults()
    faults.require(word_order >= 0, "word_order", word_order, "must be >= 0")
    faults.raise_if_any()
    return _sacrebleu().metrics.CHRF(lowercase=lowercase, word_order=word_order)


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
        import sacrebleu.significance
    except ImportError as error:
        raise DataError(
            f"BLEU and chrF are computed by sacrebleu, which cannot be imported ({error}); "
            'pip install "labelembed[text]"'
        ) from error
    return sacrebleu


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Gives sacrebleu its seed in the one way it takes it, and puts the environment back."""
    before = {name: value for name, value in os.environ.items() if name == "SACREBLEU_SEED"}
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        del os.environ["SACREBLEU_SEED"]
        os.environ |= before


def _fraction(per_cent: float) -> float:
    return min(per_cent / 100, 1.0)  # sacrebleu's exp of a mean of logarithms may exceed 100 by a rounding


def _with_interval(result: Any) -> BootstrapScore:
    """Returns a score with the middle 95 % of its samples, which sacrebleu gives as their mean and half width."""
    return BootstrapScore(
        *(float(value) / 100 for value in (result.score, result.mean - result.ci, result.mean + result.ci))
    )


def _notes(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize: str) -> tuple[str, ...]:
    notes = []
    if tokenize != "none":
        cut = sum(line.endswith(" .") for line in hypotheses)
        if cut >= 100 or 2 * cut > len(hypotheses):
            notes.append(
                f"{cut:,} of {len(hypotheses):,} hypotheses end in ' .': BLEU expects text as people write it; put it "
                "back together, or tokenise the references in the same way and take tokenize='none'"
            )
    if tokenize in ("13a", "intl") and mostly_without_spaces(references[0]):
        notes.append(
            f"most letters are of a script without spaces, whose lines {tokenize} takes for few long words; take "
            "tokenize='zh' or tokenize='char'"
        )
    return tuple(notes)
