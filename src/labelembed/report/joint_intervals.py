"""Intervals over seeds and test examples, from the outcome of each example that the runs have kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import RunFolderError
from labelembed.metrics import JointInterval, joint_interval
from labelembed.report.comparison import RunRecord, Split, VariantRuns, environment_of
from labelembed.training.run_folder import RunFolder

_NOT_KEPT = "the runs keep no outcome of each example, as those of older versions and those on sentence pairs"
# Two passes over the same examples may differ in one or two on a GPU; another run differs in more.
_ROUNDING = 1e-3


class JointIntervals(NamedTuple):
    """What is known of one variant against another.

    Attributes:
        seeds: Over how many seeds.
        of: The interval of `error`, `nll` and `calibrated_nll`, of each that has one.
        absent: Why there is none at all; empty where there is one, and where one seed alone is shared.
    """

    seeds: int
    of: dict[str, JointInterval]
    absent: str


def joint_intervals(variant: VariantRuns, reference: VariantRuns, split: Split) -> JointIntervals:
    """Returns the intervals of a variant's measures minus the reference's, over common seeds and all examples.

    Args:
        variant: Its runs.
        reference: The runs it is compared with.
        split: The examples that the comparison is about.
    """
    seeds = sorted(variant.runs.keys() & reference.runs.keys())
    if len(seeds) < 2:
        return JointIntervals(len(seeds), {}, "")
    losses: list[list[dict[str, NDArray[np.float64]]]] = []
    for one in (variant, reference):
        losses.append([])
        for seed in seeds:
            found = _losses(one.runs[seed], split)
            if isinstance(found, str):
                why = found if found == _NOT_KEPT else f"{one.name}, seed {seed}: {found}"
                return JointIntervals(len(seeds), {}, why)
            losses[-1].append(found)
    why = _other_examples([one.runs[seed] for one in (variant, reference) for seed in seeds])
    if len({len(found["error"]) for both in losses for found in both}) > 1:
        why = why or f"the runs have different numbers of {split} examples"
    if why:
        return JointIntervals(len(seeds), {}, why)
    measures = set.intersection(*(set(found) for both in losses for found in both))
    intervals = {
        measure: joint_interval([ours[measure] - theirs[measure] for ours, theirs in zip(*losses, strict=True)])
        for measure in sorted(measures)
    }
    return JointIntervals(len(seeds), {measure: one for measure, one in intervals.items() if one is not None}, "")


def _losses(run: RunRecord, split: Split) -> dict[str, NDArray[np.float64]] | str:
    """Returns error and NLL of each example [N], or why there are none."""
    try:
        found = RunFolder(run.folder).examples()
    except RunFolderError as fault:
        return str(fault).replace(f"{run.folder}/", "")
    if found is None:
        return _NOT_KEPT
    if found.split != split:
        return f"it keeps outcomes of the {found.split} examples, and the comparison is about the {split} examples"
    losses = {"error": 1 - found.right.astype(np.float64), "nll": found.nll.astype(np.float64)}
    if found.nll_calibrated is not None:
        losses["calibrated_nll"] = found.nll_calibrated.astype(np.float64)
    error = run.measure(split, "error")
    if error is None or abs(error - losses["error"].mean()) > max(_ROUNDING, 2 / len(found.right)):
        return "the kept outcomes are not those of its result.json"
    return losses


def _other_examples(runs: list[RunRecord]) -> str:
    """Returns why it is not known that all runs have the same examples; empty where it is."""
    known = [environment_of(run).get("data") for run in runs]
    if all(isinstance(data, dict) and isinstance(data.get("fingerprint"), str) for data in known):
        return ""  # a comparison of different data is refused when it is read
    return "it is not known that all runs have the same examples: there is no fingerprint of their data"
