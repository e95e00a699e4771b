"""The answer: which case a comparison is, what it says to do next, and that it claims nothing that may be chance."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from labelembed.lab.report import full_verdict, load_comparison, verdict
from labelembed.lab.report.decision import detectable, needed, outcome, shown_sign
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import joint_interval, paired_comparison
from tests.made_evidence import compared, comparison_of_outcomes, crossed_effects, leave_errors, leave_examples
from tests.made_runs import change_result, fail_run, history_lines, make_comparison, make_run, metrics, run_path
from tests.naive.metrics import naive_power, naive_standard_deviation

MILD, STRONG = "label_smoothing smoothing=0.1", "label_smoothing smoothing=0.4"
ONE_HOT, OURS, PENALTY = "one_hot", "label_embedding", "confidence_penalty"
EIGHT = [0.0200, 0.0192, 0.0196, 0.0188, 0.0204, 0.0196, 0.0199, 0.0193]


def shifted(*differences):
    return {seed: error + difference for seed, (error, difference) in enumerate(zip(EIGHT, differences, strict=False))}


BASE = shifted(*[0.0] * 8)
LOWER = shifted(-0.0048, -0.0038, -0.0058, -0.0048, -0.0044, -0.0052, -0.0050, -0.0046)
HIGHER = shifted(*(0.0200 - error for error in LOWER.values()))
CLOSE = shifted(-0.0001, 0.0001, -0.0001, 0.0001, -0.0001, 0.0001, 0.00005, -0.00007)
NOISY = shifted(-0.004, 0.002, -0.004, 0.002, -0.004, 0.002, -0.004, 0.002)  # of 83 seeds a power of 80 %
HALF = shifted(*[-0.004, 0.0] * 4)  # t = -2.65: the interval excludes 0, the p of 0.033 times 4 does not
ALL_BY_THE_SAME = shifted(*[-1 / 449] * 8)
TINY = shifted(*[-0.000040] * 7, -0.000044)
TWO_SEEDS = {0: 0.02, 1: 0.12}
BEST = dict.fromkeys(range(8), 0.001)
PAIR, TUNED = {ONE_HOT: BASE}, {ONE_HOT: BASE, MILD: BASE, STRONG: BASE}
CANNOT = "Cannot tell yet"


def several(of, count):
    return {f"{OURS} temperature={t}": of for t in range(1, count + 1)}


SCENARIOS = {
    # errors by variant and seed, those on validation examples: the answer, and words of all that is said
    "better than tuned smoothing": (TUNED | {OURS: LOWER}, {}, "Use it", ["is better", "--objective label_embedding"]),
    "better, but nothing was tuned": (PAIR | {OURS: LOWER}, {}, CANNOT, ["not known", "--tuned"]),
    "better than one strength only": ({MILD: BASE, OURS: LOWER}, {}, CANNOT, ["not known", "--tuned"]),
    "worse": (TUNED | {OURS: HIGHER}, {}, "Do not use it", ["is worse", "label_smoothing:smoothing=0.1"]),
    "a gain that can only be small": (
        TUNED | {OURS: CLOSE},
        {},
        "Do not use it",
        ["No gain", "Keep tuned label smoothing."],
    ),
    "open": (PAIR | {OURS: NOISY}, {}, CANNOT, ["about 83 seeds", "--seeds 83"]),
    "two seeds": (PAIR | {OURS: TWO_SEEDS}, {}, CANNOT, ["Too few seeds", "--seeds 8"]),
    "one seed": ({ONE_HOT: {0: 0.02}, OURS: {0: 0.01}}, {}, CANNOT, ["Too few seeds", "no interval", "--seeds 8"]),
    "every seed by the same": (PAIR | {OURS: ALL_BY_THE_SAME}, {}, CANNOT, ["no interval", "--seeds 16"]),
    "equal runs": (PAIR | {OURS: BASE}, {}, CANNOT, ["the same error", "--seeds 16"]),
    "no common seed": (PAIR | {OURS: {9: 0.015}}, {}, CANNOT, ["no finished seed", "--seeds 8"]),
    "smoothing alone": (PAIR | {STRONG: LOWER}, {}, "Use it", ["is better", "smoothing=0.4"]),
    "a tiny difference": (PAIR | {OURS: TINY}, {}, "Do not use it", ["0.004 points"]),  # never rounded to nothing
    # differences in units of 1e-4: mean -48, deviations 0 10 -10 0 4 -4 -2 2, sd sqrt(240 / 7); half 4.895
    "numbers by hand": (PAIR | {OURS: LOWER}, {}, CANNOT, ["0.48 points less", "-0.48 points", "-0.53 to -0.43"]),
    "the smoothing and the method that are best on validation examples": (
        {ONE_HOT: BASE, MILD: BASE, STRONG: BASE, OURS: LOWER, f"{OURS} temperature=3": BASE},
        {STRONG: BEST, f"{OURS} temperature=3": HIGHER},
        "Use it",
        [
            "embedding minus that of label smoothing 0.4",
            "that of cross entropy",
            "among 2 methods",
            "among 2 strengths",
        ],
    ),
    "better than the strength that was chosen, but not than another": (
        {ONE_HOT: BASE, MILD: BASE, STRONG: LOWER, OURS: LOWER},
        *({STRONG: HIGHER}, CANNOT, ["0.48 points less", "better than label smoothing 0.4", "--seeds 16"]),
    ),
    "a learned method before others": ({STRONG: BASE, PENALTY: LOWER, OURS: NOISY}, {}, CANNOT, ["label embedding"]),
    "other methods before smoothing": (TUNED | {PENALTY: LOWER}, {}, "Use it", ["Confidence penalty is better"]),
    "a p that is not small": (
        TUNED | {OURS: HALF} | several(CLOSE, 3),
        {OURS: BEST},
        CANNOT,
        ["is 0.13", "--seeds 16"],
    ),
    "better than smoothing, but not than cross entropy": (
        {ONE_HOT: LOWER, MILD: HIGHER, STRONG: HIGHER, OURS: BASE},
        *({}, "Do not use it", ["error than cross entropy", "label smoothing 0.1: -0.5", "Keep cross entropy"]),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_case_has_its_answer_headline_and_one_next_step(name, tmp_path):
    errors, validation, answer, words = SCENARIOS[name]
    folder = make_comparison(tmp_path, errors, validation_errors=errors | validation)
    found = full_verdict(load_comparison(folder))
    assert found.answer == answer
    assert [word for word in words if word not in "\n".join(found.lines())] == []
    assert found.next_step
    assert all(len(line) < 400 for line in found.lines())
    assert found.headline[0].isupper()


def test_runs_that_still_improve_at_their_last_epoch_give_no_answer_but_a_longer_command(tmp_path):
    folder = make_comparison(tmp_path, TUNED | {OURS: LOWER}, improving=True)
    found = full_verdict(load_comparison(folder))
    assert found.answer == CANNOT
    assert f"--set epochs=6 --out={folder}-longer" in found.command
    change_result(folder, OURS, 3, selected_epoch=2)
    assert full_verdict(load_comparison(folder)).answer == "Use it"


TYPED = r"labelembed compare --seeds 0-7 digits-mlp --epochs=5 -j2 --overwrite --data it\'s"


@pytest.mark.parametrize(
    ("ran", "errors", "wanted"),
    [
        (TYPED, TUNED | {OURS: LOWER}, r"train digits-mlp --epochs 5 --data it\'s --objective label_embedding"),
        (
            TYPED,
            PAIR | {OURS: LOWER},
            r"compare digits-mlp --epochs 5 --data it\'s --tuned --objectives one_hot,label_smoothing,label_embedding",
        ),
        (TYPED, PAIR | {OURS: NOISY}, r"compare digits-mlp --epochs 5 -j 2 --data it\'s --seeds 83"),
        ("python my.py", TUNED | {OURS: LOWER}, "train digits-mlp --data a.csv --objective label_embedding"),
    ],
)
def test_the_next_command_has_the_options_of_the_runs_own(ran, errors, wanted, tmp_path):
    first = RunFolder(run_path(make_comparison(tmp_path, errors), ONE_HOT, 0))
    first.write("environment.json", first.environment() | {"command": shlex.split(ran)})
    first.write_recipe(first.recipe() | {"data": {"name": "texts", "path": "a.csv"}})
    assert shlex.split(full_verdict(load_comparison(tmp_path)).command) == ["labelembed", *shlex.split(wanted)]


def test_the_next_command_has_the_objectives_that_were_added(tmp_path):
    folder = make_comparison(tmp_path, PAIR | {OURS: NOISY})
    run = RunFolder(run_path(folder, OURS, 0))
    run.write("environment.json", run.environment() | {"command": shlex.split("labelembed compare x --objectives b")})
    names = [name.replace(" ", ":") for name in (*PAIR, OURS)]
    assert f"--objectives {','.join(names)}" in full_verdict(load_comparison(folder)).command


def test_a_smoothing_tuned_by_trials_counts_as_tuned_and_notes_are_said(tmp_path):
    folder = make_comparison(tmp_path, {ONE_HOT: BASE, STRONG: BASE, OURS: LOWER})
    assert full_verdict(load_comparison(folder)).answer == CANNOT
    about = json.loads((folder / "comparison.json").read_text())
    tuned = [{"name": STRONG, "space": {"objective.smoothing": "0.05 to 0.9"}, "trials": 8}]
    about |= {"tuning": {"variants": tuned, "trials": 8}, "notes": ["Two seeds were left."]}
    (folder / "comparison.json").write_text(json.dumps(about))
    found = full_verdict(load_comparison(folder))
    assert (found.answer, "tuned label smoothing" in found.headline) == ("Use it", True)
    assert any("8 trials" in caveat for caveat in found.caveats)
    about["tuning"]["variants"].append(
        {"name": OURS, "was": "label_embedding:preset=paper", "arguments": {"epochs": 7}}
    )
    (folder / "comparison.json").write_text(json.dumps(about))
    command = full_verdict(load_comparison(folder)).command
    assert command.endswith("--objective label_embedding:preset=paper --set epochs=7")
    assert found.notes == ["Two seeds were left."]


def test_what_got_worse_is_said_and_nothing_that_may_be_chance(tmp_path):
    sure = dict(enumerate([0.50, 0.51, 0.52, 0.53, 0.50, 0.51, 0.52, 0.53]))
    chance = dict(enumerate([0.60, 0.40, 0.61, 0.39, 0.62, 0.38, 0.50, 0.51]))
    low = dict(enumerate([0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.10, 0.11]))
    for reference, said in ((chance, False), (low, True)):
        nll = {ONE_HOT: reference, OURS: sure}
        folder = make_comparison(tmp_path / str(said), {ONE_HOT: BASE, OURS: LOWER}, nll=nll)
        for seed in range(8):
            change_result(folder, OURS, seed, seconds=48.0 if said else 31.0)
        found = full_verdict(load_comparison(folder))
        assert ("NLL by 0.406 nats" in found.worse, "1.60 times" in found.worse) == (said, said)


WILD = shifted(-0.009, 0.01, -0.009, 0.01, -0.009, 0.01, -0.009, 0.006)  # no gain on average, maybe a large loss


@pytest.mark.parametrize(
    ("errors", "gain", "of_strong", "answer"),
    [
        (TUNED | {OURS: CLOSE}, 0.03, 0.0, "Use it for its probabilities"),
        (TUNED | {OURS: CLOSE}, 0.002, 0.0, "Do not use it"),  # a fiftieth of the NLL
        (TUNED | {OURS: CLOSE}, 0.03, 0.04, "Do not use it"),  # the smoothing with the lowest NLL has less
        (PAIR | {OURS: CLOSE}, 0.03, 0.0, "Do not use it"),  # nothing was tuned
        (TUNED | {OURS: WILD}, 0.03, 0.0, CANNOT),
    ],
)
def test_a_better_calibrated_nll_is_part_of_the_answer(errors, gain, of_strong, answer, tmp_path):
    folder = make_comparison(tmp_path, errors)
    for name in errors:
        for seed in range(8):
            nll = 0.1 + 0.001 * seed - of_strong * (name == STRONG) - (gain - 0.0001 * (seed % 3)) * (name == OURS)
            both = dict.fromkeys(("validation", "test"), metrics(0.02, nll=nll))
            change_result(folder, name, seed, temperature=2.0, calibrated=both)
    found = full_verdict(load_comparison(folder))
    assert f"{gain:.3f} nats less NLL" in found.headline
    assert found.answer == answer


def test_with_failed_runs_of_the_method_it_is_not_recommended(tmp_path):
    folder = make_comparison(tmp_path, TUNED | {OURS: LOWER})
    for seed in (2, 5):
        fail_run(run_path(folder, OURS, seed), "nan")
    found = full_verdict(load_comparison(folder))
    assert (found.answer, found.command) == (CANNOT, "")
    assert "2 of 8 runs of label embedding failed" in found.worse


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
    assert found.answer == (CANNOT if is_open else "Use it")
    assert ("Collect about" in found.next_step) == is_open == (not found.command)


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


@pytest.mark.parametrize(("kept", "word"), [(ONE_HOT, "Only cross entropy"), (None, "No run has finished")])
def test_without_finished_runs_nothing_is_compared(tmp_path, kept, word):
    make_comparison(tmp_path, {ONE_HOT: {0: 0.02}, OURS: {0: 0.015}})
    for name in {ONE_HOT, OURS} - {kept}:
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
    for name, errors in (("all", nothing), ("one", learned)):
        folder = make_comparison(tmp_path / name, {ONE_HOT: nothing, OURS: errors})
        for variant in (ONE_HOT, OURS):
            leave_errors(run_path(folder, variant, 0), [(0, 1, 1)], labels=2, of_label=[64, 56])
        assert "most frequent label (46.67 % test error)" in full_verdict(load_comparison(folder)).headline


def test_translations_are_decided_by_bleu_and_those_that_never_began_are_said(tmp_path):
    folder = make_comparison(tmp_path, {ONE_HOT: BASE, OURS: LOWER})
    for name in (ONE_HOT, OURS):
        for seed in range(8):
            bleu = 0.002 + 0.0001 * seed + (0.2 + 0.001 * (seed % 3) if name == ONE_HOT else 0.0)
            change_result(folder, name, seed, test=metrics(0.02) | {"bleu": bleu})
    found = full_verdict(load_comparison(folder))
    assert "less BLEU" in found.headline
    assert any("Label embedding" in caveat and "near zero" in caveat for caveat in found.caveats)


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
    one = crossed_effects(np.random.default_rng(1), 0.0, of_examples, 0.05, examples=300)
    one += mean - one.mean()
    mirrored = {"worse": "better"}.get(said, said)
    there, back = compared(one, p_holm), compared(-one, p_holm)
    any_gain = -1.0  # none is too small to count
    assert outcome(there, smallest_gain=any_gain) == said
    assert outcome(back, smallest_gain=any_gain) == mirrored
    assert outcome(there, smallest_gain=any_gain, more_is_better=True) == mirrored  # as of BLEU
    assert shown_sign(there) == -shown_sign(back)


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
    one = crossed_effects(np.random.default_rng(seeds), 0.0, 1.0, 0.1, seeds=seeds, examples=200)
    one += 0.1 - one.mean()
    found = compared(one)
    assert found.interval_low > 0 > found.joint.low
    # All but the seeds' part of the variance falls with the number of examples: 2.8 standard errors of 1 / sqrt(N).
    what, number = needed(found)
    assert what == "examples"
    assert number == pytest.approx((2.8 / 0.1) ** 2 * one.mean(axis=0).var(), rel=0.1)
