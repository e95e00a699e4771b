"""The answer: whether to use the method, how sure that is, and one next step. The sentences are in `verdict.txt`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple

from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns, number_in
from labelembed.lab.report.decision import (
    FEWEST_SEEDS,
    LEVEL,
    contradicted_by_p,
    needed,
    outcome,
    shown_sign,
    sign_of,
    smallest_corrected_p,
    still_improving,
)
from labelembed.lab.report.error_analysis import most_frequent_label
from labelembed.lab.report.formatting import listed, templates
from labelembed.lab.report.ranking import ONE_HOT, SMOOTHING, method_candidates, ranked
from labelembed.lab.report.settings import tuning_entries, tuning_statement
from labelembed.lab.report.table import Differences, compare_variants, corrected
from labelembed.metrics import PairedComparison

Answer = Literal["Use it", "Do not use it", "Cannot tell yet", ""]
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01}
_UNTRAINED_BLEU = 0.01
_COSTS = ("calibrated_nll", "nll", "calibration_error")
# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05


class Contrast(NamedTuple):
    """The method against one reference: all differences, their p corrected over the variants that were tested.

    `found` is the difference that decides; None without a common seed.
    """

    method: VariantRuns
    reference: VariantRuns
    differences: Differences
    found: PairedComparison | None
    tested: list[PairedComparison]


@dataclass(frozen=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        answer: Whether to use the method; empty where nothing is compared.
        headline: The answer as a person would say it.
        details: The differences with their intervals: first to what decides, then to cross entropy and the baseline.
        worse: What got worse, in a sentence; empty where nothing did.
        next_step: What to do next.
        command: The command that does it; empty where none does.
        caveats: What was chosen and by what, what was not tuned, what the p says.
        contrast: The method and what it is held against; None where nothing is compared.
    """

    answer: Answer
    headline: str
    details: list[str]
    worse: str
    next_step: str
    command: str
    caveats: list[str] = field(default_factory=list)
    contrast: Contrast | None = None

    @property
    def step(self) -> str:
        """The answer, the next step and its command in one line."""
        answer = f"{self.answer}. " if self.answer else ""
        return f"{answer}{self.next_step} {self.command}".strip()

    def lines(self) -> list[str]:
        """Returns all of it, the most important first."""
        return [line for line in (self.headline, *self.details, self.worse, self.step, *self.caveats) if line]


def verdict(comparison: Comparison) -> list[str]:
    """Returns what the comparison shows in a few sentences, the most important first; see `full_verdict`."""
    return full_verdict(comparison).lines()


def full_verdict(comparison: Comparison) -> Verdict:
    """Returns what the comparison shows.

    It is about the learned method that is best on validation examples, by the error or of translations by BLEU: first
    against the best label smoothing, then against cross entropy, then against the baseline where that is neither. The
    answer follows from the first: use it where it is better by both intervals and the corrected p; do not where it is
    worse by the same standard, or where any gain is small; else what is needed to tell. Without tuned label smoothing,
    with fewer than five seeds and where every run still improves at its last epoch nobody can tell.
    """
    nothing, chance = _nothing_learned(comparison)
    facts = {
        "comparison": comparison,
        "nothing_learned": nothing,
        "chance": chance,
        "untrained": _untrained(comparison),
    }
    baseline, candidates = comparison.baseline_runs, method_candidates(comparison)
    if baseline is None:
        run = comparison.runs[0]
        too_short = still_improving([run.result])
        reached = {split: run.metric(split, comparison.headline) for split in SPLITS}
        facts |= {"case": "single run", "result": run.result, "too_short": too_short, "reached": reached}
        return _written("", facts, "" if too_short or nothing else _command(comparison))
    if not candidates:
        alone = listed([one.title for one in comparison.finished])
        return _written("", facts | {"case": "alone", "alone": alone}, _command(comparison))
    (method, *_), chosen_on = ranked(candidates, comparison)
    references = _references(method, baseline, comparison)
    contrasts = [_contrast(method, reference, comparison, candidates) for reference in references]
    first = contrasts[0]
    smoothings = [variant for variant in comparison.finished if variant.objective_name == SMOOTHING]
    is_tuned = len(smoothings) > 1 or any(
        entry.get("space") and entry.get("name") in {one.name for one in smoothings}
        for entry in tuning_entries(comparison)
    )
    nll = first.differences.get("calibrated_nll")
    facts |= {
        "contrasts": contrasts,
        "method": method.title,
        "reference": "tuned label smoothing" if first.reference in smoothings and is_tuned else first.reference.title,
        "found": first.found,
        "what": "BLEU" if comparison.headline == "bleu" else "error",
        # The NLL after temperature scaling where it is beyond chance, by the standard of the error.
        "nll": nll if nll is not None and nll.n >= FEWEST_SEEDS and shown_sign(nll) else None,
        "worse": [name for name in _COSTS if name in first.differences and shown_sign(first.differences[name]) > 0],
        "time": _time_ratio(first),
        "is_open_by_p": bool(first.found and _agree(first.found) and contradicted_by_p(first.found)),
        "smallest_p": smallest_corrected_p(first.tested) or 0.0,
        "level": LEVEL,
        "candidates": len(candidates),
        "chosen_on": chosen_on,
        "smoothings": len(smoothings),
        "smoothing_chosen_on": ranked(smoothings, comparison)[1] if smoothings else "",
        "is_tuned": is_tuned,
        "tuning": tuning_statement(comparison),
    }
    if nothing == "all":
        return _written("Cannot tell yet", facts | {"case": "nothing learned"}, _longer(comparison), first)
    answer, decided, command = _decide(first, comparison)
    if answer == "Use it" and method.objective_name != SMOOTHING and not is_tuned:
        answer, decided = "Cannot tell yet", {"case": "better than untuned"}
        command = f"labelembed compare{_recipe_and_data(comparison)} --tuned"
    return _written(answer, facts | decided, command, first)


def _written(answer: Answer, facts: dict[str, Any], command: str, contrast: Contrast | None = None) -> Verdict:
    """Returns the verdict with the sentences that the template makes of the facts."""
    parts: dict[str, list[str]] = {"headline": [], "detail": [], "worse": [], "next": [], "caveat": []}
    for line in templates().get_template("verdict.txt").render(facts).splitlines():
        part, mark, sentence = line.partition("|")
        if mark:
            parts[part.strip()].append(" ".join(sentence.split()))
    headline, worse, step = (" ".join(parts[part]) for part in ("headline", "worse", "next"))
    return Verdict(answer, headline, parts["detail"], worse, step, command, parts["caveat"], contrast)


# ------------------------------------------------------------------------------------------------ what is held against


def _references(method: VariantRuns, baseline: VariantRuns, comparison: Comparison) -> list[VariantRuns]:
    """Returns what the method is held against, the most important first."""
    smoothings = [variant for variant in comparison.finished if variant.objective_name == SMOOTHING]
    one_hot = [variant for variant in comparison.finished if variant.objective_name == ONE_HOT][:1]
    order = [*ranked(smoothings, comparison)[0][:1], *one_hot, *([] if baseline in smoothings else [baseline])]
    if method.objective_name in (SMOOTHING, ONE_HOT):
        order = [baseline, *one_hot]
    return list({one.name: one for one in order if one.name != method.name and one.runs}.values()) or [baseline]


def _contrast(
    method: VariantRuns, reference: VariantRuns, comparison: Comparison, candidates: Sequence[VariantRuns]
) -> Contrast:
    # With the baseline all variants are compared; with another reference those that the method was chosen from.
    others = comparison.variants if reference.name == comparison.baseline else candidates
    differences = corrected(
        {one.name: compare_variants(one, reference, comparison.split) for one in others if one.name != reference.name}
    )
    tested = [of[comparison.headline] for of in differences.values() if comparison.headline in of]
    own = differences[method.name]
    return Contrast(method, reference, own, own.get(comparison.headline), tested)


def _decide(one: Contrast, comparison: Comparison) -> tuple[Answer, dict[str, Any], str]:
    """Returns whether to use the method, the facts of the case, and the command that goes on from there."""
    found, keep = one.found, _train(comparison, one.reference)
    if found is None or found.n < FEWEST_SEEDS:
        return "Cannot tell yet", {"case": "too few seeds" if found else "no common seed"}, _seeds(comparison, 8)
    if still_improving([run.result for variant in one[:2] for run in variant.runs.values()]):
        return "Cannot tell yet", {"case": "too short"}, _longer(comparison)
    reference = fmean(one.reference.metrics(comparison.split, comparison.headline).values())
    is_bleu = comparison.headline == "bleu"
    shown = outcome(found, smallest_gain=_SMALL[comparison.headline] * reference, more_is_better=is_bleu)
    if shown == "better":
        return "Use it", {"case": shown}, _train(comparison, one.method)
    if shown == "worse":
        return "Do not use it", {"case": shown}, keep
    if shown == "small gain":
        ends = [*found[2:4], *(found.joint[:2] if found.joint else ())]
        return "Do not use it", {"case": shown, "most": max(0.0, *(ends if is_bleu else (-end for end in ends)))}, keep
    if shown == "no interval":
        return "Cannot tell yet", {"case": shown}, _seeds(comparison, 2 * found.n)
    agree, more = _agree(found), needed(found)
    facts: dict[str, Any] = {
        "case": shown,
        "agree": agree,
        "needed": more.of if more else "",
        "number": more.number if more else 0,
    }
    if agree and (found.joint is None or sign_of(*found.joint[:2])):  # it is the p alone that leaves it open
        return "Cannot tell yet", facts | {"needed": "p"}, _seeds(comparison, 2 * found.n)
    if more is None:
        return "Cannot tell yet", facts, keep
    # A minimum detectable difference above all errors is one that nobody can use.
    facts["detectable"] = found.detectable if not agree and found.detectable < reference else 0.0
    if more.of == "seeds" or found.joint is None:
        return "Cannot tell yet", facts, _seeds(comparison, more.number)
    facts["number"] = max(int(float(f"{more.number:.2g}")), found.joint.examples + 1)
    return "Cannot tell yet", facts, ""


def _agree(found: PairedComparison) -> bool:
    """Returns whether the interval over seeds excludes zero."""
    return bool(sign_of(found.interval_low, found.interval_high))


def _time_ratio(one: Contrast) -> float:
    """Returns how many times as long training takes as with the reference; 0 where it is no longer, or not known."""
    ratios = [
        ours / theirs
        for seed, run in one.method.runs.items()
        if seed in one.reference.runs
        if (ours := number_in(run.result.get("seconds")))
        if (theirs := number_in(one.reference.runs[seed].result.get("seconds")))
    ]
    return fmean(ratios) if ratios and fmean(ratios) > _SLOWER else 0.0


def _untrained(comparison: Comparison) -> str:
    """Returns which networks write nothing that is like a translation."""
    bleus = {variant.title: variant.metrics(comparison.split, "bleu").values() for variant in comparison.variants}
    return listed([name for name, values in bleus.items() if values and fmean(values) < _UNTRAINED_BLEU])


def _nothing_learned(comparison: Comparison) -> tuple[str, float]:
    """Returns which variants, or `all`, are no better than giving the most frequent label, and the error of that."""
    shares = (most_frequent_label(run, comparison.split) for run in comparison.runs)
    share = next((share for share in shares if share is not None), None)
    if share is None or comparison.headline != "error":
        return "", 0.0
    errors = {one.title: one.metrics(comparison.split, "error").values() for one in comparison.finished}
    # Equal up to rounding counts: the same label for every example is the commonest way to learn nothing.
    nothing = [name for name, values in errors.items() if values and fmean(values) >= 1 - share - 1e-9]
    return "all" if len(nothing) == len(errors) else listed(nothing), 1 - share


# ---------------------------------------------------------------------------------------------------- the next command

_VALUE = r"[ =]('[^']*'|\S+)"


def _command(comparison: Comparison, more: str = "", *, without: str = "never") -> str:
    """Returns the command of the comparison without some options and with more; of a run one that compares."""
    made = next((shlex.join(run.command) for run in comparison.runs if run.command), "")
    if not made.startswith("labelembed compare"):
        made = f"labelembed compare{_recipe_and_data(comparison)}"
    return re.sub(rf" ({without}){_VALUE}", "", made) + more


def _seeds(comparison: Comparison, seeds: int) -> str:
    return _command(comparison, f" --seeds {seeds}", without="--seeds")


def _longer(comparison: Comparison) -> str:
    """Returns the command of the comparison with twice the epochs, into another folder."""
    epochs = max((int(run.result.get("epochs") or 1) for run in comparison.runs), default=1)
    out = re.search(rf" (?:--out|-o){_VALUE}", _command(comparison))
    more = f" --set epochs={2 * epochs}" + (f" --out {out[1]}-longer" if out else "")
    return _command(comparison, more, without="--epochs|--out|-o")


def _train(comparison: Comparison, variant: VariantRuns) -> str:
    """Returns the command that trains one run with a variant's objective, and what was tuned beside it."""
    words = ["--objective", ":".join(variant.name.split(" "))]
    for entry in tuning_entries(comparison):
        chosen = entry.get("arguments") if entry.get("name") == variant.name else None
        for key, value in chosen.items() if isinstance(chosen, dict) else ():
            words += ["--set", f"{key}={value}"] if not key.startswith("objective.") else []
    return f"labelembed train{_recipe_and_data(comparison)} {shlex.join(words)}"


def _recipe_and_data(comparison: Comparison) -> str:
    """Returns the recipe and the data as the runs' own command named them, with a space before each."""
    made = next((shlex.join(run.command) for run in comparison.runs if run.command), "")
    recipe = re.match(r"labelembed (?:compare|train)( (?!-)\S+)?", made)
    data = re.search(rf" --data{_VALUE}", made)
    return ((recipe[1] or "") if recipe else f" {shlex.quote(comparison.recipe)}") + (data[0] if data else "")
