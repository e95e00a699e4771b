"""The sentence a person reads first: what it says, and what it must not say."""

from __future__ import annotations

import pytest

from labelembed.report import load_comparison, verdict
from tests.made_evidence import leave_errors
from tests.made_runs import fail_run, journal_lines, make_comparison, make_run, measures, run_path

SMOOTHING = "label_smoothing smoothing=0.4"
EIGHT = [0.0200, 0.0192, 0.0196, 0.0188, 0.0204, 0.0196, 0.0199, 0.0193]


def _shifted(*differences):
    return {seed: error + difference for seed, (error, difference) in enumerate(zip(EIGHT, differences, strict=False))}


BASE = _shifted(*[0.0] * 8)
LOWER = _shifted(-0.0048, -0.0038, -0.0058, -0.0048, -0.0044, -0.0052, -0.0050, -0.0046)
SAME = _shifted(-0.001, 0.001, -0.002, 0.002, -0.001, 0.001, 0.0005, -0.0007)


def _verdict(path, errors, **settings):
    return verdict(load_comparison(make_comparison(path, errors, **settings)))


def test_a_lower_error_is_said_with_interval_and_seeds(tmp_path):
    # differences in units of 1e-4: mean -48, deviations 0 10 -10 0 4 -4 -2 2, sd sqrt(240 / 7) = 5.855;
    # half = 2.3646 * 5.855 / sqrt(8) = 4.895
    assert _verdict(tmp_path, {"one_hot": BASE, "label_embedding": LOWER}) == [
        "label_embedding lowers the test error by 0.48 points against one_hot "
        "(95 % interval 0.43 to 0.53, n = 8 seeds)."
    ]


def test_the_mirrored_comparison_gives_the_mirrored_verdict(tmp_path):
    assert _verdict(tmp_path, {"one_hot": BASE, "label_embedding": LOWER}, baseline="label_embedding") == [
        "one_hot raises the test error by 0.48 points against label_embedding "
        "(95 % interval 0.43 to 0.53, n = 8 seeds)."
    ]


def test_an_interval_with_zero_is_no_difference_shown_and_not_equal(tmp_path):
    (sentence,) = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": SAME})
    assert sentence.startswith("No difference in test error is shown between label_embedding and one_hot")
    assert "could have shown one of" in sentence
    assert "not the same as equal" in sentence
    assert "lowers" not in sentence


def test_small_differences_are_not_rounded_to_nothing(tmp_path):
    tiny = _shifted(*[-0.000040] * 7, -0.000044)
    (sentence,) = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": tiny})
    assert "by 0.004 points" in sentence


def test_the_same_error_with_every_seed_is_said_so(tmp_path):
    (sentence,) = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": BASE})
    assert sentence == "label_embedding has the same test error as one_hot with every one of 8 seeds."


def test_a_method_is_also_compared_with_the_best_smoothing_by_development_error(tmp_path):
    errors = {
        "one_hot": BASE,
        "label_smoothing smoothing=0.1": LOWER,
        SMOOTHING: _shifted(*[-0.002] * 8),
        "label_embedding": LOWER,
    }
    # On the test rows 0.1 is better, on the development rows 0.4: the choice must not look at the test rows.
    development = errors | {SMOOTHING: dict.fromkeys(range(8), 0.001)}
    first, second = _verdict(tmp_path, errors, development_errors=development)
    assert first.startswith("label_embedding lowers")
    assert second.startswith(f"It lowers the test error by 0.28 points against {SMOOTHING} (95 % interval")
    assert second.endswith("That smoothing was chosen among 2 by its development error.")


def test_the_best_of_several_methods_is_said_to_be_chosen(tmp_path):
    errors = {"one_hot": BASE, "label_embedding preset=paper": SAME, "label_embedding temperature=3": LOWER}
    first, second = _verdict(tmp_path, errors)
    assert first.startswith("label_embedding temperature=3 lowers")
    assert second == "label_embedding temperature=3 was chosen among 2 by its development error."


def test_smoothing_as_the_baseline_is_not_compared_twice(tmp_path):
    statements = _verdict(tmp_path, {SMOOTHING: BASE, "label_embedding": LOWER})
    assert len(statements) == 1
    assert f"against {SMOOTHING}" in statements[0]


def test_smoothing_alone_is_the_first_sentence(tmp_path):
    (sentence,) = _verdict(tmp_path, {"one_hot": BASE, SMOOTHING: LOWER})
    assert sentence.startswith(f"{SMOOTHING} lowers")


def test_a_p_that_cannot_get_small_enough_is_said(tmp_path):
    names = [f"label_embedding temperature={t}" for t in range(1, 8)]
    errors = {"one_hot": BASE} | dict.fromkeys(names, LOWER)
    statements = _verdict(tmp_path, errors)
    assert any("cannot fall below 0.055" in statement for statement in statements)


def test_a_p_against_the_interval_is_said(tmp_path):
    # Seven clear gains and a small loss: the interval leaves out 0, the exact p of 4 / 256 times 4 does not.
    mixed = _shifted(-0.003, -0.003, -0.003, -0.003, -0.003, -0.003, -0.003, 0.0001)
    errors = {"one_hot": BASE, "label_embedding": mixed}
    errors |= {f"label_embedding temperature={t}": SAME for t in (1, 2, 3)}
    development = errors | {"label_embedding": dict.fromkeys(range(8), 0.001)}
    first, second, _ = _verdict(tmp_path, errors, development_errors=development)
    assert first.startswith("label_embedding lowers")
    assert second == "But the sign-flip p is 0.062 after Holm's correction: it may be chance."


def test_one_seed_gets_no_interval_and_is_told_so(tmp_path):
    errors = {"one_hot": {0: 0.02}, SMOOTHING: {0: 0.017}, "label_embedding": {0: 0.015}}
    first, second = _verdict(tmp_path, errors)
    assert "0.50 points lower than that of one_hot" in first
    assert "One seed gives no interval" in first
    assert second == f"It is 0.20 points lower than that of {SMOOTHING}; with one seed that may be chance."


@pytest.mark.parametrize(
    ("kept", "expected"), [("one_hot", "Only one_hot has finished"), (None, "No run has finished")]
)
def test_without_finished_runs_nothing_is_compared(tmp_path, kept, expected):
    errors = {"one_hot": {0: 0.02}, "label_embedding": {0: 0.015}}
    make_comparison(tmp_path, errors)
    for name in errors:
        if name != kept:
            fail_run(run_path(tmp_path, name, 0), "nan")
    (sentence,) = verdict(load_comparison(tmp_path))
    assert sentence.startswith(expected)


def test_seeds_that_do_not_overlap_compare_nothing(tmp_path):
    (sentence,) = _verdict(tmp_path, {"one_hot": {0: 0.02, 1: 0.02}, "label_embedding": {2: 0.015, 3: 0.015}})
    assert sentence == "label_embedding and one_hot share no finished seed, so nothing is compared."


def test_a_single_run_says_what_it_reached_and_that_one_run_has_no_spread(tmp_path):
    make_run(tmp_path, test=measures(0.0145), development=measures(0.016), journal=journal_lines([0.1, 0.0145]))
    (sentence,) = verdict(load_comparison(tmp_path))
    assert "a test error of 1.45 % and a development error of 1.60 % after epoch 2 of 2" in sentence
    assert "One run has no spread" in sentence


def _counts_of_labels(path, errors, counts):
    folder = make_comparison(path, errors)
    for variant, by_seed in errors.items():
        for seed in by_seed:
            leave_errors(run_path(folder, variant, seed), [(0, 1, 1)], labels=len(counts), of_label=counts)
    return verdict(load_comparison(folder))


def test_that_nothing_was_learned_is_said_first(tmp_path):
    # 56 of 120 rows have the other label.
    errors = {"one_hot": {0: 56 / 120, 1: 56 / 120}, "label_embedding": {0: 56 / 120, 1: 57 / 120}}
    found = _counts_of_labels(tmp_path / "all", errors, [64, 56])
    assert found[0] == (
        "No variant does better than always giving the most frequent label (46.67 % test error): by that measure "
        "nothing was learned. More epochs, a higher learning rate or smaller batches may help (--set epochs=..., "
        "--set optimizer.learning_rate=...)."
    )
    errors["label_embedding"] = {0: 0.2, 1: 0.25}
    found = _counts_of_labels(tmp_path / "one", errors, [64, 56])
    assert found[0] == "one_hot is no better than always giving the most frequent label (46.67 % test error)."
    errors["one_hot"] = {0: 0.25, 1: 0.25}
    found = _counts_of_labels(tmp_path / "none", errors, [64, 56])
    assert not any("most frequent" in statement for statement in found)


def test_a_single_run_that_learned_nothing_says_so(tmp_path):
    folder = make_run(tmp_path / "run", test=measures(0.5), journal=journal_lines([0.5]))
    leave_errors(folder.path, [(0, 1, 1)], labels=2, of_label=[5, 5])
    assert verdict(load_comparison(folder.path))[1].startswith("The run does not do better than always giving")
