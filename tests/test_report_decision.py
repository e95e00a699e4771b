"""What differences allow to be said, and how many seeds or test examples would say more."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.lab.report.decision import detectable, needed, outcome, shown_sign, still_improving
from labelembed.metrics import joint_interval, paired_comparison
from tests.naive.metrics import naive_power, naive_standard_deviation

SMALL = 0.001


def compared(differences, p_holm=None):
    """Returns the comparison of differences [seeds, examples]."""
    differences = np.asarray(differences, dtype=float)
    found = paired_comparison(differences.mean(axis=1), np.zeros(len(differences)))
    return found._replace(joint=joint_interval(differences), p_holm=p_holm)


def crossed(random, seeds, examples, of_seeds, of_examples, rest, mean=0.0):
    found = random.normal(0, of_seeds, size=(seeds, 1)) + random.normal(0, of_examples, size=(1, examples))
    return mean + found + random.normal(0, rest, size=(seeds, examples))


@pytest.mark.parametrize(
    ("of_examples", "mean", "p_holm", "said"),
    [
        (0.1, 0.05, None, "worse"),
        (0.1, 0.05, 0.06, "open"),  # Holm's correction leaves it open
        (2.0, 0.05, None, "open"),  # the seeds agree, the examples do not
        (2.0, 0.0, None, "open"),
    ],
)
def test_better_and_worse_have_the_same_standard(of_examples, mean, p_holm, said):
    one = crossed(np.random.default_rng(1), 8, 300, 0.0, of_examples, 0.05)
    one += mean - one.mean()
    mirrored = {"worse": "better"}.get(said, said)
    there, back = compared(one, p_holm), compared(-one, p_holm)
    any_gain = -1.0  # none is too small to count
    assert outcome(there, smallest_gain=any_gain) == said
    assert outcome(back, smallest_gain=any_gain) == mirrored
    assert outcome(there, smallest_gain=any_gain, more_is_better=True) == mirrored  # as of BLEU
    assert shown_sign(there) == -shown_sign(back)


@pytest.mark.parametrize(("seeds", "said"), [(2, "too few seeds"), (4, "too few seeds"), (5, "worse")])
def test_fewer_than_five_seeds_give_no_verdict(seeds, said):
    one = crossed(np.random.default_rng(2), seeds, 300, 0.0, 0.1, 0.1, mean=0.5)
    assert outcome(compared(one), smallest_gain=SMALL) == said


def test_a_gain_that_can_only_be_small_is_small_by_both_intervals():
    random = np.random.default_rng(3)
    assert outcome(compared(crossed(random, 8, 300, 0.0, 0.001, 0.001)), smallest_gain=SMALL) == "small gain"
    assert outcome(compared(crossed(random, 8, 300, 0.0, 0.1, 0.001)), smallest_gain=SMALL) == "open"


# With so many seeds, and so many times what they can detect still unseen: the seeds that would show it.
@pytest.mark.parametrize(("seeds", "times", "wanted"), [(3, 2, 6), (5, 3, 27), (8, 3, 55)])
def test_seeds_needed_are_the_fewest_with_the_power(seeds, times, wanted):
    differences = np.arange(float(seeds))
    found = paired_comparison(differences, np.zeros(seeds))
    found = found._replace(difference=found.detectable / times)
    assert needed(found) == ("seeds", wanted)
    effect = found.difference / naive_standard_deviation(differences)
    assert naive_power(effect, wanted - 1) < 0.8 <= naive_power(effect, wanted)
    assert needed(found._replace(difference=found.detectable / 40)) == ("", 0)  # more than anybody would run
    assert detectable(found, seeds, 0) == pytest.approx(found.detectable, rel=1e-12)


@pytest.mark.parametrize("seeds", [3, 5, 8])
def test_where_the_seeds_agree_a_number_of_examples_would_tell(seeds):
    one = crossed(np.random.default_rng(seeds), seeds, 200, 0.0, 1.0, 0.1)
    one += 0.1 - one.mean()
    found = compared(one)
    assert found.interval_low > 0 > found.joint.low
    # All but the seeds' part of the variance falls with the number of examples: 2.8 standard errors of 1 / sqrt(N).
    what, number = needed(found)
    assert what == "examples"
    assert number == pytest.approx((2.8 / 0.1) ** 2 * one.mean(axis=0).var(), rel=0.1)


@pytest.mark.parametrize(("seeds", "examples", "effects"), [(5, 300, (0.05, 1.0, 0.5)), (8, 100, (0.1, 0.5, 1.0))])
def test_a_difference_of_the_detectable_size_is_shown_in_four_of_five_samples(seeds, examples, effects):
    random = np.random.default_rng(seeds)
    a, b, e = np.square(effects)
    squares = (200 * a + e, 6 * b + e, e)  # as 6 seeds and 200 examples would have them on average
    planned = compared(crossed(random, 6, 200, *effects))
    planned = planned._replace(joint=planned.joint._replace(mean_squares=squares))
    mean = detectable(planned, seeds, examples)
    shown = [
        compared(crossed(random, seeds, examples, *effects, mean=mean), p_holm=0.01).joint.low > 0 for _ in range(400)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize(
    ("runs", "still"),
    [
        ([(3, 3), (3, 3)], True),
        ([(3, 3), (2, 3)], False),
        ([(1, 1)], False),  # of one epoch there is no best
        ([], False),
    ],
)
def test_training_is_too_short_where_every_run_improves_at_its_last_epoch(runs, still):
    results = [{"selected_epoch": best, "epochs": epochs, "selected_by": "validation error"} for best, epochs in runs]
    assert still_improving(results) == still
    assert not still_improving([run | {"selected_by": "last epoch"} for run in results])
