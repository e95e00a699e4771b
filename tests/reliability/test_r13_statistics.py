"""R13: what the comparison calls a difference is one as often as it says, through folders, table and verdict."""

from __future__ import annotations

import csv
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from labelembed.lab.report import comparison_rows, load_comparison, write_csv
from labelembed.lab.report.decision import detectable, outcome
from labelembed.metrics import holm, joint_interval, paired_comparison
from tests.made_evidence import compared, crossed_effects
from tests.made_runs import make_comparison
from tests.reliability.figures import sized

EXACT = {"rel": 0, "abs": 1e-12}

# Differences to the baseline in thousandths, their sum, and the sum of the squares of their deviations from their mean.
TABLES = [
    ([5, 4, 6], 15, "2"),
    ([1, 2, 3, 4], 10, "5"),
    ([1, 2, 3, 4, 5, 6], 21, "35/2"),
    ([2, 2, 2, 2, 2, 2], 12, "0"),
    ([-3, -1, -4, -1, -5, -9], -23, "269/6"),
    ([5, -5, 5, -5, 5, -4], 1, "845/6"),
    ([0, 0, 0, 0, 0, 0, 1], 1, "6/7"),
    ([1, -1, 1, -1, 1, -1, 1, -1], 0, "8"),
    ([1, 1, 2, 2, 3, 3, 4, 4, -9], 11, "1148/9"),
    ([12, 11, 10, 9, 8, 7, 6, 5, 4, -3], 69, "1689/10"),
]


def errors_of(differences):
    """Returns the errors of a baseline and of a method that differ by so many thousandths, by seed."""
    baseline = {seed: (100 + 7 * seed) / 1000 for seed in range(len(differences))}
    return baseline, {seed: (100 + 7 * seed + more) / 1000 for seed, more in enumerate(differences)}


def cells_of(folder):
    """Returns the lines of the comparison's CSV file by variant."""
    file = write_csv(comparison_rows(load_comparison(folder)), folder / "comparison.csv")
    with file.open(newline="") as stream:
        return {line["variant"]: line for line in csv.DictReader(stream)}


def test_hand_worked_tables_stand_in_the_file(tmp_path, figure):
    for number, (differences, total, squares) in enumerate(TABLES):
        baseline, method = errors_of(differences)
        folder = make_comparison(tmp_path / str(number), {"one_hot": baseline, "label_embedding": method})
        cells, n = cells_of(folder)["label_embedding"], len(differences)
        mean, error = total / n / 1000, math.sqrt(float(Fraction(squares)) / (n - 1) / n) / 1000
        half = stats.t.ppf(0.975, n - 1) * error
        assert int(cells["difference_n"]) == n
        assert float(cells["difference"]) == pytest.approx(mean, **EXACT), differences
        # Without a spread there is neither an interval nor a p. Of one comparison Holm's correction leaves it as it is.
        wanted = (
            [mean - half, mean + half, *[2 * stats.t.sf(abs(mean) / error, n - 1)] * 2] if error else [math.nan] * 4
        )
        found = [cells[name] for name in ("interval_low", "interval_high", "p_value", "p_holm")]
        assert [float(cell or "nan") for cell in found] == pytest.approx(wanted, **EXACT, nan_ok=True), differences
    figure.count("hand-worked tables equal to 1e-12", len(TABLES), len(TABLES))


COMPARISONS = sized(short=2_000, full=20_000)
# Three standard deviations of a share of 5 % in so many comparisons, no wider than the 1.5 points that are promised.
WITHIN = min(0.015, 3 * math.sqrt(0.05 * 0.95 / COMPARISONS))


@pytest.mark.parametrize("kind", ["smooth", "a true difference", "errors of 360 rows"])
def test_two_methods_differ_as_often_as_promised(kind, figure):
    random = np.random.default_rng(2026)
    luck = random.normal(0.05, 0.01, size=(COMPARISONS, 1, 8)).clip(0.005)
    difference = -0.003 if kind == "a true difference" else 0.0
    if kind != "errors of 360 rows":
        runs = luck + random.normal(0, 0.002, size=(COMPARISONS, 2, 8))
    else:  # whole numbers of rows, so that many differences are equal and some are none
        runs = random.binomial(360, np.broadcast_to(luck, (COMPARISONS, 2, 8))) / 360
    found = [paired_comparison(ours + difference, theirs) for ours, theirs in runs]
    missed = float(np.mean([not one.interval_low <= difference <= one.interval_high for one in found]))
    alarms = float(np.mean([one.p_value < 0.05 for one in found]))
    figure.at_most(f"coverage of {COMPARISONS:,} intervals ({kind}), distance from 95 %", abs(missed - 0.05), WITHIN)
    if not difference:
        figure.at_most(f"false alarms in {COMPARISONS:,} tests ({kind}), distance from 5 %", abs(alarms - 0.05), WITHIN)


TRIALS = sized(short=400, full=4_000)


def errors_by_chance(random, of_seeds, of_examples, **size):
    """Returns right and wrong of a method minus those of its reference [8, examples], in truth equally good."""
    latent = crossed_effects(random, of_seeds, of_examples, 1.0, **size)
    limit = 2 * math.sqrt(1 + of_examples**2)
    return (latent > limit) * 1.0 - (latent < -limit)


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize(("strength", "of_seeds"), [("no", 0.0), ("weak", 0.05), ("strong", 0.4)])
def test_joint_intervals_cover_as_often_as_promised(seeds, strength, of_seeds, figure):
    # Right and wrong of two networks, cut alike on both sides, so that the true difference is 0; about 5 % differ.
    random, missed = np.random.default_rng(2029 + seeds), 0
    for _ in range(TRIALS):
        found = joint_interval(errors_by_chance(random, of_seeds, 1.0, seeds=seeds))
        missed += not found.low <= 0 <= found.high
    what = f"joint intervals of {TRIALS:,} that miss ({seeds} seeds, {strength} effect of the seed)"
    figure.at_most(what, missed / TRIALS, 0.07)


# By what most of the difference varies: seeds, examples, both.
@pytest.mark.parametrize("sizes", [(0.2, 0.5, 1.0), (0.0, 1.0, 1.0), (0.05, 1.0, 1.0)])
def test_a_true_difference_is_called_better_as_often_as_its_power_says_and_its_mirror_image_worse(sizes, figure):
    random = np.random.default_rng(2032)
    of_seeds, of_examples, left = np.square(sizes)
    squares = (449 * of_seeds + left, 8 * of_examples + left, left)  # as they are on average
    planned = compared(crossed_effects(random, *sizes))
    planned = planned._replace(joint=planned.joint._replace(mean_squares=tuple(map(float, squares))))
    difference = detectable(planned, 8, 449)  # with a power of 80 %
    samples = [crossed_effects(random, *sizes) - difference for _ in range(TRIALS)]
    better = [outcome(compared(one), smallest_gain=0.0) for one in samples].count("better")
    worse = [outcome(compared(-one), smallest_gain=0.0) for one in samples].count("worse")
    figure.at_most(f"power of {TRIALS:,} verdicts, distance from 80 %", abs(better / TRIALS - 0.8), 0.08)
    figure.count('"worse" of the mirror images of those called "better"', worse, better)


@pytest.mark.parametrize("of_seeds", [0.0, 0.4])
@pytest.mark.parametrize("of_examples", [0.0, 1.0, 3.0])
def test_better_and_worse_are_each_said_in_under_5_percent_where_nothing_is_there(of_seeds, of_examples, figure):
    random = np.random.default_rng(2030)
    # A gain of 5 % of about 5 % errors is worth something.
    said = [
        outcome(compared(errors_by_chance(random, of_seeds, of_examples)), smallest_gain=0.0025) for _ in range(TRIALS)
    ]
    for answer in ("better", "worse"):
        figure.at_most(f'"{answer}" in {TRIALS:,} comparisons without a difference', said.count(answer) / TRIALS, 0.05)


@pytest.mark.parametrize(("seeds", "methods"), [(5, 6), (8, 3)])
def test_the_best_by_validation_is_called_better_in_under_5_percent_where_nothing_is_there(seeds, methods, figure):
    random = np.random.default_rng(2031)
    said = []
    for _ in range(TRIALS):
        # The luck of a seed is in its validation and its test error.
        both = [errors_by_chance(random, 0.4, 1.0, seeds=seeds, examples=898) for _ in range(methods)]
        found = [compared(one[:, 449:]) for one in both]
        best = int(np.argmin([one[:, :449].mean() for one in both]))
        p_holm = holm([one.p_value for one in found])[best]
        said.append(outcome(found[best]._replace(p_holm=p_holm), smallest_gain=0.0025))
    for answer in ("better", "worse"):
        what = f'"{answer}" of the best of {methods} with {seeds} seeds in {TRIALS:,}'
        figure.at_most(what, said.count(answer) / TRIALS, 0.05)
