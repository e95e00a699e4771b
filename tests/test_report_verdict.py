"""The sentence a person reads first: what it says, and what it must not say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelembed.lab.report import comparison_rows, load_comparison, table_notes, verdict
from labelembed.lab.report.tables import differences_table
from labelembed.lab.report.verdict import full_verdict
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import joint_interval
from tests.made_evidence import comparison_of_outcomes, leave_errors, leave_examples
from tests.made_runs import fail_run, history_lines, make_comparison, make_run, metrics, run_path

SMOOTHING = "label_smoothing smoothing=0.4"
NO_SMOOTHING = "No label smoothing is in this comparison: what it would give is not known."
NOT_TUNED = "Label smoothing was not tuned: one strength only; compare --tuned tunes it."
EIGHT = [0.0200, 0.0192, 0.0196, 0.0188, 0.0204, 0.0196, 0.0199, 0.0193]


def _shifted(*differences):
    return {seed: error + difference for seed, (error, difference) in enumerate(zip(EIGHT, differences, strict=False))}


BASE = _shifted(*[0.0] * 8)
LOWER = _shifted(-0.0048, -0.0038, -0.0058, -0.0048, -0.0044, -0.0052, -0.0050, -0.0046)
SAME = _shifted(-0.001, 0.001, -0.002, 0.002, -0.001, 0.001, 0.0005, -0.0007)
SAME_BUT_CLOSE = _shifted(-0.0001, 0.0001, -0.0001, 0.0001, -0.0001, 0.0001, 0.00005, -0.00007)


def _verdict(path, errors, **settings):
    return full_verdict(load_comparison(make_comparison(path, errors, **settings)))


def test_a_lower_error_is_said_with_interval_and_seeds(tmp_path):
    # differences in units of 1e-4: mean -48, deviations 0 10 -10 0 4 -4 -2 2, sd sqrt(240 / 7) = 5.855;
    # half = 2.3646 * 5.855 / sqrt(8) = 4.895
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": LOWER})
    assert found.sentences == [
        "label_embedding lowers the test error by 0.48 points against one_hot "
        "(95 % interval over 8 seeds 0.43 to 0.53)."
    ]
    assert found.caveats == [NO_SMOOTHING]
    assert found.answer == "Cannot tell yet"
    assert verdict(load_comparison(tmp_path)) == [
        *found.sentences,
        "Cannot tell yet. It is better than one_hot beyond the chance of seeds; of the examples it is not known. "
        "But what tuned label smoothing gives is not known: compare --tuned tells.",
        NO_SMOOTHING,
    ]


def test_an_interval_with_zero_is_no_difference_shown_and_not_equal(tmp_path):
    # Noise as large as the difference that could matter.
    noisy = _shifted(*(20 * one for one in (-0.0001, 0.0001, -0.0002, 0.0002, -0.0001, 0.00005, -0.00015, -0.0001)))
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": noisy})
    assert found.sentences[0].startswith("No difference in test error is shown between label_embedding and one_hot")
    assert found.answer == "Cannot tell yet"
    assert "does not make them equal" in found.because[-1]
    assert "lowers" not in found.sentences[0]


def test_how_many_seeds_would_tell_is_said(tmp_path):
    # The mean of 0.001 is 0.312 standard deviations: 82 seeds have a power of 0.797 by naive_power, 83 one of 0.802.
    noise = (-0.004, 0.002, -0.004, 0.002, -0.004, 0.002, -0.004, 0.002)
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": _shifted(*noise)})
    assert found.because[0].startswith("About 83 seeds")


@pytest.mark.parametrize("seeds", [2, 4])
def test_fewer_than_five_seeds_give_no_verdict_and_no_number_that_nobody_can_use(seeds, tmp_path):
    ours = {seed: 0.02 + 0.1 * (seed % 2) for seed in range(seeds)}
    errors = {"one_hot": {seed: BASE[seed] for seed in range(seeds)}, "label_embedding": ours}
    found = _verdict(tmp_path, errors)
    assert (found.answer, found.because) == ("Cannot tell yet", ["Run at least 5 seeds (--seeds 8)."])
    comparison = load_comparison(tmp_path)
    rows = comparison_rows(comparison)
    assert not any("detectable" in note for note in table_notes(rows))
    assert differences_table(rows).lines[0].cells[-1].text == "-"


def test_no_difference_that_is_larger_than_all_errors_is_said_to_be_detectable(tmp_path):
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": _shifted(0, 0.06, 0, 0, 0, 0, 0.06, 0)})
    assert found.answer == "Cannot tell yet"
    assert not any("would be seen" in one for one in found.because)


def test_a_gain_that_can_only_be_small_is_none(tmp_path):
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": SAME_BUT_CLOSE})
    assert (found.answer, found.because[0]) == ("Do not use it", "At best it gains 0.01 points on one_hot.")


@pytest.mark.parametrize(("more", "word"), [(-1, "lower"), (1, "higher")])
def test_the_same_difference_with_every_seed_has_no_interval(more, word, tmp_path):
    # One of 449 test examples with every seed.
    found = _verdict(tmp_path, {"one_hot": BASE, "label_embedding": _shifted(*[more / 449] * 8)})
    assert found.sentences[0] == (
        f"The test error of label_embedding is 0.22 points {word} than that of one_hot with every one of 8 seeds, all "
        "by the same, so there is no interval over seeds."
    )
    assert found.answer == "Cannot tell yet"
    rows = comparison_rows(load_comparison(tmp_path))
    assert "No interval over seeds where every seed differs by the same." in table_notes(rows)
    assert not any("Minimum detectable" in note for note in table_notes(rows))


@pytest.mark.parametrize(("ours", "said"), [(LOWER, "Use it"), (SAME_BUT_CLOSE, "Do not use it")])
def test_runs_that_still_improve_at_their_last_epoch_give_no_verdict(ours, said, tmp_path):
    errors = {"one_hot": BASE, SMOOTHING: BASE, "label_smoothing smoothing=0.1": BASE, "label_embedding": ours}
    folder = make_comparison(tmp_path, errors, improving=True)
    found = full_verdict(load_comparison(folder))
    assert (found.answer, len(found.because)) == ("Cannot tell yet", 1)
    assert "train longer" in found.because[0]
    run = RunFolder(run_path(folder, "label_embedding", 3))
    run.write_result(run.result() | {"selected_epoch": 2})
    found = full_verdict(load_comparison(folder))
    assert found.answer == said
    assert not any("train longer" in one for one in found.because)


def test_translations_that_never_began_are_said(tmp_path):
    errors = {"one_hot": BASE, "label_embedding": LOWER}
    folder = make_comparison(tmp_path, errors)
    for name in errors:
        for seed in range(8):
            run = RunFolder(run_path(folder, name, seed))
            bleu = 0.002 + 0.0001 * seed + (0.2 if name == "one_hot" else 0.0)
            run.write_result(run.result() | {"test": run.result()["test"] | {"bleu": bleu}})
    found = full_verdict(load_comparison(folder))
    assert "label_embedding lowers the test BLEU" in found.sentences[0] or "lower than" in found.sentences[0]
    assert "BLEU is near zero for label_embedding: not trained yet." in found.because


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (BASE, "label_embedding has the same test error as one_hot with every one of 8 seeds."),
        (_shifted(*[-0.000040] * 7, -0.000044), "lowers the test error by 0.004 points"),  # not rounded to nothing
        ({9: 0.015}, "label_embedding and one_hot share no finished seed, so nothing is compared."),
    ],
)
def test_differences_that_are_none_or_tiny_are_called_so(ours, said, tmp_path):
    assert said in _verdict(tmp_path, {"one_hot": BASE, "label_embedding": ours}).sentences[0]


def test_the_best_smoothing_by_validation_error_comes_first(tmp_path):
    errors = {
        "one_hot": BASE,
        "label_smoothing smoothing=0.1": LOWER,
        SMOOTHING: _shifted(*[-0.002] * 8),
        "label_embedding": LOWER,
    }
    # On test examples 0.1 is better, on validation examples 0.4: the choice must not look at the test set.
    validation = errors | {SMOOTHING: dict.fromkeys(range(8), 0.001)}
    found = _verdict(tmp_path, errors, validation_errors=validation)
    first, second = found.sentences
    assert first.startswith(f"label_embedding lowers the test error by 0.28 points against {SMOOTHING} (95 % interval")
    assert found.caveats == ["The label smoothing was chosen among 2 by its validation error."]
    assert second.startswith("label_embedding lowers the test error by 0.48 points against one_hot")


def test_a_single_strength_of_smoothing_is_not_tuned_and_that_is_said(tmp_path):
    errors = {"one_hot": BASE, SMOOTHING: SAME, "label_embedding": LOWER}
    assert _verdict(tmp_path / "as asked", errors).caveats == [NOT_TUNED]
    folder = make_comparison(tmp_path / "tuned", errors)
    about = json.loads((folder / "comparison.json").read_text())
    tuned = [{"name": SMOOTHING, "space": {"objective.smoothing": "0.05 to 0.9"}, "trials": 8}]
    (folder / "comparison.json").write_text(json.dumps(about | {"tuning": {"variants": tuned, "trials": 8}}))
    found = full_verdict(load_comparison(folder))
    assert found.answer == "Use it"
    (last,) = found.caveats
    assert last.startswith(f"{SMOOTHING}: 8 trials chose the objective's own arguments")


def test_a_smoothing_without_a_finished_run_is_none(tmp_path):
    folder = make_comparison(tmp_path, {"one_hot": BASE, SMOOTHING: {0: 0.02}, "label_embedding": LOWER})
    fail_run(run_path(folder, SMOOTHING, 0), "nan")
    assert verdict(load_comparison(folder))[-1] == "No label smoothing has finished: what it would give is not known."


def test_the_verdict_is_about_a_learned_method_where_there_is_one(tmp_path):
    # The penalty is better than both, but treats all wrong classes alike.
    errors = {SMOOTHING: BASE, "one_hot": LOWER, "confidence_penalty": LOWER, "label_embedding": SAME}
    first, second = _verdict(tmp_path / "learned", errors).sentences[:2]
    assert first.startswith(f"No difference in test error is shown between label_embedding and {SMOOTHING}")
    assert second.startswith("label_embedding raises the test error by 0.48 points against one_hot")
    del errors["label_embedding"]
    assert _verdict(tmp_path / "none", errors).sentences[0].startswith("confidence_penalty lowers")


def test_what_got_worse_is_said_and_nothing_that_may_be_chance(tmp_path):
    nll = {
        "one_hot": dict(enumerate([0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.10, 0.11])),
        SMOOTHING: dict(enumerate([0.60, 0.40, 0.61, 0.39, 0.62, 0.38, 0.50, 0.50])),
        "label_embedding": dict(enumerate([0.50, 0.51, 0.52, 0.53, 0.50, 0.51, 0.52, 0.53])),
    }
    folder = make_comparison(tmp_path, {"one_hot": BASE, SMOOTHING: SAME, "label_embedding": LOWER}, nll=nll)
    for name, seconds, ece in (("label_embedding", 32, 0.3), (SMOOTHING, 31, 0.1), ("one_hot", 20, 0.35)):
        for seed in range(8):
            run = RunFolder(run_path(folder, name, seed))
            test = run.result()["test"] | {"calibration_error": ece + 0.001 * (seed % 3) * (name == SMOOTHING)}
            run.write_result(run.result() | {"seconds": seconds, "test": test})
    # Against smoothing the NLL may be chance, and 1.03 times the time is little; against one-hot the ECE is better.
    assert full_verdict(load_comparison(folder)).sentences[-1] == (
        f"Worse than with {SMOOTHING}: ECE (by 19.91 points) before temperature scaling. "
        "Worse than with one_hot: NLL (by 0.406 nats) before temperature scaling, training time (1.60 times)."
    )


def _verdict_of(folder):
    return verdict(load_comparison(folder))


# ------------------------------------------------------------------------------------- over seeds and test examples


def _outcomes(*gained, seeds=8, examples=400):
    """Returns outcomes of which the last 40 examples are wrong, but with each seed so many of them right."""
    right = np.ones((seeds, examples), dtype=bool)
    right[:, -40:] = False
    for seed, count in enumerate(gained):
        right[seed, -40 : examples - 40 + count] = True
    return right


FEW, MANY = (4, 5, 6, 4, 5, 6, 4, 6), (20, 22, 21, 20, 23, 21, 20, 21)


@pytest.mark.parametrize(("gained", "is_open"), [((1, 2, 1, 1, 2, 1, 1, 1), True), (MANY, False)])
def test_a_verdict_has_both_intervals_and_says_what_the_second_leaves_open(gained, is_open, tmp_path):
    ours, theirs = _outcomes(*gained), _outcomes()
    folder = comparison_of_outcomes(tmp_path, {"one_hot": theirs, "label_embedding": ours})
    low, high, examples, _ = joint_interval(100.0 * ours - 100.0 * theirs)
    assert (low < 0, examples) == (is_open, 400)
    first, *_ = _verdict_of(folder)
    assert "lowers the test error by" in first
    assert "(95 % interval over 8 seeds " in first
    assert first.endswith(f"; over seeds and test examples {low:.2f} to {high:.2f}).")
    found = load_comparison(folder)
    answer = full_verdict(found)
    assert answer.answer == "Cannot tell yet"
    assert ("what tuned label smoothing gives" in answer.because[1]) != is_open
    assert ("The seeds agree, but other test examples" in answer.because[0]) == is_open
    assert ("test examples would show a difference of this size; there are 400" in answer.because[1]) == is_open
    row = comparison_rows(found)[1]
    assert row.differences["error"].joint[:3] == pytest.approx((-high / 100, -low / 100, 400), abs=1e-12)
    # Wrong examples have an NLL of 1, right ones of 0.5; calibrated half of it.
    assert row.differences["nll"].joint[:3] == pytest.approx((-high / 200, -low / 200, 400), abs=1e-12)
    assert row.differences.get("calibrated_nll") is None  # their results have none
    assert row.no_joint_interval == ""
    assert any("on another sample of 400 examples" in note for note in table_notes(comparison_rows(found)))


def test_the_mirrored_comparison_has_the_mirrored_joint_interval(tmp_path):
    right = {"one_hot": _outcomes(), "label_embedding": _outcomes(*FEW)}
    there = _verdict_of(comparison_of_outcomes(tmp_path / "there", right))[0]
    back = _verdict_of(comparison_of_outcomes(tmp_path / "back", right, baseline="label_embedding"))[0]
    assert there.replace("label_embedding lowers", "one_hot raises").replace("one_hot (", "label_embedding (") == back


def _without_files(folder):
    for name in ("one_hot", "label_embedding"):
        for seed in range(8):
            RunFolder(run_path(folder, name, seed)).examples_file.unlink()


def _without_fingerprint(folder):
    run = RunFolder(run_path(folder, "one_hot", 3))
    run.write_environment(run.environment() | {"data": {"source": "digits"}})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_without_files, "the runs keep no outcome of each example, as those of older versions and those on sentence"),
        (_without_fingerprint, "it is not known that all runs have the same examples: there is no fingerprint of"),
        (
            lambda folder: leave_examples(run_path(folder, "one_hot", 3), [True] * 360 + [False] * 41),
            "the runs have different numbers of test examples",
        ),
        (
            lambda folder: leave_examples(run_path(folder, "one_hot", 3), [True] * 400),
            "one_hot, seed 3: the kept outcomes are not those of its result.json",
        ),
        (
            lambda folder: leave_examples(run_path(folder, "one_hot", 3), [True] * 9, split="validation"),
            "one_hot, seed 3: it keeps outcomes of the validation examples, and the comparison is about the test exam",
        ),
        (
            lambda folder: RunFolder(run_path(folder, "label_embedding", 0)).examples_file.write_bytes(b"x" * 99),
            "label_embedding, seed 0: diagnostics/examples.safetensors: damaged, cannot be read",
        ),
    ],
)
def test_why_there_is_no_joint_interval_is_said(change, why, tmp_path):
    folder = comparison_of_outcomes(tmp_path, {"one_hot": _outcomes(), "label_embedding": _outcomes(*FEW)})
    change(folder)
    rows = comparison_rows(load_comparison(folder))
    assert rows[1].differences["error"].joint is None
    assert not np.isnan(rows[1].differences["error"].interval_low)
    notes = [note for note in table_notes(rows) if note.startswith("No interval over seeds and test examples: ")]
    assert len(notes) == 1
    assert why in notes[0]
    assert not any("over seeds and test examples" in statement for statement in _verdict_of(folder))


def test_the_best_of_several_methods_is_said_to_be_chosen(tmp_path):
    errors = {"one_hot": BASE, "label_embedding preset=paper": SAME, "label_embedding temperature=3": LOWER}
    found = _verdict(tmp_path, errors)
    assert found.sentences[0].startswith("label_embedding temperature=3 lowers")
    assert found.caveats[0] == "label_embedding temperature=3 was chosen among 2 by its validation error."


def test_smoothing_as_the_baseline_is_not_compared_twice(tmp_path):
    found = _verdict(tmp_path, {SMOOTHING: BASE, "label_embedding": LOWER})
    (sentence,) = found.sentences
    assert f"against {SMOOTHING}" in sentence
    assert found.caveats == [NOT_TUNED]


def test_smoothing_alone_is_the_first_sentence(tmp_path):
    (sentence,) = _verdict(tmp_path, {"one_hot": BASE, SMOOTHING: LOWER}).sentences
    assert sentence.startswith(f"{SMOOTHING} lowers")


def test_a_p_that_cannot_get_small_enough_is_said(tmp_path):
    names = [f"label_embedding temperature={t}" for t in range(1, 8)]
    errors = {"one_hot": BASE} | dict.fromkeys(names, LOWER)
    found = _verdict(tmp_path, errors)
    assert any("cannot fall below 0.055" in caveat for caveat in found.caveats)
    assert found.answer == "Cannot tell yet"


def test_a_p_against_the_interval_is_said(tmp_path):
    # Seven clear gains and a small loss: the interval leaves out 0, the exact p of 4 / 256 times 4 does not.
    mixed = _shifted(-0.003, -0.003, -0.003, -0.003, -0.003, -0.003, -0.003, 0.0001)
    errors = {"one_hot": BASE, "label_embedding": mixed}
    errors |= {f"label_embedding temperature={t}": SAME for t in (1, 2, 3)}
    validation = errors | {"label_embedding": dict.fromkeys(range(8), 0.001)}
    found = _verdict(tmp_path, errors, validation_errors=validation)
    assert found.sentences[0].startswith("label_embedding lowers")
    assert found.answer == "Cannot tell yet"
    assert found.caveats[0] == "But the sign-flip p is 0.062 after Holm's correction: it may be chance."


def test_one_seed_gets_no_interval_and_is_told_so(tmp_path):
    errors = {"one_hot": {0: 0.02}, SMOOTHING: {0: 0.017}, "label_embedding": {0: 0.015}}
    found = _verdict(tmp_path, errors)
    first, second = found.sentences
    assert f"0.20 points lower than that of {SMOOTHING}" in first
    assert "one seed gives no interval" in first
    assert "0.50 points lower than that of one_hot" in second
    assert found.answer == "Cannot tell yet"


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


def test_a_single_run_says_what_it_reached_and_that_one_run_has_no_spread(tmp_path):
    make_run(tmp_path, test=metrics(0.0145), validation=metrics(0.016), history=history_lines([0.1, 0.0145]))
    sentence, longer = verdict(load_comparison(tmp_path))
    assert longer == "In this run the best epoch was the last: train longer (--set epochs=...)."
    assert "a test error of 1.45 % and a validation error of 1.60 % after epoch 2 of 2" in sentence
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
        "No variant does better than always giving the most frequent label (46.67 % test error): nothing was "
        "learned. More epochs, a higher learning rate or smaller batches may help (--set epochs=..., --set "
        "optimizer.learning_rate=...)."
    )
    errors["label_embedding"] = {0: 0.2, 1: 0.25}
    found = _counts_of_labels(tmp_path / "one", errors, [64, 56])
    assert found[0] == "one_hot is no better than always giving the most frequent label (46.67 % test error)."
    errors["one_hot"] = {0: 0.25, 1: 0.25}
    found = _counts_of_labels(tmp_path / "none", errors, [64, 56])
    assert not any("most frequent" in statement for statement in found)
    run = make_run(tmp_path / "run", test=metrics(0.5), history=history_lines([0.5]))
    leave_errors(run.path, [(0, 1, 1)], labels=2, of_label=[5, 5])
    assert verdict(load_comparison(run.path))[1].startswith("The run does not do better than always giving")
