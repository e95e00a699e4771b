"""R10: what a user can get wrong: the one message that `bad_calls.txt` holds, exit code 2, at once, nothing written."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.made_bad_calls import write_bad_data, write_bad_inputs, write_bad_recipes, write_bad_runs
from tests.made_cli import call, listing
from tests.made_data import write_idx_folder
from tests.reliability.tables import errors_of, fits, read_table

SECONDS = 2.0
TYPOS = "Typos"


TABLE = read_table("bad_calls.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder with everything that the calls name; none of them may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("bad"))
        write_idx_folder(Path("mnist"))
        write_bad_recipes()
        write_bad_data()
        write_bad_runs()
        write_bad_inputs()
        return Path.cwd()


@pytest.mark.parametrize("bad", TABLE, ids=[bad.words for bad in TABLE])
def test_bad_call_is_refused_with_the_message_held(bad, folder, monkeypatch, figure):
    monkeypatch.chdir(folder)
    before = listing(folder)
    began = time.process_time()
    called = call(*shlex.split(bad.words))
    seconds = time.process_time() - began
    errors = errors_of(called, bad.said, folder)
    after = listing(folder)
    if after != before:
        errors.append(f"written or removed: {sorted(set(after) ^ set(before)) or 'another content'}")
    print("\n".join(errors))
    figure.count("bad calls refused as the table says", int(not errors), 1)
    figure.at_most("processor seconds of a refusal", round(seconds, 2), SECONDS)


def test_the_table_is_as_long_as_promised():
    assert len({bad.words for bad in TABLE}) == len(TABLE) >= 280


def test_every_typo_is_told_the_right_name():
    typos = [bad for bad in TABLE if bad.heading == TYPOS]
    assert len(typos) >= 35
    assert [bad.words for bad in typos if "did you mean" not in bad.said and not bad.said.startswith("usage: ")] == []


def test_a_message_is_compared_to_its_end():
    assert fits("error: a: b\n", "error: a: ...", Path("/x"))
    assert fits("error: /x/y: b\n", "error: {here}/y: b", Path("/x"))
    assert not fits("error: a: b\nerror: c\n", "error: a: b", Path("/x"))
    assert not fits("error: no option --a\n", "usage: --a --b", Path("/x"))


@pytest.mark.parametrize(
    "words",
    [
        "check typo.yaml",
        "train mnist-mlp --data cut",
        "train digits-mlp --sett a=3",
        "resume run_result",
        "report comparison",
    ],
)
def test_a_process_of_its_own_says_the_same(words, folder, figure):
    (bad,) = [bad for bad in TABLE if bad.words == words]
    before = listing(folder)
    code = "import sys, torch; from labelembed.lab.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(words)], cwd=folder, capture_output=True, text=True, timeout=120
    )
    errors = [] if ran.returncode == 2 and ran.stdout == "" else [f"exit {ran.returncode}: {ran.stdout}"]
    errors += [] if fits(ran.stderr, bad.said, folder) else [ran.stderr]
    errors += [] if listing(folder) == before else ["something was written"]
    print("\n".join(errors))
    figure.count("the same in a process of its own", int(not errors), 1)


# ------------------------------------------------------------------------------------- what needs more than a call


@pytest.fixture
def refused(folder, monkeypatch):
    """Calls the command line, which must refuse: returns its message."""
    monkeypatch.chdir(folder)

    def refuse(*words):
        before = listing(folder)
        called = call(*words)
        assert errors_of(called, "...", folder) == []
        assert listing(folder) == before, "something was written"
        return called.err

    return refuse


def test_empty_words_are_refused(refused):
    assert "--data: is empty" in refused("check", "mnist-mlp", "--data", "")
    assert "--objectives: no objective to compare" in refused("compare", "digits-mlp", "--objectives", "")
    assert "--baseline: ''" in refused("compare", "digits-mlp", "--baseline", "")
    assert "--seeds: ''" in refused("compare", "digits-mlp", "--seeds", "")
    assert "--objective: ''" in refused("train", "digits-mlp", "--objective", "")
    assert "unknown recipe ''" in refused("train", "")


def test_message_stays_short_whatever_is_given(refused):
    assert len(refused("check", "digits-mlp", "--set", f"objective.preset={'x' * 9000}")) < 300
    assert len(refused("check", "digits-mlp", "--set", f"epochs={'[' * 3000}")) < 300
    assert len(refused("train", "digits-mlp", "--objective", f"one_hot:{'x' * 9000}")) < 400
