"""The interval over seeds and test examples: the naive one, and never surer than over seeds alone."""

from __future__ import annotations

import numpy as np
import pytest

from labelembed.metrics import joint_interval, paired_comparison
from tests.naive.metrics import naive_joint_interval

# Seeds and examples that vary much, little and not at all; without `rest` everything is explained by them.
EFFECTS = [(0.0, 0.1, 0.2), (0.02, 0.1, 0.15), (0.3, 0.01, 0.05), (0.0, 0.0, 0.2), (0.1, 0.2, 0.0), (0.1, 0.0, 0.0)]


def crossed_effects(random, seeds, examples, effects):
    of_seeds, of_examples, rest = effects
    crossed = random.normal(0, of_seeds, size=(seeds, 1)) + random.normal(0, of_examples, size=(1, examples))
    return crossed + random.normal(0, rest, size=(seeds, examples))


@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize(("seeds", "examples"), [(2, 2), (2, 40), (3, 17), (8, 60)])
def test_joint_interval_equals_the_naive_one(seeds, examples, effects):
    random = np.random.default_rng(seeds * examples)
    for confidence in (0.5, 0.95):
        differences = crossed_effects(random, seeds, examples, effects) + 0.1
        found = joint_interval(differences, confidence=confidence)
        assert found[:2] == pytest.approx(naive_joint_interval(differences.tolist(), confidence), rel=1e-12, abs=1e-12)
        assert found.examples == examples
        # Another sample of examples cannot make it surer what other runs would give.
        over_seeds = paired_comparison(differences.mean(axis=1), np.zeros(seeds), confidence=confidence)
        assert found.low <= over_seeds.interval_low + 1e-12
        assert found.high >= over_seeds.interval_high - 1e-12
