"""The answer: which case a comparison is, what it says to do next, and that it claims nothing that may be chance."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelembed.lab.report import full_verdict, load_comparison, verdict
from labelembed.lab.report.formatting import shortened
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import joint_interval
from tests.made_evidence import comparison_of_outcomes, leave_errors, leave_examples
from tests.made_runs import fail_run, history_lines, make_comparison, make_run, metrics, run_path

MILD, STRONG, ONE_HOT, OURS = (
    "label_smoothing smoothing=0.1",
    "label_smoothing smoothing=0.4",
    "one_hot",
    "label_embedding",
)
EIGHT = [0.0200, 0.0192, 0.0196, 0.0188, 0.0204, 0.0196, 0.0199, 0.0193]


def shifted(*differences):
    return {seed: error + difference for seed, (error, difference) in enumerate(zip(EIGHT, differences, strict=False))}


BASE = shifted(*[0.0] * 8)
LOWER = shifted(-0.0048, -0.0038, -0.0058, -0.0048, -0.0044, -0.0052, -0.0050, -0.0046)
HIGHER = shifted(*(0.0200 - error for error in LOWER.values()))
CLOSE = shifted(-0.0001, 0.0001, -0.0001, 0.0001, -0.0001, 0.0001, 0.00005, -0.00007)
NOISY = shifted(-0.004, 0.002, -0.004, 0.002, -0.004, 0.002, -0.004, 0.002)  # of 83 seeds a power of 80 %
ALL_BY_THE_SAME = shifted(*[-1 / 449] * 8)
TWO_SEEDS = {0: 0.02, 1: 0.12}
TUNED = {ONE_HOT: BASE, MILD: BASE, STRONG: BASE}

SCENARIOS = {
    # what is compared: answer, and key words of the headline and of the next step with its command
    "better than tuned smoothing": (TUNED | {OURS: LOWER}, "Use it", "is better", "--objective label_embedding"),
    "better, but nothing was tuned": ({ONE_HOT: BASE, OURS: LOWER}, "Cannot tell yet", "not known", "--tuned"),
    "better than one strength only": ({MILD: BASE, OURS: LOWER}, "Cannot tell yet", "not known", "--tuned"),
    "worse": (TUNED | {OURS: HIGHER}, "Do not use it", "is worse", "--objective label_smoothing:smoothing=0.1"),
    "a gain that can only be small": (TUNED | {OURS: CLOSE}, "Do not use it", "No gain", "equal for practical"),
    "open": ({ONE_HOT: BASE, OURS: NOISY}, "Cannot tell yet", "about 83 seeds", "--seeds 83"),
    "two seeds": ({ONE_HOT: BASE, OURS: TWO_SEEDS}, "Cannot tell yet", "Too few seeds", "--seeds 8"),
    "one seed": ({ONE_HOT: {0: 0.02}, OURS: {0: 0.01}}, "Cannot tell yet", "Too few seeds", "--seeds 8"),
    "every seed by the same": ({ONE_HOT: BASE, OURS: ALL_BY_THE_SAME}, "Cannot tell yet", "no interval", "--seeds 16"),
    "equal runs": ({ONE_HOT: BASE, OURS: BASE}, "Cannot tell yet", "the same error", "--seeds 16"),
    "no common seed": ({ONE_HOT: BASE, OURS: {9: 0.015}}, "Cannot tell yet", "no finished seed", "--seeds 8"),
    "smoothing alone": ({ONE_HOT: BASE, STRONG: LOWER}, "Use it", "is better", "smoothing=0.4"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_case_has_its_answer_headline_and_one_next_step(name, tmp_path):
    errors, answer, headline, step = SCENARIOS[name]
    found = full_verdict(load_comparison(make_comparison(tmp_path, errors)))
    assert found.answer == answer
    assert headline in found.headline
    assert step in found.step
    assert all(len(line) < 400 and line == shortened(line, 400) for line in found.lines())
    assert found.headline[0].isupper()


def test_the_difference_and_its_interval_are_those_worked_by_hand(tmp_path):
    # differences in units of 1e-4: mean -48, deviations 0 10 -10 0 4 -4 -2 2, sd sqrt(240 / 7); half 4.895
    found = full_verdict(load_comparison(make_comparison(tmp_path, {ONE_HOT: BASE, OURS: LOWER})))
    assert "0.48 points less error" in found.headline
    assert "-0.48 points (95 % interval over 8 seeds -0.53 to -0.43)" in found.details[0]


def test_a_difference_is_never_rounded_to_nothing(tmp_path):
    errors = {ONE_HOT: BASE, OURS: shifted(*[-0.000040] * 7, -0.000044)}
    assert "0.004 points" in full_verdict(load_comparison(make_comparison(tmp_path, errors))).headline


def test_runs_that_still_improve_at_their_last_epoch_give_no_answer_but_a_longer_command(tmp_path):
    folder = make_comparison(tmp_path, TUNED | {OURS: LOWER}, improving=True)
    found = full_verdict(load_comparison(folder))
    assert (found.answer, "briefly" in found.headline) == ("Cannot tell yet", True)
    assert "--set epochs=6" in found.command
    run = RunFolder(run_path(folder, OURS, 3))
    run.write("result.json", run.result() | {"selected_epoch": 2})
    assert full_verdict(load_comparison(folder)).answer == "Use it"


def test_the_best_smoothing_and_the_method_are_chosen_on_validation_examples(tmp_path):
    # On test examples the mild smoothing is better, on validation examples the strong one.
    errors = {ONE_HOT: BASE, MILD: LOWER, STRONG: BASE, OURS: LOWER, f"{OURS} temperature=3": BASE}
    validation = errors | {STRONG: dict.fromkeys(range(8), 0.001), f"{OURS} temperature=3": HIGHER}
    found = full_verdict(load_comparison(make_comparison(tmp_path, errors, validation_errors=validation)))
    assert [found.contrast.method.name, found.contrast.reference.name] == [OURS, STRONG]
    assert "label smoothing 0.4" in found.details[0]
    assert "cross entropy" in found.details[1]
    assert sum("was chosen among 2" in caveat for caveat in found.caveats) == 2


def test_learned_methods_come_before_those_that_treat_all_labels_alike(tmp_path):
    errors = {STRONG: BASE, ONE_HOT: LOWER, "confidence_penalty": LOWER, OURS: NOISY}
    found = full_verdict(load_comparison(make_comparison(tmp_path / "learned", errors)))
    assert found.contrast.method.name == OURS
    del errors[OURS]
    found = full_verdict(load_comparison(make_comparison(tmp_path / "none", errors)))
    assert found.contrast.method.name == "confidence_penalty"


def test_a_smoothing_tuned_by_trials_counts_as_tuned(tmp_path):
    folder = make_comparison(tmp_path, {ONE_HOT: BASE, STRONG: BASE, OURS: LOWER})
    assert full_verdict(load_comparison(folder)).answer == "Cannot tell yet"
    about = json.loads((folder / "comparison.json").read_text())
    tuned = [{"name": STRONG, "space": {"objective.smoothing": "0.05 to 0.9"}, "trials": 8}]
    (folder / "comparison.json").write_text(json.dumps(about | {"tuning": {"variants": tuned, "trials": 8}}))
    found = full_verdict(load_comparison(folder))
    assert (found.answer, "tuned label smoothing" in found.headline) == ("Use it", True)
    assert any("8 trials" in caveat for caveat in found.caveats)


def test_what_got_worse_is_said_and_nothing_that_may_be_chance(tmp_path):
    sure = dict(enumerate([0.50, 0.51, 0.52, 0.53, 0.50, 0.51, 0.52, 0.53]))
    chance = dict(enumerate([0.60, 0.40, 0.61, 0.39, 0.62, 0.38, 0.50, 0.51]))
    low = dict(enumerate([0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.10, 0.11]))
    for reference, said in ((chance, False), (low, True)):
        nll = {ONE_HOT: reference, OURS: sure}
        folder = make_comparison(tmp_path / str(said), {ONE_HOT: BASE, OURS: LOWER}, nll=nll)
        for seed in range(8):
            run = RunFolder(run_path(folder, OURS, seed))
            run.write("result.json", run.result() | {"seconds": 48.0 if said else 31.0})
        found = full_verdict(load_comparison(folder))
        assert ("NLL by 0.406 nats" in found.worse, "1.60 times" in found.worse) == (said, said)


def test_a_better_calibrated_nll_is_part_of_the_answer(tmp_path):
    folder = make_comparison(tmp_path, TUNED | {OURS: CLOSE})
    for name in TUNED | {OURS: CLOSE}:
        for seed in range(8):
            run, nll = RunFolder(run_path(folder, name, seed)), 0.1 + 0.001 * seed - 0.03 * (name == OURS)
            after = run.result()["test"] | {"nll": nll + 0.0001 * (seed % 3) * (name == OURS)}
            run.write("result.json", run.result() | {"temperature": 2.0, "calibrated": {"test": after}})
    found = full_verdict(load_comparison(folder))
    assert "0.030 nats less NLL" in found.headline
    assert "for its probabilities" in found.next_step


# ------------------------------------------------------------------------------------- over seeds and test examples


def outcomes(*gained, seeds=8, examples=400):
    """Returns outcomes of which the last 40 examples are wrong, but with each seed so many of them right."""
    right = np.ones((seeds, examples), dtype=bool)
    right[:, -40:] = False
    for seed, count in enumerate(gained):
        right[seed, -40 : examples - 40 + count] = True
    return right


MANY = (20, 22, 21, 20, 23, 21, 20, 21)


@pytest.mark.parametrize(("gained", "is_open"), [((1, 2, 1, 1, 2, 1, 1, 1), True), (MANY, False)])
def test_both_intervals_decide_and_where_the_second_leaves_it_open_examples_are_needed(gained, is_open, tmp_path):
    right = {ONE_HOT: outcomes(), MILD: outcomes(), STRONG: outcomes(), OURS: outcomes(*gained)}
    low, high, examples, _ = joint_interval(100.0 * right[OURS] - 100.0 * right[ONE_HOT])
    found = full_verdict(load_comparison(comparison_of_outcomes(tmp_path, right)))
    assert (low < 0, examples) == (is_open, 400)
    assert f"over seeds and test examples {-high:.2f} to {-low:.2f}" in found.details[0]
    assert found.answer == ("Cannot tell yet" if is_open else "Use it")
    assert ("Collect about" in found.next_step) == is_open
    assert bool(found.command) != is_open


@pytest.mark.parametrize("lost", ["files", "fingerprint", "number", "split", "damaged", "other"])
def test_without_the_outcomes_of_the_same_examples_the_seeds_alone_decide(lost, tmp_path):
    folder = comparison_of_outcomes(tmp_path, {ONE_HOT: outcomes(), OURS: outcomes(*MANY)})
    run = RunFolder(run_path(folder, ONE_HOT, 3))
    {
        "files": lambda: run.examples_file.unlink(),
        "fingerprint": lambda: run.write("environment.json", run.environment() | {"data": {"source": "digits"}}),
        "number": lambda: leave_examples(run.path, [True] * 361 + [False] * 40),
        "split": lambda: leave_examples(run.path, [True] * 9, split="validation"),
        "damaged": lambda: run.examples_file.write_bytes(b"x" * 99),
        "other": lambda: leave_examples(run.path, [True] * 400),  # not those of its result.json
    }[lost]()
    found = full_verdict(load_comparison(folder)).contrast.found
    assert found.joint is None
    assert found.interval_high < 0


def test_a_p_that_does_not_bear_out_the_interval_leaves_it_open(tmp_path):
    names = [f"{OURS} temperature={t}" for t in range(1, 8)]
    found = full_verdict(load_comparison(make_comparison(tmp_path / "many", TUNED | dict.fromkeys(names, LOWER))))
    assert any("cannot fall below 0.055" in caveat for caveat in found.caveats)
    assert found.answer == "Cannot tell yet"
    # Seven clear gains and a small loss: the interval leaves out 0, the exact p of 4 / 256 times 4 does not.
    mixed = shifted(*[-0.003] * 7, 0.0001)
    errors = {ONE_HOT: BASE, OURS: mixed} | {f"{OURS} temperature={t}": CLOSE for t in (1, 2, 3)}
    validation = errors | {OURS: dict.fromkeys(range(8), 0.001)}
    found = full_verdict(load_comparison(make_comparison(tmp_path / "loss", errors, validation_errors=validation)))
    assert (found.answer, any("0.062" in caveat for caveat in found.caveats)) == ("Cannot tell yet", True)


# ----------------------------------------------------------------------------------------- where nothing is compared


@pytest.mark.parametrize(("kept", "word"), [(ONE_HOT, "Only cross entropy"), (None, "No run has finished")])
def test_without_finished_runs_nothing_is_compared(tmp_path, kept, word):
    make_comparison(tmp_path, {ONE_HOT: {0: 0.02}, OURS: {0: 0.015}})
    for name in (ONE_HOT, OURS):
        if name != kept:
            fail_run(run_path(tmp_path, name, 0), "nan")
    assert verdict(load_comparison(tmp_path))[0].startswith(word)


def test_a_single_run_says_what_it_reached_and_what_comes_next(tmp_path):
    make_run(tmp_path, test=metrics(0.0145), validation=metrics(0.016), history=history_lines([0.1, 0.0145]))
    found = full_verdict(load_comparison(tmp_path))
    assert "test error of 1.45 % and a validation error of 1.60 % after epoch 2 of 2" in found.headline
    assert ("longer" in found.next_step, found.answer) == (True, "")
    make_run(tmp_path / "b", test=metrics(0.1), history=history_lines([0.1] * 3), selected_epoch=1)
    assert full_verdict(load_comparison(tmp_path / "b")).command == "labelembed compare digits-mlp --seeds 8"


def test_that_nothing_was_learned_is_the_answer(tmp_path):
    # 56 of 120 examples have the other label.
    nothing, learned = {0: 56 / 120, 1: 57 / 120}, {0: 0.2, 1: 0.25}
    for name, errors, said in (("all", nothing, "headline"), ("one", learned, "caveats")):
        folder = make_comparison(tmp_path / name, {ONE_HOT: nothing, OURS: errors})
        for variant in (ONE_HOT, OURS):
            leave_errors(run_path(folder, variant, 0), [(0, 1, 1)], labels=2, of_label=[64, 56])
        found = full_verdict(load_comparison(folder))
        assert "most frequent label (46.67 % test error)" in str(getattr(found, said))


def test_translations_are_decided_by_bleu_and_those_that_never_began_are_said(tmp_path):
    folder = make_comparison(tmp_path, {ONE_HOT: BASE, OURS: LOWER})
    for name in (ONE_HOT, OURS):
        for seed in range(8):
            run = RunFolder(run_path(folder, name, seed))
            bleu = 0.002 + 0.0001 * seed + (0.2 + 0.001 * (seed % 3) if name == ONE_HOT else 0.0)
            run.write("result.json", run.result() | {"test": run.result()["test"] | {"bleu": bleu}})
    found = full_verdict(load_comparison(folder))
    assert "less BLEU" in found.headline
    assert any("near zero for label embedding" in caveat for caveat in found.caveats)
