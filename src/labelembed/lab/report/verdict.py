"""The answer: whether to use the method, how sure that is, and one next step. The sentences are in `verdict.txt`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple

from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns
from labelembed.lab.report.decision import (
    FEWEST_SEEDS,
    LEVEL,
    contradicted_by_p,
    corrected_p,
    needed,
    outcome,
    shown_sign,
    sign_of,
    smallest_corrected_p,
    still_improving,
)
from labelembed.lab.report.error_analysis import most_frequent_label
from labelembed.lab.report.formatting import interval, listed, number, p_text, points, shortened, templates
from labelembed.lab.report.ranking import ONE_HOT, SMOOTHING, method_candidates, ranked
from labelembed.lab.report.settings import tuning_entries, tuning_statement
from labelembed.lab.report.table import Differences, compare_variants, corrected, shared_machine
from labelembed.metrics import PairedComparison

Answer = Literal["Use it", "Do not use it", "Cannot tell yet", ""]
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01}
_UNTRAINED_BLEU = 0.01
# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05


class Contrast(NamedTuple):
    """The method against one reference: all paired differences, their p corrected over all that it was chosen among."""

    method: VariantRuns
    reference: VariantRuns
    differences: Differences
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

    def lines(self) -> list[str]:
        """Returns all of it, the most important first."""
        step = self.next_step + (f" {self.command}" if self.command else "")
        answer = [f"{self.answer}. Next: {step}" if self.answer else f"Next: {step}"] if step else []
        return [self.headline, *self.details, *([self.worse] if self.worse else []), *answer, *self.caveats]


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
    facts: dict[str, Any] = {"words": comparison.headline_words, "untrained": _untrained(comparison), "more": []}
    baseline, candidates = comparison.baseline_runs, method_candidates(comparison)
    nothing_learned = _nothing_learned(comparison)
    facts |= nothing_learned
    if baseline is None:
        return _written("", facts | _single_run(comparison, bool(nothing_learned)))
    if not comparison.finished or not candidates:
        names = listed([one.title for one in comparison.finished])
        return _written("", facts | {"case": "alone", "alone": names, "command": _command(comparison)})
    (method, *_), chosen_on = ranked(candidates, comparison)
    contrasts = [
        _contrast(method, reference, comparison, candidates) for reference in _references(method, baseline, comparison)
    ]
    first = contrasts[0]
    facts |= {
        "method": _name(method),
        "reference": _name(first.reference),
        "details": [_detail(one, comparison) for one in contrasts],
        "worse": _what_got_worse(first, comparison),
        "time_is_rough": shared_machine(comparison),
        "p": _p_caveat(first, comparison),
        "chosen": (len(candidates), chosen_on),
        "smoothing": _smoothing(comparison),
        "tuning": tuning_statement(comparison),
    }
    if facts.get("learned_nothing") == "all":
        facts |= {"case": "nothing learned", "command": _command(comparison, longer=True)}
        return _written("Cannot tell yet", facts, first)
    answer, decided = _decide(first, comparison)
    if answer == "Use it" and method.objective_name != SMOOTHING and facts["smoothing"]["how"] not in ("tuned", "best"):
        answer, decided = "Cannot tell yet", {"case": "better than untuned", "command": _command(comparison, tuned=True)}
    return _written(answer, facts | _amounts(first, comparison) | decided, first)


def _written(answer: Answer, facts: dict[str, Any], contrast: Contrast | None = None) -> Verdict:
    """Returns the verdict with the sentences that the template makes of the facts."""
    absent = dict.fromkeys(("details", "worse", "learned_nothing", "p", "chosen", "smoothing", "tuning", "detectable"))
    text = templates().get_template("verdict.txt").render(absent | facts)
    parts: dict[str, list[str]] = {}
    for line in text.splitlines():
        part, mark, sentence = line.partition("|")
        if mark:
            parts.setdefault(part.strip(), []).append(" ".join(sentence.split()))
    headline, step = " ".join(parts["headline"]), " ".join(parts.get("next", []))
    worse = " ".join(parts.get("worse", []))
    command = str(facts.get("command", ""))
    return Verdict(answer, headline, parts.get("detail", []), worse, step, command, parts.get("caveat", []), contrast)


def _name(variant: VariantRuns) -> str:
    return shortened(variant.title, 120)


# ------------------------------------------------------------------------------------------------ what is held against


def _references(method: VariantRuns, baseline: VariantRuns, comparison: Comparison) -> list[VariantRuns]:
    """Returns what the method is held against, the most important first."""
    smoothings = [variant for variant in comparison.finished if variant.objective_name == SMOOTHING]
    one_hot = [variant for variant in comparison.finished if variant.objective_name == ONE_HOT][:1]
    smoothing = ranked(smoothings, comparison)[0][:1] if smoothings else []
    if method.objective_name in (SMOOTHING, ONE_HOT):
        order = [baseline, *one_hot]
    else:
        order = [*smoothing, *one_hot, *([] if baseline.objective_name == SMOOTHING else [baseline])]
    return list({one.name: one for one in order if one.name != method.name and one.runs}.values()) or [baseline]


def _contrast(
    method: VariantRuns, reference: VariantRuns, comparison: Comparison, candidates: Sequence[VariantRuns]
) -> Contrast:
    # To the baseline all variants are compared, and shown so; to another reference those that the method is chosen from.
    others = comparison.variants if reference.name == comparison.baseline else candidates
    differences = {
        one.name: compare_variants(one, reference, comparison.split) for one in others if one.name != reference.name
    }
    tested = [of[comparison.headline] for of in differences.values() if comparison.headline in of]
    return Contrast(method, reference, corrected(differences)[method.name], tested)


def _decide(one: Contrast, comparison: Comparison) -> tuple[Answer, dict[str, Any]]:
    """Returns whether to use the method, and the facts of the case: what is needed where nobody can tell."""
    found = one.differences.get(comparison.headline)
    keep = {"command": _train_command(comparison, one.reference)}
    if found is None or found.n < FEWEST_SEEDS:
        case = "too few seeds" if found is not None else "no common seed"
        return "Cannot tell yet", {"case": case, "command": _command(comparison, seeds=8)}
    runs = [run.result for variant in (one.method, one.reference) for run in variant.runs.values()]
    if still_improving(runs):
        return "Cannot tell yet", {"case": "too short", "command": _command(comparison, longer=True)}
    reference = fmean(one.reference.metrics(comparison.split, comparison.headline).values())
    is_bleu = comparison.headline == "bleu"
    shown = outcome(found, smallest_gain=_SMALL[comparison.headline] * reference, more_is_better=is_bleu)
    if shown == "better":
        return "Use it", {"case": shown, "command": _train_command(comparison, one.method)}
    if shown == "worse":
        return "Do not use it", keep | {"case": shown}
    if shown == "small gain":
        ends = [*found[2:4], *(found.joint[:2] if found.joint else ())]
        most = max(ends) if is_bleu else -min(ends)
        return "Do not use it", keep | {"case": shown, "most": points(max(most, 0.0))[0]}
    if shown == "no interval":
        return "Cannot tell yet", {"case": shown, "command": _command(comparison, seeds=2 * found.n)}
    return "Cannot tell yet", _what_is_needed(found, reference, one, comparison)


def _what_is_needed(
    found: PairedComparison, error: float, one: Contrast, comparison: Comparison
) -> dict[str, Any]:
    """Returns how many seeds, or examples, would show a difference as large as the one that was seen."""
    more, joint = needed(found), found.joint
    agree = bool(sign_of(found.interval_low, found.interval_high))
    facts: dict[str, Any] = {"case": "open", "seeds_agree": agree, "split": comparison.split, "n": found.n}
    # A difference larger than all errors is one that nobody can use.
    facts["detectable"] = points(found.detectable)[0] if found.detectable < error and not agree else ""
    if agree and (joint is None or sign_of(*joint[:2])):  # it is the p alone that leaves it open
        return facts | {"needed": "p", "command": _command(comparison, seeds=2 * found.n)}
    if more is None:
        return facts | {"needed": "", "command": _train_command(comparison, one.reference)}
    if more.of == "seeds" or joint is None:
        return facts | {"needed": "seeds", "number": more.number, "command": _command(comparison, seeds=more.number)}
    about = max(int(float(f"{more.number:.2g}")), joint.examples + 1)
    return facts | {"needed": "examples", "number": about, "examples": joint.examples, "command": ""}


# --------------------------------------------------------------------------------------------------------- the facts


def _amounts(one: Contrast, comparison: Comparison) -> dict[str, Any]:
    """Returns the difference that decides and that of the calibrated NLL, where it is beyond chance, in words."""
    found, nll = one.differences.get(comparison.headline), one.differences.get("calibrated_nll")
    what = "BLEU" if comparison.headline == "bleu" else "error"
    facts: dict[str, Any] = {"amount": "", "n": 0, "nll": "", "nll_sign": 0, "what": what}
    if found is not None:
        less = "the same" if found.difference == 0 else "less" if found.difference < 0 else "more"
        size = "" if found.difference == 0 else f"{points(abs(found.difference))[0]} points "
        facts |= {"amount": f"{size}{less} {what}", "n": found.n}
    if nll is not None and nll.n >= FEWEST_SEEDS and shown_sign(nll):
        amount = f"{number(abs(nll.difference), 3)} nats {'less' if nll.difference < 0 else 'more'} NLL"
        facts |= {"nll": amount, "nll_sign": shown_sign(nll)}
    return facts


def _detail(one: Contrast, comparison: Comparison) -> dict[str, Any]:
    """Returns the difference that decides with its intervals in points."""
    found = one.differences.get(comparison.headline)
    facts: dict[str, Any] = {"method": _name(one.method), "reference": _name(one.reference), "n": found.n if found else 0}
    if found is not None:
        ends = points(found.difference, found.interval_low, found.interval_high)
        facts |= {"difference": ends[0], "interval": "" if math.isnan(found.interval_low) else " to ".join(ends[1:])}
        joint = found.joint
        facts |= {"joint": interval(joint[:2], 2, scale=100) if joint else "", "split": comparison.split}
    return facts


def _what_got_worse(one: Contrast, comparison: Comparison) -> dict[str, Any]:
    """Returns which costs the method has: only what is beyond chance, and time by its ratio."""

    def worse(metric: str) -> float | None:
        found = one.differences.get(metric)
        return found.difference if found is not None and shown_sign(found) > 0 else None

    times = [
        ours / theirs
        for seed in one.method.runs.keys() & one.reference.runs.keys()
        if (ours := one.method.runs[seed].seconds) and (theirs := one.reference.runs[seed].seconds)
    ]
    after, before, ece = (worse(name) for name in ("calibrated_nll", "nll", "calibration_error"))
    return {
        "nll_after": number(after, 3) if after is not None else "",
        "nll": number(before, 3) if before is not None else "",
        "ece": points(ece)[0] if ece is not None else "",
        "time": number(fmean(times), 2) if times and fmean(times) > _SLOWER else "",
    }


def _p_caveat(one: Contrast, comparison: Comparison) -> dict[str, str]:
    """Returns the p that does not bear out what the interval over seeds shows, where that is so."""
    found = one.differences.get(comparison.headline)
    if found is None or not sign_of(found.interval_low, found.interval_high) or not contradicted_by_p(found):
        return {}
    smallest = smallest_corrected_p(one.tested)
    limit = p_text(smallest) if smallest is not None and smallest > LEVEL else ""
    return {"value": p_text(corrected_p(found)), "smallest": limit}


def _smoothing(comparison: Comparison) -> dict[str, Any]:
    """Returns how the strength of the label smoothing was found: `tuned`, `best` of several, `one`, or `none`."""
    smoothings = [variant for variant in comparison.finished if variant.objective_name == SMOOTHING]
    asked = any(variant.objective_name == SMOOTHING for variant in comparison.variants)
    if not smoothings:
        return {"how": "none", "asked": asked}
    tuned = {str(entry.get("name")) for entry in tuning_entries(comparison) if entry.get("space")}
    if len(smoothings) > 1:
        return {"how": "best", "count": len(smoothings), "chosen_on": ranked(smoothings, comparison)[1]}
    return {"how": "tuned" if smoothings[0].name in tuned else "one"}


def _single_run(comparison: Comparison, learned_nothing: bool) -> dict[str, Any]:
    run = comparison.runs[0]
    unit = "" if comparison.headline == "bleu" else " %"
    reached = [
        f"{split} {comparison.headline_words.split()[-1]} of {number(value, 2, scale=100)}{unit}"
        for split in SPLITS
        if (value := run.metric(split, comparison.headline)) is not None
    ]
    longer = still_improving([run.result])
    return {
        "case": "single run",
        "reached": " and a ".join(reached),
        "epoch": run.result.get("selected_epoch"),
        "epochs": run.result.get("epochs"),
        "selected_by": run.result.get("selected_by", "nothing known"),
        "too_short": longer,
        "command": "" if longer or learned_nothing else _command(comparison),
    }


def _untrained(comparison: Comparison) -> str:
    """Returns which networks write nothing that is like a translation."""
    bleus = {variant.title: variant.metrics(comparison.split, "bleu").values() for variant in comparison.variants}
    return listed([name for name, values in bleus.items() if values and fmean(values) < _UNTRAINED_BLEU])


def _nothing_learned(comparison: Comparison) -> dict[str, str]:
    """Returns which variants are no better than always giving the most frequent label, if there are any."""
    shares = (most_frequent_label(run, comparison.split) for run in comparison.runs)
    share = next((share for share in shares if share is not None), None)
    if share is None or comparison.headline != "error":
        return {}
    errors = {one.title: one.metrics(comparison.split, "error").values() for one in comparison.finished}
    # Equal up to rounding counts: the same label for every example is the commonest way to learn nothing.
    nothing = [name for name, values in errors.items() if values and fmean(values) >= 1 - share - 1e-9]
    if not nothing:
        return {}
    every = len(nothing) == len(errors)
    return {"learned_nothing": "all" if every else listed(nothing), "chance": number(1 - share, 2, scale=100)}


# ---------------------------------------------------------------------------------------------------- the next command


def _command(
    comparison: Comparison, *, seeds: int | None = None, longer: bool = False, tuned: bool = False
) -> str:
    """Returns the command of the comparison, with more seeds, twice the epochs, or tuned; of a run one that compares."""
    words = next((run.command for run in comparison.runs if run.command), [])
    known = words[:2] == ["labelembed", "compare"] and not tuned
    words = list(words) if known else ["labelembed", "compare", *_recipe_and_data(comparison)]
    if seeds is not None:
        words = [*_without(words, "--seeds"), "--seeds", str(seeds)]
    if longer:
        epochs = max((int(run.result.get("epochs") or 0) for run in comparison.runs), default=0)
        out = _value_of(words, "--out") or _value_of(words, "-o")
        words = _without(words, "--epochs", "--out", "-o")
        words = [*words, "--set", f"epochs={2 * max(epochs, 1)}", *(["--out", f"{out}-longer"] if out else [])]
    return shlex.join([*words, *(["--tuned"] if tuned else [])])


def _train_command(comparison: Comparison, variant: VariantRuns) -> str:
    """Returns the command that trains one run with a variant's objective."""
    settings = [
        f"{key}={value}"
        for entry in tuning_entries(comparison)
        if entry.get("name") == variant.name and isinstance(entry.get("arguments"), dict)
        for key, value in entry["arguments"].items()
        if not key.startswith("objective.")
    ]
    objective = ["--objective", ":".join(variant.name.split(" "))]
    words = ["labelembed", "train", *_recipe_and_data(comparison), *objective]
    return shlex.join([*words, *(word for one in settings for word in ("--set", one))])


def _recipe_and_data(comparison: Comparison) -> list[str]:
    """Returns the recipe and the data as the runs' own command named them."""
    words = next((run.command for run in comparison.runs if run.command[1:2] in (["compare"], ["train"])), [])
    data = _value_of(words, "--data")
    recipe = words[2] if len(words) > 2 and not words[2].startswith("-") else "" if data else comparison.recipe
    return [*([recipe] if recipe else []), *(["--data", data] if data else [])]


def _value_of(words: Sequence[str], option: str) -> str:
    """Returns the value of an option in a command, given behind it or after a `=`; empty without it."""
    after = [words[index + 1] for index, word in enumerate(words[:-1]) if word == option]
    return [*after, *(word.partition("=")[2] for word in words if word.startswith(f"{option}=")), ""][0]


def _without(words: Sequence[str], *options: str) -> list[str]:
    """Returns a command without some options and their values."""
    kept = [index for index, word in enumerate(words) if word.split("=")[0] not in options]
    after = {index + 1 for index, word in enumerate(words) if word in options}
    return [words[index] for index in kept if index not in after]
