"""BLEU and chrF are sacrebleu's own numbers, as fractions, with its signature and without its printing."""

from __future__ import annotations

import logging
import math
import os
import sys

import pytest

from labelembed.errors import DataError
from labelembed.metrics import bleu, chrf, paired_bootstrap

sacrebleu = pytest.importorskip("sacrebleu")

HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]


def test_bleu_equals_the_number_in_sacrebleus_own_description():
    # README of sacrebleu, "Using sacreBLEU from Python": 48.530827009929865 for these very sentences.
    assert bleu(HYPOTHESES, REFERENCES).value == pytest.approx(0.48530827009929865, abs=1e-12)


def test_bleu_of_one_sentence_equals_a_hand_worked_value():
    # a b c d e against a b c d f: precisions 4/5, 3/4, 2/3, 1/2, equal lengths.
    found = bleu(["a b c d e"], [["a b c d f"]])
    assert found.value == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, abs=1e-9)
    parts = [found.details[f"precision{order}"] for order in (1, 2, 3, 4)]
    assert parts == pytest.approx([4 / 5, 3 / 4, 2 / 3, 1 / 2], abs=1e-9)
    assert found.details["brevity_penalty"] == 1.0
    assert (found.details["hypothesis_tokens"], found.details["reference_tokens"]) == (5, 5)
    # A short hypothesis pays the brevity penalty.
    assert bleu(["a b c d"], [["a b c d e f"]]).value == pytest.approx(math.exp(1 - 6 / 4), abs=1e-9)


@pytest.mark.parametrize("tokenize", ["13a", "none", "zh", "char", "intl"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_every_setting_reaches_sacrebleu_and_its_signature(tokenize, lowercase):
    metric = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    expected = metric.corpus_score(HYPOTHESES, REFERENCES)
    found = bleu(HYPOTHESES, REFERENCES, tokenize=tokenize, lowercase=lowercase)
    assert found.value == expected.score / 100
    assert found.signature == str(metric.get_signature())
    assert f"tok:{tokenize}|" in found.signature
    assert ("case:lc" in found.signature) == lowercase


def test_chrf_equals_sacrebleu_with_its_signature():
    metric = sacrebleu.CHRF()
    assert chrf(HYPOTHESES, REFERENCES).value == metric.corpus_score(HYPOTHESES, REFERENCES).score / 100
    assert chrf(HYPOTHESES, REFERENCES).signature == str(metric.get_signature())
    assert "nw:2" in chrf(HYPOTHESES, REFERENCES, word_order=2).signature
    assert chrf(["ABC"], [["abc"]]).value == 0.0
    assert chrf(["ABC"], [["abc"]], lowercase=True).value == 1.0


def test_equal_texts_score_one_and_empty_ones_zero():
    assert bleu(HYPOTHESES, [HYPOTHESES]).value == pytest.approx(1.0, abs=1e-12)
    assert bleu(HYPOTHESES, [HYPOTHESES]).value <= 1.0
    assert chrf(HYPOTHESES, [HYPOTHESES]).value == pytest.approx(1.0, abs=1e-12)
    assert bleu(["", "", ""], REFERENCES).value == 0.0
    assert chrf(["", "", ""], REFERENCES).value == 0.0


def test_tokenised_text_is_a_note_and_nothing_is_printed(caplog, capsys):
    tokenised = ["the dog bit the man ."] * 200
    with caplog.at_level(logging.DEBUG):
        found = bleu(tokenised, [["the dog bit the man."] * 200])
    (note,) = found.notes
    assert note.startswith("200 of 200 hypotheses end in ' .'")
    assert "tokenize='none'" in note
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert capsys.readouterr() == ("", "")
    assert bleu(tokenised, [tokenised], tokenize="none").notes == ()
    assert bleu(HYPOTHESES, REFERENCES).notes == ()


def test_chinese_by_the_usual_tokeniser_is_a_note():
    chinese = ["今天北京的天气很好", "他没有来"]
    (note,) = bleu(chinese, [chinese]).notes
    assert "tokenize='zh' or tokenize='char'" in note
    assert bleu(chinese, [chinese], tokenize="zh").notes == ()


def test_unknown_tokeniser_is_refused():
    with pytest.raises(ValueError, match=r"`tokenize` must be one of '13a', 'none', .*got 'spm'"):
        bleu(HYPOTHESES, REFERENCES, tokenize="spm")
    with pytest.raises(ValueError, match=r"`word_order` must be >= 0, got -1"):
        chrf(HYPOTHESES, REFERENCES, word_order=-1)


@pytest.mark.parametrize("measure", [bleu, chrf])
def test_lines_that_do_not_fit_are_refused(measure):
    with pytest.raises(ValueError, match=r"set 2 of `references` must have as many texts as `hypotheses`, 3, got 2"):
        measure(HYPOTHESES, [REFERENCES[0], REFERENCES[1][:2]])
    with pytest.raises(ValueError, match="got none"):
        measure([], [[]])
    with pytest.raises(TypeError, match="list of lists"):
        measure(HYPOTHESES, HYPOTHESES)


def worse(lines, every):
    return [line if row % every else line.replace("dog", "cat").replace("the", "a") for row, line in enumerate(lines)]


def long_texts():
    sentences = [f"the dog number {row} bit the man with {row % 7} sticks and ran to the house" for row in range(200)]
    return worse(sentences, 2), worse(sentences, 5), [sentences]


def test_paired_bootstrap_tells_two_systems_apart():
    baseline, system, references = long_texts()
    found = paired_bootstrap(baseline, system, references, samples=200)
    assert list(found) == ["bleu", "chrf"]
    for name, measure in (("bleu", bleu), ("chrf", chrf)):
        one = found[name]
        assert one.baseline.value == pytest.approx(measure(baseline, references).value, abs=1e-12)
        assert one.system.value == pytest.approx(measure(system, references).value, abs=1e-12)
        assert one.difference == pytest.approx(one.system.value - one.baseline.value, abs=1e-12)
        assert one.difference > 0.02
        assert one.p_value == pytest.approx(1 / 201)  # no sample of 200 is as far off
        assert one.baseline.interval_low < one.baseline.value < one.baseline.interval_high
        numbers = (one.difference, one.p_value, *one.baseline, *one.system)
        assert {type(number) for number in numbers} == {float}  # sacrebleu's are of numpy, which JSON does not know
        assert "bs:200" in one.signature
        assert "seed:12345" in one.signature


def test_paired_bootstrap_does_not_tell_apart_what_is_alike():
    sentences = long_texts()[2][0]
    one = [line.replace("dog", "cat") if row % 10 == 0 else line for row, line in enumerate(sentences)]
    other = [line.replace("dog", "cat") if row % 10 == 5 else line for row, line in enumerate(sentences)]
    found = paired_bootstrap(one, other, [sentences], metrics=["bleu"], samples=200)["bleu"]
    assert abs(found.difference) < 0.001
    assert found.p_value > 0.2


def test_a_system_compared_with_itself_differs_by_nothing():
    baseline, _, references = long_texts()
    found = paired_bootstrap(baseline, baseline, references, metrics=["bleu"], samples=50)["bleu"]
    assert (found.difference, found.p_value) == (0.0, 1.0)


def test_the_seed_decides_the_samples_and_the_environment_is_put_back(monkeypatch):
    baseline, system, references = long_texts()
    monkeypatch.setenv("SACREBLEU_SEED", "77")
    arguments = {"metrics": ["bleu"], "samples": 50}
    first = paired_bootstrap(baseline, system, references, seed=1, **arguments)
    assert first == paired_bootstrap(baseline, system, references, seed=1, **arguments)
    assert os.environ["SACREBLEU_SEED"] == "77"
    other = paired_bootstrap(baseline, system, references, seed=2, **arguments)["bleu"]
    assert other.system.interval_low != first["bleu"].system.interval_low
    assert other.baseline.interval_low != first["bleu"].baseline.interval_low
    monkeypatch.delenv("SACREBLEU_SEED")
    paired_bootstrap(baseline, system, references, seed=1, **arguments)
    assert "SACREBLEU_SEED" not in os.environ


def test_paired_bootstrap_refuses_what_it_cannot_do():
    baseline, system, references = long_texts()
    with pytest.raises(ValueError, match=r"must have as many texts as `baseline`, 199, got 200"):
        paired_bootstrap(baseline[1:], system, references)
    with pytest.raises(ValueError, match=r"`samples` must be >= 1, got 0"):
        paired_bootstrap(baseline, system, references, samples=0)
    with pytest.raises(ValueError, match=r"`samples` must be at most 150,000 with 200 sentences, got 150001"):
        paired_bootstrap(baseline, system, references, samples=150_001)
    with pytest.raises(ValueError, match=r"unknown metric 'rouge'"):
        paired_bootstrap(baseline, system, references, metrics=["rouge"])


def test_without_sacrebleu_the_way_out_is_named(monkeypatch):
    for name in ("sacrebleu", "sacrebleu.metrics", "sacrebleu.significance"):
        monkeypatch.setitem(sys.modules, name, None)
    for measure in (bleu, chrf):
        with pytest.raises(DataError, match=r'pip install "labelembed\[text\]"'):
            measure(HYPOTHESES, REFERENCES)
    with pytest.raises(DataError, match=r'pip install "labelembed\[text\]"'):
        paired_bootstrap(HYPOTHESES, HYPOTHESES, REFERENCES)
