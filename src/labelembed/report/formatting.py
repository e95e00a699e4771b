"""Numbers as people read them; the only place where a fraction becomes a per cent."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labelembed.metrics import PairedComparison, Summary
from labelembed.report.comparison import Comparison
from labelembed.report.table import Row

NOTHING = "-"


@dataclass(frozen=True)
class MeasureColumn:
    """How one metric of a `Row` is shown.

    Attributes:
        attribute: Its name in `Row.measures`.
        heading: What stands above it.
        unit: What the shown number is in; empty for a bare number.
        scale: What the number is multiplied with to be shown.
        decimals: Digits after the point.
        column: Its name in the CSV files, to which ``_mean``, ``_sd`` and ``_n`` are added; empty: `attribute`.
    """

    attribute: str
    heading: str
    unit: str
    scale: float
    decimals: int
    column: str = ""

    @property
    def file_column(self) -> str:
        """Its name in the CSV files."""
        return self.column or self.attribute

    def summary(self, row: Row) -> Summary | None:
        """Returns this metric of a row."""
        return row.measures.get(self.attribute)

    def text(self, row: Row) -> str:
        """Returns ``mean ± sd`` in the shown unit, the mean alone for one run, or a dash for none.

        Epochs to the baseline say how many runs got there, unless all did; epochs saved are of the same runs.
        """
        summary = self.summary(row)
        counts_runs = self.attribute == "epochs_to_baseline"
        if summary is None:
            return "never" if counts_runs and row.reachable else NOTHING
        # Nobody needs tenths of many seconds, and the column would not fit.
        decimals = 0 if self.attribute == "seconds" and summary.mean >= 10 else self.decimals
        text = summary_text(summary, decimals, scale=self.scale)
        return f"{text} ({row.reached} of {row.reachable})" if counts_runs and row.reached < row.reachable else text


# In the order of their weight: what a narrow screen cuts off is the least missed.
MEASURES = (
    MeasureColumn("bleu", "BLEU", "", 100, 2),
    MeasureColumn("brevity_penalty", "brevity penalty", "", 1, 3),
    MeasureColumn("length_ratio", "length ratio", "", 1, 3),
    MeasureColumn("chrf", "chrF", "", 100, 2),
    MeasureColumn("rouge_l", "ROUGE-L", "", 100, 2),
    MeasureColumn("test_error", "test error", "%", 100, 2),
    MeasureColumn("top5_error", "top-5 error", "%", 100, 2),
    MeasureColumn("top2_error", "top-2 error", "%", 100, 2),
    MeasureColumn("nll", "NLL", "nats", 1, 3),
    MeasureColumn("calibrated_nll", "NLL after temperature scaling", "nats", 1, 3),
    MeasureColumn("calibration_error", "ECE", "%", 100, 1),
    MeasureColumn("calibrated_calibration_error", "ECE after temperature scaling", "%", 100, 1),
    MeasureColumn("validation_error", "validation error", "%", 100, 2),
    MeasureColumn("perplexity", "perplexity", "", 1, 2),
    MeasureColumn("temperature", "temperature", "", 1, 2),
    MeasureColumn("brier", "Brier score", "", 1, 3),
    MeasureColumn("macro_f1", "macro-F1", "%", 100, 2),
    MeasureColumn("balanced_accuracy", "balanced accuracy", "%", 100, 2),
)
# As in the second paper's tables: how fast, and how good at best.
SPEED_MEASURES = (
    MeasureColumn("best_accuracy", "best accuracy", "%", 100, 2),
    MeasureColumn("best_epoch", "at epoch", "", 1, 1),
    MeasureColumn("area_under_curve", "AUAC", "%", 100, 2, "auac"),
    MeasureColumn("epochs_to_baseline", "epochs to baseline", "", 1, 1),
    MeasureColumn("epochs_saved", "epochs saved", "%", 100, 1),
    MeasureColumn("epochs_saved_of_all", "of all epochs", "%", 100, 1),
    MeasureColumn("seconds", "seconds", "", 1, 1),
)


def headline_words(comparison: Comparison) -> str:
    """Returns what the comparison is decided by, in words: `test error`, `validation error`, `test BLEU`."""
    return f"{comparison.split} {'BLEU' if comparison.headline == 'bleu' else 'error'}"


def number(value: float, decimals: int) -> str:
    """Returns a number with fixed digits after the point; what rounds to zero has no sign."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def summary_text(summary: Summary | None, decimals: int, *, scale: float = 1.0) -> str:
    """Returns ``mean ± sd``, the mean alone for one run, or a dash."""
    if summary is None:
        return NOTHING
    spread = f" ± {number(scale * summary.standard_deviation, decimals)}" if summary.n > 1 else ""
    return f"{number(scale * summary.mean, decimals)}{spread}"


def points(*fractions: float) -> list[str]:
    """Returns differences of fractions in percentage points, all with the digits that tell them from 0."""
    decimals = 2
    for fraction in fractions:
        while decimals < 4 and fraction and float(f"{100 * fraction:.{decimals}f}") == 0:
            decimals += 1
    return [number(100 * fraction, decimals) for fraction in fractions]


def p_text(p_value: float | None) -> str:
    """Returns a p value with two digits that count, or a dash."""
    if p_value is None:
        return NOTHING
    return f"{p_value:.2f}" if p_value >= 0.0995 else f"{p_value:.2g}"


def interval_text(ends: Sequence[float] | None, *, scale: float, decimals: int) -> str:
    """Returns an interval, ``low to high``, or a dash where there is none."""
    if ends is None or math.isnan(ends[0]):
        return NOTHING
    return " to ".join(number(scale * end, decimals) for end in ends[:2])


def detectable_text(comparison: PairedComparison) -> str:
    """Returns the minimum detectable difference of these seeds, in points, or a dash."""
    return NOTHING if math.isnan(comparison.detectable) else points(comparison.detectable)[0]


def seeds_text(seeds: Iterable[int]) -> str:
    """Returns ``"seed 3"`` or ``"seeds 3, 5"``."""
    chosen = sorted(seeds)
    return f"seed{'' if len(chosen) == 1 else 's'} {', '.join(str(seed) for seed in chosen)}"


def counted(count: int, noun: str) -> str:
    """Returns ``"1 seed"`` or ``"8 seeds"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(parts: Sequence[str], *, most: int = 12) -> str:
    """Returns ``"a"``, ``"a and b"`` or ``"a, b and c"``; of more than `most` the first, and how many others."""
    if len(parts) > most:
        parts = [*parts[: most - 1], f"{len(parts) - most + 1} others"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def shortened(text: str, limit: int) -> str:
    """Returns text in one line of at most `limit` characters, without characters that cannot be shown."""
    line = " ".join(text.split())[: limit + 1]
    # Control characters and halves of surrogate pairs are no text, in XML not even allowed.
    shown = "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def wrapped(name: str, width: int) -> str:
    """Returns a name in lines of at most `width` letters, broken where a setting ends rather than within a word."""
    lines: list[str] = []
    for word in shortened(name, 90).split():
        # A long setting breaks behind its `=` or `_`: label_embedding_, embedding=, compressed.
        for piece in _pieces(word, width):
            if lines and len(lines[-1]) + len(piece) + 1 <= width and not lines[-1].endswith(("=", "_", "-")):
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
    return "\n".join(lines)


def _pieces(word: str, width: int) -> list[str]:
    """Returns a word in pieces of at most `width` letters, cut behind a sign where there is one."""
    pieces: list[str] = []
    while len(word) > width:
        cut = max((word.rfind(sign, 0, width) for sign in "=_-/."), default=-1) + 1
        cut = cut if cut > width // 3 else width
        pieces.append(word[:cut])
        word = word[cut:]
    return [*pieces, word]
