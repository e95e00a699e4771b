"""What must stand below a comparison's table, so that nobody reads more or less out of it than it says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelembed.report.formatting import counted, detectable_text, listed, seeds_text, shortened
from labelembed.report.table import Row, smallest_corrected_p

# Above this number of pairs a random sample of all sign flips is drawn.
_MOST_SEEDS_FOR_EXACT_P = 16
_FEWEST_SEEDS_FOR_P = 6
_LEVEL = 0.05
_LONGEST_REASON = 500
_SELECTED = {
    "validation error": "at the epoch with the lowest validation error",
    "validation nll": "at the epoch with the lowest validation NLL",
    "validation bleu": "at the epoch with the highest validation BLEU",
    "last epoch": "after the last epoch",
}


def table_notes(rows: Sequence[Row]) -> list[str]:
    """Returns the notes that belong to the table, each one a sentence or two.

    They say how the numbers were made, why there is no p with few seeds, the smallest difference that these
    seeds would have shown, and which seeds failed, are missing or have no partner.

    Args:
        rows: What `comparison_rows` returned.
    """
    return [*reading_notes(rows), *failure_notes(rows)]


def reading_notes(rows: Sequence[Row]) -> list[str]:
    """Returns how the numbers were made and what they can and cannot show."""
    if not any(row.n for row in rows):
        return []
    notes = [_measures_note(rows), *_calibration_notes(rows), *_speed_note(rows), *_curve_notes(rows)]
    compared = [row for row in rows if row.error_difference is not None]
    if compared:
        baseline = next(row.name for row in rows if row.is_baseline)
        notes += [_difference_note(compared, baseline), *_joint_notes(compared), *_p_notes(compared)]
        notes += _detectable_notes(compared)
    return [*notes, *_unpaired_notes(rows)]


def failure_notes(rows: Sequence[Row]) -> list[str]:
    """Returns one line for each failed or damaged run and one for the missing runs of each variant."""
    notes = [
        f"Failed: {row.name}, seed {seed}: {shortened(reason, _LONGEST_REASON)}"
        for row in rows
        for seed, reason in row.failed.items()
    ]
    return notes + [
        f"Not finished: {row.name}, {seeds_text(row.missing)}; running the comparison again goes on with them."
        for row in rows
        if row.missing
    ]


def _measures_note(rows: Sequence[Row]) -> str:
    selected = listed(
        [
            _SELECTED.get(way, f"at the epoch selected by {way}")
            for way in sorted({way for row in rows for way in row.selected_by})
        ]
    )
    spread = "mean ± standard deviation over n seeds" if any(row.n > 1 for row in rows) else "one run, so no spread"
    note = f"Measured on the {rows[0].split} examples {selected}: {spread}."
    return note


def _calibration_notes(rows: Sequence[Row]) -> list[str]:
    counts = {row.temperature.n if row.temperature else 0 for row in rows if row.n}
    if counts == {0}:
        ways = {way for row in rows for way in row.calibration}
        words = {"off": "calibration is off", "none, for a corpus": "a corpus takes none"}
        why = sorted(words.get(way, way.removeprefix("not fitted, ")) for way in ways)
        return [f"No temperature was fitted: {shortened(listed(why), _LONGEST_REASON)}."]
    note = (
        "Calibrated: with the logits divided by a temperature that was fitted on the validation examples after "
        "training; the errors stay as they are."
    )
    short = [
        f"{row.name} ({row.temperature.n if row.temperature else 0} of {row.n})"
        for row in rows
        if row.n and (row.temperature.n if row.temperature else 0) < row.n
    ]
    extreme = [f"{row.name}, {seeds_text(row.extreme_temperatures)}" for row in rows if row.extreme_temperatures]
    if short:
        note += f" Not all runs have one: {listed(short)}."
    if extreme:
        note += f" Extreme, outside 0.05 to 20: {listed(extreme)}; compare the NLL before and after."
    return [note]


def _speed_note(rows: Sequence[Row]) -> list[str]:
    if not any(row.best_accuracy for row in rows):
        return [
            "No speed of learning: without a validation set it is read off the test error over the epochs, which runs "
            "measure with `test_every_epoch: true`."
        ]
    note = f"Speed is read off the {rows[0].speed_split} error over the epochs. AUAC is the mean accuracy over them."
    if any(row.reachable for row in rows):
        note += (
            " Epochs to baseline: until the error was as low as the baseline's lowest with the same seed; epochs "
            "saved: the share of the baseline's own epochs to it that was not needed, negative where more were."
        )
    if any(row.reached < row.reachable for row in rows):
        note += " Their means are over the runs that got there (k of n)."
    return [note]


def _curve_notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    fewest = min((row.epochs[0] for row in rows if row.n), default=0)
    most = max((row.epochs[1] for row in rows if row.n), default=0)
    if fewest != most:
        notes.append(f"The runs have from {fewest} to {most} epochs: AUAC does not compare runs of unequal length.")
    gaps = [f"{row.name}, {seeds_text(row.gaps)}" for row in rows if row.gaps]
    if gaps:
        notes.append(f"No finite error in some epochs of {listed(gaps)}: a gap in the curve, and left out of the AUAC.")
    return notes


def _difference_note(compared: Sequence[Row], baseline: str) -> str:
    note = f"Differences are {compared[0].split} error minus that of {baseline}, paired by seed, in percentage points"
    counts = [row.error_difference.n for row in compared if row.error_difference]
    if max(counts) > 1:
        note += ", with the 95 % interval of the paired t over seeds"
    if max(counts) >= _FEWEST_SEEDS_FOR_P:
        exact = "exact" if max(counts) <= _MOST_SEEDS_FOR_EXACT_P else "sampled"
        note += f"; p from the {exact} sign-flip test"
        corrected = [row for row in compared if row.error_difference and row.error_difference.p_value is not None]
        if len(corrected) > 1:
            note += f", corrected by Holm over {counted(len(corrected), 'comparison')}"
    return note + "."


def _joint_notes(compared: Sequence[Row]) -> list[str]:
    """Returns which question each interval answers, and why there is none over seeds and test examples."""
    found = [one for row in compared if (one := row.headline_difference) is not None]
    examples = next((one.joint.examples for one in found if one.joint is not None), None)
    notes = []
    if any(one.n > 1 and math.isnan(one.interval_low) for one in found):
        notes.append("No interval over seeds where every seed differs by the same.")
    if examples is not None:
        notes.append(
            "The interval over seeds says what other runs would give on these same test examples; the one over seeds "
            f"and test examples what other runs on another sample of {examples:,} examples of the same kind would give."
        )
    for why in dict.fromkeys(row.no_joint_interval for row in compared if row.no_joint_interval):
        notes.append(f"No interval over seeds and test examples: {why}.")
    return notes


def _p_notes(compared: Sequence[Row]) -> list[str]:
    notes = []
    counts = {row.error_difference.n for row in compared if row.error_difference}
    for count in sorted(counts):
        if count == 1:
            notes.append("With one seed there is neither an interval nor a p: nothing says how much of it is chance.")
        elif count < _FEWEST_SEEDS_FOR_P:
            notes.append(
                f"No p: with {count} seeds the exact sign-flip p cannot fall below {2.0 ** (1 - count):.3g}, "
                "whatever the runs show."
            )
    smallest = smallest_corrected_p(compared)
    if smallest is not None and smallest > _LEVEL:
        notes.append(
            f"With so many comparisons and so few seeds, p after Holm's correction cannot fall below {smallest:.2g}, "
            "whatever the runs show: compare fewer variants, or run more seeds."
        )
    return notes


def _detectable_notes(compared: Sequence[Row]) -> list[str]:
    shown = [
        f"{detectable_text(row.error_difference)} points ({row.name})"
        for row in compared
        if row.error_difference is not None and not math.isnan(row.error_difference.detectable)
    ]
    if not shown:
        return []
    return [
        "Could show: the smallest difference that so many seeds reveal with a probability of 80 % is "
        f"{listed(shown)}. "
        "A smaller one may be there unseen."
    ]


def _unpaired_notes(rows: Sequence[Row]) -> list[str]:
    names: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        if row.unpaired:
            names.setdefault(row.unpaired, []).append(row.name)
    return [
        f"For want of a partner not in the difference: {seeds_text(seeds)} ({listed(variants)})."
        for seeds, variants in names.items()
    ]
