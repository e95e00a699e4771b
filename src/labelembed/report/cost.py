"""What a variant costs: seconds an epoch, against cross entropy, memory and trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from labelembed.metrics import Summary, summarise
from labelembed.report.comparison import Comparison, RunRecord, VariantRuns
from labelembed.report.formatting import NOTHING, number
from labelembed.report.run_checks import number_in
from labelembed.report.table import Row

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class CostRow:
    """One variant's cost.

    Attributes:
        name: The variant.
        epoch_seconds: Seconds of training an epoch, the median of a run's, over the runs.
        ratio: Of it to the reference's with the same seed, over the runs; None for the reference and without one.
        peak_bytes: The most memory of a run, the mean over those that tell.
        peak_of: `gpu` or `process`; empty where no run tells.
        parameters: Trainable parameters; None where no run tells.
        seconds: Of a whole run.
    """

    name: str
    epoch_seconds: Summary | None
    ratio: Summary | None
    peak_bytes: float | None
    peak_of: str
    parameters: int | None
    seconds: Summary | None


def cost_rows(comparison: Comparison, rows: Sequence[Row]) -> tuple[str | None, list[CostRow]]:
    """Returns the variant that ratios are to, one-hot where it is there, and a row for each variant with runs."""
    one_hot = next((one for one in comparison.variants if one.objective.get("name") == "one_hot" and one.runs), None)
    reference = one_hot or comparison.baseline_runs
    found = [
        _row(variant, reference, row) for variant, row in zip(comparison.variants, rows, strict=True) if variant.runs
    ]
    return (reference.name if reference is not None and len(found) > 1 else None), found


def memory_text(row: CostRow) -> str:
    """Returns the peak memory in MiB or GiB, and of what it is."""
    if row.peak_bytes is None:
        return NOTHING
    mebibytes = row.peak_bytes / _MEBIBYTE
    size = f"{number(mebibytes / 1024, 2)} GiB" if mebibytes >= 1024 else f"{number(mebibytes, 0)} MiB"
    return f"{size} ({'GPU' if row.peak_of == 'gpu' else 'process'})"


def seconds_decimals(found: Sequence[CostRow]) -> int:
    """Returns the digits after the point that tell the seconds of an epoch apart."""
    means = [row.epoch_seconds.mean for row in found if row.epoch_seconds]
    return 3 if means and min(means) < 1 else 2 if means and min(means) < 10 else 1


def _row(variant: VariantRuns, reference: VariantRuns | None, row: Row) -> CostRow:
    seconds = {seed: value for seed, run in variant.runs.items() if (value := _epoch_seconds(run)) is not None}
    ratios: list[float] = []
    if reference is not None and reference.name != variant.name:
        theirs = {seed: _epoch_seconds(run) for seed, run in reference.runs.items()}
        ratios = [value / other for seed, value in seconds.items() if (other := theirs.get(seed))]
    peaks = [peak for run in variant.runs.values() if (peak := _peak(run)) is not None]
    kinds = {kind for _, kind in peaks}
    parameters = [number_in(run.result.get("parameters")) for run in variant.runs.values()]
    return CostRow(
        name=variant.name,
        epoch_seconds=summarise(list(seconds.values())) if seconds else None,
        ratio=summarise(ratios) if ratios else None,
        # A GPU's and a process' memory are nothing to be averaged.
        peak_bytes=fmean(size for size, _ in peaks) if len(kinds) == 1 else None,
        peak_of=kinds.pop() if len(kinds) == 1 else "",
        parameters=next((int(one) for one in parameters if one is not None), None),
        seconds=row.measures.get("seconds"),
    )


def _epoch_seconds(run: RunRecord) -> float | None:
    """Returns the median seconds of training in an epoch; older journals count the measuring in."""
    found = [
        value
        for entry in run.journal
        if (value := number_in(entry.get("training_seconds", entry.get("seconds")))) is not None and value > 0
    ]
    return median(found) if found else None


def _peak(run: RunRecord) -> tuple[float, str] | None:
    peak = run.result.get("peak_memory")
    size = number_in(peak.get("bytes")) if isinstance(peak, dict) else None
    return (size, str(peak.get("of"))) if isinstance(peak, dict) and size is not None else None
