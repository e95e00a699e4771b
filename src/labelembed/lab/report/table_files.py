"""The comparison as CSV files: fractions in full precision, for machines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from labelembed.lab.report.columns import ALL_METRICS, SPEED_METRICS
from labelembed.lab.report.comparison import SPLITS, Comparison, VariantRuns
from labelembed.lab.report.table import DIFFERENCES, RESULT_METRICS, Row, run_speed
from labelembed.lab.report.writing import write_text

# Those that a temperature moves.
_CALIBRATED_METRICS = ("nll", "calibration_error", "brier")
_OF_DIFFERENCES = {
    "difference_n": "n",
    "difference": "difference",
    "interval_low": "interval_low",
    "interval_high": "interval_high",
    "p_value": "p_value",
    "p_holm": "p_holm",
    "detectable_difference": "detectable",
}


def write_csv(rows: Sequence[Row], path: str | Path) -> Path:
    """Writes one line a variant.

    Errors, differences and intervals are fractions, NLL is in nats, memory in bytes; an unknown number is an empty
    cell. `interval_low` and `interval_high` are over seeds, `joint_interval_low` and `joint_interval_high` over seeds
    and test examples. `measured_on` is the split of `nll`, `difference` and the like, `speed_measured_on` that of
    `auac`, `best_accuracy` and the like; `epochs_to_baseline_of` is how many runs might have got there.

    Args:
        rows: What `comparison_rows` returned.
        path: The file, usually ``comparison.csv`` in the comparison folder.

    Returns:
        The file.

    Raises:
        RunFolderError: When it cannot be written.
    """
    return _write(path, variants_as_cells(rows))


def write_runs_csv(comparison: Comparison, path: str | Path) -> Path:
    """Writes one line a run, with those that failed or have not finished; see `write_csv`.

    Args:
        comparison: What `load_comparison` read.
        path: The file, usually ``runs.csv`` in the comparison folder.
    """
    return _write(path, runs_as_cells(comparison))


def variants_as_cells(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Returns the lines of `write_csv` as values by column; None where there is no number."""
    return [_known(_variant_cells(row)) for row in rows]


def runs_as_cells(comparison: Comparison) -> list[dict[str, object]]:
    """Returns the lines of `write_runs_csv` as values by column; None where there is no number."""
    return [
        _known({"variant": variant.name, "seed": seed, **_run_cells(variant, seed, comparison)})
        for variant in comparison.variants
        for seed in sorted([*variant.runs, *variant.failed, *variant.missing])
    ]


def _known(cells: Mapping[str, object]) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in cells.items()
    }


def _prefix(name: str) -> str:
    return name.removesuffix("_error")


def _variant_cells(row: Row) -> dict[str, object]:
    cells: dict[str, object] = {
        "variant": row.name,
        "is_baseline": row.is_baseline,
        "measured_on": row.split,
        "speed_measured_on": row.speed_split,
        "selected_by": "; ".join(row.selected_by),
        "n": row.n,
        "seeds": _joined(row.variant.runs),
        "failed_seeds": _joined(row.variant.failed),
        "missing_seeds": _joined(row.variant.missing),
    }
    for metric in ALL_METRICS:
        column = metric.attribute
        summary = row.metrics.get(column)
        cells[f"{column}_mean"] = summary.mean if summary else None
        cells[f"{column}_sd"] = summary.standard_deviation if summary else None
        cells[f"{column}_n"] = summary.n if summary else 0
    cells |= {"epochs_to_baseline_of": row.reachable, "epochs_fewest": row.epochs[0], "epochs_most": row.epochs[1]}
    cells |= {"unpaired_seeds": _joined(row.unpaired)}
    for name in DIFFERENCES:
        found, prefix = row.differences.get(name), "" if name == "error" else f"{_prefix(name)}_"
        cells |= {f"{prefix}{column}": getattr(found, field, None) for column, field in _OF_DIFFERENCES.items()}
        joint = found.joint if found else None
        cells |= {f"{prefix}joint_interval_{end}": getattr(joint, end, None) for end in ("low", "high")}
    return cells


def _run_cells(variant: VariantRuns, seed: int, comparison: Comparison) -> dict[str, object]:
    run, baseline = variant.runs.get(seed), comparison.baseline_runs
    cells: dict[str, object] = {
        "status": "finished" if run else "failed" if seed in variant.failed else "missing",
        "message": variant.failed.get(seed),
    }
    for key in ("epochs", "selected_epoch", "selected_by", "parameters"):
        cells[key] = run.result.get(key) if run else None
    cells["seconds"] = run.seconds if run else None
    for split in SPLITS:
        for name in ("error", *RESULT_METRICS.values()):
            cells[f"{split}_{name}"] = run.metric(split, name) if run else None
            if name in _CALIBRATED_METRICS:
                cells[f"{split}_calibrated_{name}"] = run.metric(split, name, calibrated=True) if run else None
    cells["temperature"] = run.temperature if run else None
    other = baseline.runs.get(seed) if baseline else None
    speed = run_speed(run, other, comparison.speed_split) if run else {}
    return cells | {metric.attribute: speed.get(metric.attribute) for metric in SPEED_METRICS}


def _joined(seeds: Iterable[int]) -> str:
    return " ".join(str(seed) for seed in sorted(seeds))


def _write(path: str | Path, lines: Sequence[Mapping[str, object]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()  # the writer gives floats the digits that read back as the same float
    for line in lines:
        writer.writerow(
            {name: str(value).lower() if isinstance(value, bool) else value for name, value in line.items()}
        )
    return write_text(Path(path), text.getvalue())
