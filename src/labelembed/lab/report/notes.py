"""The notes below a comparison's table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelembed.lab.report.decision import LEVEL, smallest_corrected_p
from labelembed.lab.report.formatting import NOTHING, counted, detectable_text, listed, seeds_text, shortened
from labelembed.lab.report.table import Row

# Above this number of pairs a random sample of all sign flips is drawn.
_MOST_SEEDS_FOR_EXACT_P = 16
_FEWEST_SEEDS_FOR_P = 6
_LONGEST_REASON = 500
_SELECTED = {
    "validation error": "at the epoch with the lowest validation error",
    "validation nll": "at the epoch with the lowest validation NLL",
    "validation bleu": "at the epoch with the highest validation BLEU",
    "last epoch": "after the last epoch",
}


def table_notes(rows: Sequence[Row]) -> list[str]:
    """Returns the notes that belong to the table, each one a sentence or two.

    They say how the numbers were made, why there is no p with few seeds, the minimum detectable difference, and which
    seeds failed, are missing or have no partner.

    Args:
        rows: What `comparison_rows` returned.
    """
    return [*reading_notes(rows), *failure_notes(rows)]


def reading_notes(rows: Sequence[Row]) -> list[str]:
    """Returns how the numbers were made and what they can and cannot show."""
    if not any(row.n for row in rows):
        return []
    notes = [_metrics_note(rows), _temperature_note(rows), *_speed_notes(rows)]
    compared = [row for row in rows if row.headline_difference is not None]
    if compared:
        notes += [_difference_note(compared, rows), *_interval_notes(compared), *_p_notes(compared)]
    if any(row.shared_machine for row in rows):
        notes.append("\u2248: runs shared the machine, so times are rough; --jobs 1 times them alone.")
    for seeds in dict.fromkeys(row.unpaired for row in rows if row.unpaired):
        variants = listed([row.name for row in rows if row.unpaired == seeds])
        notes.append(f"Without a partner, so not in the differences: {seeds_text(seeds)} ({variants}).")
    return notes


def failure_notes(rows: Sequence[Row]) -> list[str]:
    """Returns one line for each failed or damaged run and one for the missing runs of each variant."""
    notes = [
        f"Failed: {row.name}, seed {seed}: {shortened(reason, _LONGEST_REASON)}"
        for row in rows
        for seed, reason in sorted(row.variant.failed.items())
    ]
    return notes + [
        f"Not finished: {row.name}, {seeds_text(row.variant.missing)}; running the comparison again goes on with them."
        for row in rows
        if row.variant.missing
    ]


def _metrics_note(rows: Sequence[Row]) -> str:
    ways = sorted({way for row in rows for way in row.selected_by})
    selected = listed([_SELECTED.get(way, f"at the epoch selected by {way}") for way in ways])
    spread = "mean ± standard deviation over n seeds" if any(row.n > 1 for row in rows) else "one run, so no spread"
    return f"Measured on the {rows[0].split} examples {selected}: {spread}."


def _temperature_note(rows: Sequence[Row]) -> str:
    fitted = {row.name: row.metrics["temperature"].n if "temperature" in row.metrics else 0 for row in rows if row.n}
    if not any(fitted.values()):
        ways = {way for row in rows for way in row.calibration}
        if ways == {"none, for a corpus"}:
            return "Temperature scaling is for classifiers; the tokens of a corpus take none."
        why = sorted("it is switched off" if way == "off" else way.removeprefix("not fitted, ") for way in ways)
        return f"No temperature was fitted: {shortened(listed(why), _LONGEST_REASON)}."
    note = "After temperature scaling: the logits divided by one number that was fitted on validation examples after "
    note += "training; the errors stay as they are."
    short = [f"{row.name} ({fitted[row.name]} of {row.n})" for row in rows if row.n and fitted[row.name] < row.n]
    extreme = [f"{row.name}, {seeds_text(row.extreme_temperatures)}" for row in rows if row.extreme_temperatures]
    note += f" Not all runs have one: {listed(short)}." if short else ""
    outside = f" Extreme, outside 0.05 to 20: {listed(extreme)}; compare the NLL before and after."
    return note + (outside if extreme else "")


def _speed_notes(rows: Sequence[Row]) -> list[str]:
    if any("best_accuracy" in row.metrics for row in rows):
        split = rows[0].speed_split
        of = "token error" if rows[0].headline == "bleu" else "error"
        note = f"Speed is read off the {split} {of} over the epochs. AUAC is the mean accuracy over them."
        if any(row.reachable for row in rows):
            note += " Epochs to baseline: until the error was as low as the baseline's lowest with the same seed; "
            note += "epochs saved: the share of the baseline's own epochs to it that was not needed, negative where "
            note += "more were."
        if any(row.reached < row.reachable for row in rows):
            note += " Their means are over the runs that got there (k of n)."
    else:
        note = "No speed of learning: without a validation set it is read off the test error over the epochs, which "
        note += "runs with `test_every_epoch: true`."
    notes = [note]
    fewest, most = min(row.epochs[0] for row in rows if row.n), max(row.epochs[1] for row in rows if row.n)
    if fewest != most:
        notes.append(f"The runs have from {fewest} to {most} epochs: AUAC does not compare runs of unequal length.")
    gaps = [f"{row.name}, {seeds_text(row.gaps)}" for row in rows if row.gaps]
    if gaps:
        notes.append(f"No finite error in some epochs of {listed(gaps)}: a gap in the curve, and left out of the AUAC.")
    return notes


def _difference_note(compared: Sequence[Row], rows: Sequence[Row]) -> str:
    baseline = next(row.name for row in rows if row.is_baseline)
    words = f"{rows[0].split} {'BLEU' if rows[0].headline == 'bleu' else 'error'}"
    found = [one for row in compared if (one := row.headline_difference)]
    most = max(one.n for one in found)
    note = f"Differences are {words} minus that of {baseline}, paired by seed, in points"
    if most > 1:
        note += ", with the 95 % interval of the paired t over seeds"
    if most >= _FEWEST_SEEDS_FOR_P:
        note += f"; p from the {'exact' if most <= _MOST_SEEDS_FOR_EXACT_P else 'sampled'} sign-flip test"
        tested = sum(one.p_value is not None for one in found)
        note += f", corrected by Holm over {counted(tested, 'comparison')}" if tested > 1 else ""
    return note + "."


def _interval_notes(compared: Sequence[Row]) -> list[str]:
    """Returns which question each interval answers, why one is missing, and what the seeds could have shown."""
    found = [(row.name, one) for row in compared if (one := row.headline_difference)]
    examples = next((one.joint.examples for _, one in found if one.joint is not None), None)
    notes = []
    if any(one.n > 1 and math.isnan(one.interval_low) for _, one in found):
        notes.append("No interval over seeds where every seed differs by the same.")
    if examples is not None:
        notes.append(
            "The interval over seeds says what other runs would give on these same test examples; the one over seeds "
            f"and test examples what other runs on another sample of {examples:,} examples of the same kind would give."
        )
    for why in dict.fromkeys(row.no_joint_interval for row in compared if row.no_joint_interval):
        notes.append(f"No interval over seeds and test examples: {why}.")
    shown = [f"{text} points ({name})" for name, one in found if (text := detectable_text(one)) != NOTHING]
    if shown:
        notes.append(
            "Minimum detectable difference: the smallest that so many seeds reveal with a probability of 80 % is "
            f"{listed(shown)}. A smaller one may be there unseen."
        )
    return notes


def _p_notes(compared: Sequence[Row]) -> list[str]:
    notes = []
    for count in sorted({row.headline_difference.n for row in compared if row.headline_difference}):
        if count == 1:
            notes.append("With one seed there is neither an interval nor a p: nothing says how much of it is chance.")
        elif count < _FEWEST_SEEDS_FOR_P:
            smallest = 2.0 ** (1 - count)
            notes.append(f"No p: with {count} seeds the exact sign-flip p cannot fall below {smallest:.3g}.")
    corrected = smallest_corrected_p([one for row in compared if (one := row.headline_difference)])
    if corrected is not None and corrected > LEVEL:
        notes.append(
            f"With so many comparisons and so few seeds, p after Holm's correction cannot fall below {corrected:.2g}, "
            "whatever the runs show: compare fewer variants, or run more seeds."
        )
    return notes
