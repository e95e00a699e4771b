"""The verb `score`: its numbers are those of the measures, and what cannot be scored is named."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from labelembed.metrics import bleu, chrf, paired_bootstrap, rouge
from tests.made_cli import call, succeed

pytest.importorskip("sacrebleu")

HYPOTHESES = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
FIRST = ["The dog bit the man.", "It was not unexpected.", "The man bit him first."]
SECOND = ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."]


@pytest.fixture(autouse=True)
def texts(tmp_path, monkeypatch):
    """A folder with `hyp`, `ref`, `ref2` and `other`, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    for name, lines in (("hyp", HYPOTHESES), ("ref", FIRST), ("ref2", SECOND), ("other", HYPOTHESES[::-1])):
        Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def give(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_scores_are_printed_in_hundredths_with_their_signature():
    called = succeed("score", "hyp", "ref", "ref2")
    of_bleu, of_chrf = bleu(HYPOTHESES, [FIRST, SECOND]), chrf(HYPOTHESES, [FIRST, SECOND])
    assert called.out.splitlines() == [
        f"BLEU      48.53  {of_bleu.signature}",  # as in sacrebleu's own description
        f"chrF     {100 * of_chrf.value:6.2f}  {of_chrf.signature}",
    ]
    assert "nrefs:2" in of_bleu.signature
    assert called.err == ""


def test_json_has_fractions_of_every_metric_asked_for():
    called = succeed("score", "hyp", "ref", "--metric", "rouge,bleu,chrf", "--json")
    values = called.json
    assert (values["hypotheses"], values["references"], values["sentences"]) == ("hyp", ["ref"], 3)
    expected = {"bleu": bleu(HYPOTHESES, [FIRST]), "chrf": chrf(HYPOTHESES, [FIRST])} | rouge(HYPOTHESES, [FIRST])
    assert list(values["scores"]) == ["bleu", "chrf", "rouge1", "rouge2", "rougeL"]
    for name, score in expected.items():
        assert values["scores"][name] == {"value": score.value, "signature": score.signature, "details": score.details}
    assert values["notes"] == []


def test_rouge_prints_f1_precision_and_recall():
    Path("one").write_text("a b\n")
    Path("two").write_text("a b c d\n")
    signature = "nrefs:1|case:mixed|level:word|mean:sentences"
    assert succeed("score", "one", "two", "--metric", "rouge").out.splitlines() == [
        f"ROUGE-1   66.67  F1, precision 100.00, recall 50.00  {signature}",
        f"ROUGE-2   50.00  F1, precision 100.00, recall 33.33  {signature}",
        f"ROUGE-L   66.67  F1, precision 100.00, recall 50.00  {signature}",
    ]


def test_options_reach_the_measures():
    words = ["score", "hyp", "ref", "--metric", "bleu,chrf,rouge", "--json", "--lowercase"]
    found = succeed(*words, "--tokenize", "char", "--level", "character").json["scores"]
    assert found["bleu"]["value"] == bleu(HYPOTHESES, [FIRST], tokenize="char", lowercase=True).value
    assert found["chrf"]["value"] == chrf(HYPOTHESES, [FIRST], lowercase=True).value
    assert found["rougeL"]["value"] == rouge(HYPOTHESES, [FIRST], level="character", lowercase=True)["rougeL"].value


def test_chinese_characters_are_scored_and_words_are_warned_of():
    Path("zh").write_text("天气很好\n", encoding="utf-8")
    Path("zh-ref").write_text("天气好\n", encoding="utf-8")
    words = ["score", "zh", "zh-ref", "--metric", "bleu,rouge"]
    called = succeed(*words, "--level", "character", "--tokenize", "zh")
    assert "ROUGE-1   85.71" in called.out
    assert called.err == ""
    warned = succeed(*words)
    assert "take --level character" in warned.err
    assert "take --tokenize zh or --tokenize char" in warned.err
    assert len(succeed(*words, "--json").json["notes"]) == 2


def test_gzip_and_standard_input_are_read(monkeypatch):
    expected = succeed("score", "hyp", "ref").out
    Path("hyp.gz").write_bytes(gzip.compress(Path("hyp").read_bytes()))
    assert succeed("score", "hyp.gz", "ref").out == expected
    give(monkeypatch, Path("hyp").read_bytes().replace(b"\n", b"\r\n"))
    assert succeed("score", "-", "ref").out == expected
    give(monkeypatch, Path("hyp").read_bytes().removesuffix(b"\n"))
    assert succeed("score", "-", "ref", "--json").json["sentences"] == 3


def test_empty_lines_are_sentences():
    Path("gaps").write_text("\n\n\n")
    assert succeed("score", "gaps", "ref").out.startswith("BLEU       0.00")


def test_two_systems_are_compared_by_paired_bootstrap():
    words = ["score", "hyp", "ref", "ref2", "--against", "other", "--samples", 100, "--metric", "bleu,chrf,rouge"]
    expected = paired_bootstrap(HYPOTHESES[::-1], HYPOTHESES, [FIRST, SECOND], samples=100)
    found = succeed(*words, "--json").json["against"]
    assert found["hypotheses"] == "other"
    for name, one in expected.items():
        assert found[name]["difference"] == one.difference
        assert found[name]["p_value"] == one.p_value
        assert found[name]["system"] == one.system._asdict()
        assert found[name]["baseline"] == one.baseline._asdict()
    assert expected["bleu"].difference > 0  # the order of the lines matters
    lines = succeed(*words).out.splitlines()
    one = expected["bleu"]
    assert lines[5].startswith(f"BLEU     {100 * one.difference:+6.2f}  against other, p = {one.p_value:.4f}; 48.53 [")
    assert lines[5].endswith(one.signature)
    assert len(lines) == 7


# ---- what cannot be scored


def refused(*words):
    called = call("score", *words)
    assert called.code == 2
    assert called.out == ""
    assert called.err.startswith("error: ")
    return called.err


@pytest.mark.parametrize("words", [["hyp", "ref", "short"], ["hyp", "ref", "--against", "short"]])
def test_different_numbers_of_lines_are_told_with_the_files(words):
    Path("short").write_text("a\nb\n")
    assert "hyp has 3 lines, short has 2 lines" in refused(*words)


def test_standard_input_of_another_number_of_lines(monkeypatch):
    give(monkeypatch, b"a\n")
    assert "standard input has 1 line, ref has 3 lines" in refused("-", "ref")


def test_nothing_on_standard_input(monkeypatch):
    give(monkeypatch, b"")
    assert "standard input: empty" in refused("-", "ref")


def test_bytes_that_are_no_utf8_are_named_by_file_and_line(monkeypatch):
    Path("latin").write_bytes(b"a\nb\xe4r\nc\n")
    assert "latin: line 2 is not UTF-8" in refused("latin", "ref")
    assert "latin: line 2 is not UTF-8" in refused("hyp", "latin")
    give(monkeypatch, b"a\n\nb\xe4r\n")
    assert "standard input: line 3 is not UTF-8" in refused("-", "ref")


def test_empty_and_missing_files_are_named():
    Path("empty").write_text("")
    assert "empty: empty" in refused("empty", "ref")
    assert "empty: empty" in refused("hyp", "empty")
    assert "nowhere" in refused("hyp", "nowhere")


def test_damaged_gzip_is_named():
    Path("cut.gz").write_bytes(gzip.compress(Path("hyp").read_bytes())[:-12])
    assert "cut.gz" in refused("cut.gz", "ref")


@pytest.mark.parametrize("given", ["blue", "bleu,blue", "bleu,,chrf", ""])
def test_unknown_metrics_are_refused_with_what_there_is(given):
    message = refused("hyp", "ref", "--metric", given)
    assert "there are: bleu, chrf, rouge" in message
    assert ("did you mean 'bleu'" in message) == ("blue" in given)


def test_rouge_alone_cannot_be_compared():
    assert "--metric bleu,chrf" in refused("hyp", "ref", "--metric", "rouge", "--against", "other")


def test_standard_input_is_for_the_hypotheses_only():
    assert "only HYP can be -" in refused("-", "-")
    assert "only HYP can be -" in refused("hyp", "ref", "--against", "-")


def test_too_many_samples_are_refused_in_the_words_of_the_command():
    message = refused("hyp", "ref", "--against", "other", "--samples", 10**8)
    assert "--samples must be at most 10,000,000 with 3 sentences" in message


def test_without_sacrebleu_the_way_out_is_named_and_rouge_still_runs(monkeypatch):
    for name in ("sacrebleu", "sacrebleu.metrics", "sacrebleu.significance"):
        monkeypatch.setitem(sys.modules, name, None)
    assert 'pip install "labelembed[text]"' in refused("hyp", "ref")
    assert succeed("score", "hyp", "ref", "--metric", "rouge").out.startswith("ROUGE-1")
