"""The answer: whether to use the method, how sure that is, and one next step. The sentences are in `verdict.txt`."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple

from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns, number_in
from labelembed.lab.report.decision import (
    FEWEST_SEEDS,
    ONE_HOT,
    SMOOTHING,
    largest_gain,
    method_candidates,
    needed,
    outcome,
    ranked,
    shown_sign,
    sign_of,
    sign_of_intervals,
    still_improving,
)
from labelembed.lab.report.error_analysis import most_frequent_label
from labelembed.lab.report.formatting import counted, listed, templates
from labelembed.lab.report.tables import Differences, differences_to
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import PairedComparison

Answer = Literal["Use it", "Use it for its probabilities", "Do not use it", "Cannot tell yet", ""]
# A gain below this share of what it is held against is not worth a change of objective.
_SMALL = {"error": 0.05, "bleu": 0.01, "calibrated_nll": 0.05}
_UNTRAINED_BLEU = 0.01
_ANSWERS: dict[str, Answer] = {"better": "Use it", "worse": "Do not use it", "small gain": "Do not use it"}
_COSTS = ("calibrated_nll", "nll", "calibration_error")
# More training time than this, as a ratio, is worth a word.
_SLOWER = 1.05
# Of a command: the recipe and the options that change it, which another subcommand takes too; options without a value.
_OF_RECIPE = ("", "--data", "--epochs", "--lr", "--batch-size", "--set")
_FLAGS = ("--tuned", "--overwrite", "--quiet", "-q", "--json")


class Contrast(NamedTuple):
    """The method against one reference: all differences, their p corrected over the variants that were tested.

    `found` is the difference that decides; None without a common seed.
    """

    method: VariantRuns
    reference: VariantRuns
    differences: Differences
    found: PairedComparison | None


@dataclass(frozen=True)
class Verdict:
    """What a comparison shows; a text is empty where there is nothing to say.

    Attributes:
        details: The differences with their intervals: first to what decides, then to cross entropy and the baseline.
        caveats: What was chosen and by what, what was not tuned, what the p says.
        notes: What the comparison noted about its runs.
        contrast: The method and what it is held against; None where nothing is compared.
    """

    answer: Answer
    headline: str
    details: list[str]
    worse: str
    next_step: str
    command: str
    caveats: list[str]
    notes: list[str] = field(default_factory=list)
    contrast: Contrast | None = None

    @property
    def step(self) -> str:
        """The answer, the next step and its command in one line."""
        return f"{f'{self.answer}. ' if self.answer else ''}{self.next_step} {self.command}".strip()

    def lines(self) -> list[str]:
        """Returns all of it, the most important first."""
        lines = (self.headline, *self.details, self.worse, self.step, *self.notes, *self.caveats)
        return [line for line in lines if line]


def verdict(comparison: Comparison) -> list[str]:
    """Returns what the comparison shows in a few sentences, the most important first; see `full_verdict`."""
    return full_verdict(comparison).lines()


def full_verdict(comparison: Comparison) -> Verdict:
    """Returns what the comparison shows.

    It is about the learned method that is best on validation examples, by the error or of translations by BLEU: first
    against the control, which is label smoothing or cross entropy, whichever is better on validation examples, then
    against the other, then against the baseline where that is neither. The answer follows from the first: use it where
    it is better by both intervals and the corrected p, also than every other label smoothing and cross entropy, since
    few validation examples may choose the wrong one; do not where it is worse by the same standard, or where any gain
    is small; else what is needed to tell. Without tuned label smoothing, with fewer than five seeds, where runs of the
    method failed and where every run still improves at its last epoch the answer is open.
    """
    nothing, chance = _nothing_learned(comparison)
    of_all = "all" if nothing and len(nothing) == len(comparison.finished) else listed([one.title for one in nothing])
    facts = {"comparison": comparison, "nothing_learned": of_all, "chance": chance}
    facts["what"] = "BLEU" if comparison.headline == "bleu" else "error"
    baseline, candidates = comparison.baseline_runs, method_candidates(comparison)
    if baseline is None:
        run = comparison.runs[0]
        reached = {
            split: value for split in SPLITS if (value := run.metrics.get(f"{split}_{comparison.headline}")) is not None
        }
        facts |= {"result": run.result, "too_short": still_improving([run]), "reached": reached}
        return _written("", "single run", facts, "" if facts["too_short"] or nothing else _command(comparison))
    if not candidates:
        facts["alone"] = listed([one.title for one in comparison.finished])
        facts["unfinished"] = any(one.failed or one.missing for one in comparison.variants)
        return _written("", "alone", facts, _command(comparison) if facts["unfinished"] else "")
    (method, *_), chosen_on = ranked(candidates, comparison)
    smoothings, one_hot = (
        [variant for variant in comparison.finished if variant.objective_name == name] for name in (SMOOTHING, ONE_HOT)
    )
    smoothings, smoothing_chosen_on = ranked(smoothings, comparison)
    controls = ranked([*smoothings, *one_hot], comparison)[0]
    order = [*controls[:1], *smoothings[:1], *one_hot[:1], baseline]
    if method.objective_name in (SMOOTHING, ONE_HOT):
        order = [baseline, *one_hot[:1]]
    references = {one.name: one for one in order if one.name != method.name and one.runs} or {"": baseline}
    contrasts = [_contrast(method, one, comparison, candidates) for one in references.values()]
    first = contrasts[0]
    tuned = {entry.get("name") for entry in _tuning_entries(comparison) if entry.get("space")}
    is_tuned = len(smoothings) > 1 or any(one.name in tuned for one in smoothings)
    found, nll = first.found, first.differences.get("calibrated_nll")
    if nll is not None and (nll.n < FEWEST_SEEDS or not shown_sign(nll)):
        nll = None
    case, count = _case(first, comparison, first.reference in nothing, is_tuned or method.objective_name == SMOOTHING)
    unbeaten: list[str] = []
    probabilities = False
    if case in ("better", "small gain", "worse") and method not in controls:
        unbeaten, probabilities = _against_all(contrasts, controls, candidates, comparison)
    if case == "better" and unbeaten:
        case, count = "better than some", 2 * first.differences[comparison.headline].n
    probabilities &= is_tuned and case in ("small gain", "worse")
    values = first.reference.metrics(comparison.split, comparison.headline).values()
    ours, theirs = (
        {seed: number_in(run.result.get("seconds")) for seed, run in side.runs.items()} for side in first[:2]
    )
    ratios = [taken / other for seed, taken in ours.items() if taken and (other := theirs.get(seed))]
    facts |= {
        "contrasts": contrasts,
        "method": method.title,
        "reference": "tuned label smoothing" if first.reference in smoothings and is_tuned else first.reference.title,
        "found": found,
        "number": count,
        "most": max(0.0, largest_gain(found, more_is_better=comparison.headline == "bleu")) if found else 0.0,
        "seeds_agree": bool(found and sign_of(*found[2:4])),
        # A minimum detectable difference above the error itself is of no use.
        "detectable": found.detectable if found and values and found.detectable < fmean(values) else 0.0,
        # The NLL after temperature scaling where it is beyond chance, by the standard of the error.
        "nll": nll,
        "worse": [name for name in _COSTS if name in first.differences and shown_sign(first.differences[name]) > 0],
        "time": fmean(ratios) if min(ratios, default=0.0) > _SLOWER else 0.0,  # short runs differ by chance
        "candidates": len(candidates),
        "chosen_on": chosen_on,
        "smoothings": len(smoothings),
        "smoothing_chosen_on": smoothing_chosen_on,
        "is_tuned": is_tuned,
        "probabilities": probabilities,
        "unbeaten": listed(unbeaten, word="or"),
        "failed": len(method.failed),
        "runs": len(method.seeds),
        "tuning": _tuning_statement(comparison),
    }
    answer = "Use it for its probabilities" if probabilities else _ANSWERS.get(case, "Cannot tell yet")
    command = _next_command(answer, case, count, first, comparison)
    if answer.startswith("Use it") and method.failed:
        answer = "Cannot tell yet"
    return _written(answer, case, facts, command, first)


def _next_command(answer: str, case: str, count: int, one: Contrast, comparison: Comparison) -> str:
    """Returns the command of the next step; empty where that is none of ours."""
    if answer.startswith("Use it"):
        return "" if one.method.failed else _train(comparison, one.method)
    if case == "better than untuned":
        names = (ONE_HOT, SMOOTHING, _objective(comparison, one.method))
        return _command(comparison, "--tuned", "--objectives", ",".join(names), again=False)
    if case in ("nothing learned", "too short"):
        return _longer(comparison)
    if case == "needs examples":
        return ""
    if count:
        return _command(comparison, "--seeds", str(count), without=["--seeds"])
    return _train(comparison, one.reference)


def _case(one: Contrast, comparison: Comparison, nothing: bool, is_tuned: bool) -> tuple[str, int]:
    """Returns which case a contrast is, as the template calls it, and how many seeds or examples to take next."""
    paired = one.found
    if nothing:
        return "nothing learned", 0
    if paired is None or paired.n < FEWEST_SEEDS:
        return "too few seeds" if paired else "no common seed", 8
    if still_improving([run for variant in one[:2] for run in variant.runs.values()]):
        return "too short", 0
    shown = _outcome(one, comparison)
    if shown != "open":
        untuned = shown == "better" and not is_tuned
        return "better than untuned" if untuned else shown, 2 * paired.n if shown == "no interval" else 0
    if sign_of_intervals(paired):  # it is the p alone that leaves it open
        return "open by p", 2 * paired.n
    what, count = needed(paired)
    if what == "examples" and paired.joint:
        count = max(int(float(f"{count:.2g}")), paired.joint.examples + 1)
    return f"needs {what}" if what else "too small", count


def _against_all(
    contrasts: Sequence[Contrast],
    controls: Sequence[VariantRuns],
    candidates: Sequence[VariantRuns],
    comparison: Comparison,
) -> tuple[list[str], bool]:
    """Returns the controls that a method is not shown to be better than, and whether its probabilities are better.

    They are where its NLL after temperature scaling is better than that of every control, and a loss against the first
    could only be small.
    """
    first, known = contrasts[0], {one.reference.name: one for one in contrasts}
    of_all = [known.get(one.name) or _contrast(first.method, one, comparison, candidates) for one in controls]
    loss = largest_gain(first.found, more_is_better=comparison.headline != "bleu") if first.found else math.inf
    have_better_nll = all(_outcome(one, comparison, "calibrated_nll") == "better" for one in of_all)
    unbeaten = [one.reference.title for one in of_all if _outcome(one, comparison) != "better"]
    return unbeaten, have_better_nll and loss < _smallest_gain(first.reference, comparison)


def _smallest_gain(reference: VariantRuns, comparison: Comparison, metric: str = "") -> float:
    """Returns the smallest gain over a reference that is worth having, in the headline's metric or another."""
    metric = metric or comparison.headline
    return _SMALL[metric] * fmean(reference.metrics(comparison.split, metric).values())


def _outcome(one: Contrast, comparison: Comparison, metric: str = "") -> str:
    """Returns the outcome of a contrast in the headline's metric or another: "open" where it is not known."""
    metric = metric or comparison.headline
    if (found := one.differences.get(metric)) is None:
        return "open"
    small = _smallest_gain(one.reference, comparison, metric)
    return outcome(found, smallest_gain=small, more_is_better=metric == "bleu")


def _written(
    answer: Answer, case: str, facts: dict[str, Any], command: str, contrast: Contrast | None = None
) -> Verdict:
    """Returns the verdict with the sentences that the template makes of the facts."""
    parts: dict[str, list[str]] = {"headline": [], "detail": [], "worse": [], "next": [], "caveat": []}
    for line in templates().get_template("verdict.txt").render(facts, case=case).splitlines():
        part, mark, sentence = line.partition("|")
        if mark:
            parts[part.strip()].append(" ".join(sentence.split()))
    headline, worse, step = (" ".join(parts[part]) for part in ("headline", "worse", "next"))
    notes = facts["comparison"].notes
    return Verdict(answer, headline, parts["detail"], worse, step, command, parts["caveat"], notes, contrast)


def _contrast(
    method: VariantRuns, reference: VariantRuns, comparison: Comparison, candidates: Sequence[VariantRuns]
) -> Contrast:
    # With the baseline all variants are compared; with another reference those that the method was chosen from.
    others = comparison.variants if reference.name == comparison.baseline else candidates
    own = differences_to(reference, others, comparison.split)[method.name]
    return Contrast(method, reference, own, own.get(comparison.headline))


def _nothing_learned(comparison: Comparison) -> tuple[list[VariantRuns], float]:
    """Returns the variants that learned nothing, and the error of the most frequent label (0 of BLEU)."""
    shares = (most_frequent_label(run, comparison.split) for run in comparison.runs)
    share = next((share for share in shares if share is not None), None)
    values = [(one, one.metrics(comparison.split, comparison.headline).values()) for one in comparison.finished]
    means = [(one, fmean(of)) for one, of in values if of]
    if comparison.headline == "bleu":
        return [one for one, mean in means if mean < _UNTRAINED_BLEU], 0.0
    chance = 1 - share if share is not None else 2.0
    # Equal up to rounding counts: the same label for every example is the commonest way to learn nothing.
    return [one for one, mean in means if mean >= chance - 1e-9], chance


def _tuning_entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns the tuning of each variant as in ``comparison.json``; nothing where it is damaged."""
    variants = comparison.tuning.get("variants")
    return [entry for entry in variants if isinstance(entry, dict)] if isinstance(variants, list) else []


def _tuning_statement(comparison: Comparison) -> str:
    """Returns which variants were tuned, by how many trials over what; empty where nothing was."""
    spaces = {str(entry.get("name")): entry.get("space") for entry in _tuning_entries(comparison)}
    tuned = [
        f"{name} ({', '.join(str(key).rpartition('.')[2] for key in space)})"
        for name, space in spaces.items()
        if isinstance(space, dict) and space
    ]
    trials = counted(int(number_in(comparison.tuning.get("trials")) or 0), "trial")
    return f"Tuned with {trials} each on validation examples: {listed(tuned)}." if tuned else ""


def _command(
    comparison: Comparison, *more: str, subcommand: str = "compare", again: bool = True, without: Sequence[str] = ()
) -> str:
    """Returns a command with the options of the runs' own, but without some (`--out`, `--set epochs`), and with more.

    With all its other options where the same comparison is made `again`, else with those of the recipe and the data.
    """
    by_compare = [run.command[:2] == ["labelembed", "compare"] for run in comparison.runs]
    again = again and (any(by_compare) or not by_compare)
    left_out = [*without, "--overwrite"]  # which would remove the runs that are reused
    asked = {str(re.findall(r"--(?:objectives|trials)[ =](\S+)", " ".join(run.command))) for run in comparison.runs}
    if again and len(asked) > 1:  # objectives or trials were added
        names = [_objective(comparison, variant) for variant in comparison.variants]
        trials = ["--trials", str(comparison.tuning["trials"])] if comparison.tuning else []
        left_out, more = [*left_out, "--objectives", "--trials"], (*more, "--objectives", ",".join(names), *trials)
    own = [pair for pair in _options(comparison) if again or pair[0] in _OF_RECIPE]
    own = [pair for pair in own if not {pair[0], f"{pair[0]} {pair[1].partition('=')[0]}"} & {*left_out}]
    return shlex.join(["labelembed", subcommand, *(word for pair in own for word in pair if word), *more])


def _longer(comparison: Comparison) -> str:
    """Returns the command of the comparison with twice the epochs, into another folder."""
    epochs = max((number_in(run.result.get("epochs")) or 1 for run in comparison.runs), default=1)
    more = ["--set", f"epochs={2 * epochs:.0f}", f"--out={comparison.path}-longer"]
    return _command(comparison, *more, without=("--epochs", "--set epochs", "--out", "-o"))


def _objective(comparison: Comparison, variant: VariantRuns) -> str:
    """Returns a variant's objective as commands have it; of a tuned one the objective that was tuned."""
    was = {str(entry.get("name")): str(entry.get("was")) for entry in _tuning_entries(comparison) if entry.get("was")}
    return was.get(variant.name, variant.name).replace(" ", ":")


def _train(comparison: Comparison, variant: VariantRuns) -> str:
    """Returns the command that trains one run with a variant's objective and what was tuned."""
    words = ["--objective", _objective(comparison, variant)]
    for entry in _tuning_entries(comparison):
        chosen = entry.get("arguments") if entry.get("name") == variant.name else None
        for key, value in chosen.items() if isinstance(chosen, dict) else ():
            words += ["--set", f"{key}={value}"]
    without = ["--lr"] if "--set" in words else []  # it would replace the rate that was tuned
    return _command(comparison, *words, subcommand="train", again=False, without=without)


def _options(comparison: Comparison) -> list[tuple[str, str]]:
    """Returns the options of the runs' own command with their values; the recipe is the value of an empty name.

    Of runs of another program, such as a notebook, the recipe and where its data are.
    """
    begun = (RunFolder(path).environment().get("command") for path in comparison.path.glob("runs/*/seed-*"))
    own = next((command for command in (*(run.command for run in comparison.runs), *begun) if command), [])
    if own[:2] not in (["labelembed", "compare"], ["labelembed", "train"]):
        paths = [data.get("path") for run in comparison.runs if isinstance(data := run.recipe.get("data"), dict)]
        return [("", comparison.recipe), *(("--data", str(path)) for path in paths[:1] if path)]
    options, words = [], iter(own[2:])
    for word in words:
        name, value = re.findall(r"(--[^=]*|-[^-]|)=?(.*)", word, re.DOTALL)[0]
        options.append((name, value if value or not name or name in _FLAGS else next(words, "")))
    return options
