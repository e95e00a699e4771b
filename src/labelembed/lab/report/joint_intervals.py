"""Intervals over seeds and test examples, from the outcome of each example that the runs have kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import RunRecord, Split, VariantRuns
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import JointInterval, joint_interval

_NOT_KEPT = "the runs keep no outcome of each example, as those of older versions and those on sentence pairs"
# Two passes over the same examples may differ in one or two on a GPU; another run differs in more.
_ROUNDING = 1e-3


def joint_intervals(variant: VariantRuns, reference: VariantRuns, split: Split) -> tuple[dict[str, JointInterval], str]:
    """Returns the intervals of a variant's metrics minus the reference's, over common seeds and all examples.

    Args:
        variant: Its runs.
        reference: The runs it is compared with.
        split: The examples that the comparison is about.

    Returns:
        The interval of `error`, `nll` and `calibrated_nll`, of each that has one, and in words why there is none at
        all; nothing where there is one, and where one seed alone is shared.
    """
    seeds = sorted(variant.runs.keys() & reference.runs.keys())
    if len(seeds) < 2:
        return {}, ""
    losses: list[list[dict[str, NDArray[np.float64]]]] = [[], []]
    for one, found in zip((variant, reference), losses, strict=True):
        for seed in seeds:
            read = _losses(one.runs[seed], split)
            if isinstance(read, str):
                return {}, read if read == _NOT_KEPT else f"{one.name}, seed {seed}: {read}"
            found.append(read)
    # A comparison of different data is refused when it is read.
    runs = [one.runs[seed] for one in (variant, reference) for seed in seeds]
    if not all(isinstance(run.data().get("fingerprint"), str) for run in runs):
        return {}, "it is not known that all runs have the same examples: there is no fingerprint of their data"
    if len({len(one["error"]) for found in losses for one in found}) > 1:
        return {}, f"the runs have different numbers of {split} examples"
    metrics = set.intersection(*(set(one) for found in losses for one in found))
    intervals = {
        metric: joint_interval([ours[metric] - theirs[metric] for ours, theirs in zip(*losses, strict=True)])
        for metric in sorted(metrics)
    }
    return {metric: one for metric, one in intervals.items() if one is not None}, ""


def _losses(run: RunRecord, split: Split) -> dict[str, NDArray[np.float64]] | str:
    """Returns error and NLL of each example [N], or why there are none."""
    try:
        found = RunFolder(run.folder).examples()
    except RunFolderError as damaged:
        return str(damaged).replace(f"{run.folder}/", "")
    if found is None:
        return _NOT_KEPT
    if found.split != split:
        return f"it keeps outcomes of the {found.split} examples, and the comparison is about the {split} examples"
    losses = {"error": 1 - found.right.astype(np.float64), "nll": found.nll.astype(np.float64)}
    if found.nll_calibrated is not None:
        losses["calibrated_nll"] = found.nll_calibrated.astype(np.float64)
    error = run.metric(split, "error")
    if error is None or abs(error - losses["error"].mean()) > max(_ROUNDING, 2 / len(found.right)):
        return "the kept outcomes are not those of its result.json"
    return losses
