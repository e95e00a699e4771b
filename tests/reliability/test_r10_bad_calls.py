"""R10: what a user can get wrong is one message with the word that helps, exit code 2, at once, nothing written."""

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

SECONDS, LINES, LETTERS = 2.0, 10, 600
# What is typed after `labelembed`, and a word of the answer: the right name, or what is wrong.
TABLE = [
    tuple(line.split(" => "))
    for line in Path(__file__).with_name("bad_calls.txt").read_text().splitlines()
    if not line.startswith("# ")
]


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


def errors_of(code, out, err, key, folder, before):
    """Returns what is wrong with how a call was refused."""
    lines = err.splitlines()
    faults = {
        f"exit {code}": code != 2,
        f"on standard output: {out}": bool(out),
        f"it says\n{err}\nwithout {key}": key not in err,
        "no error, or a traceback": "error: " not in err or "Traceback" in err,
        f"{len(lines)} lines": len(lines) > LINES,
        "a long line": max(map(len, lines), default=0) > LETTERS + len(str(folder)),
        "something was written": listing(folder) != before,
    }
    return [fault for fault, holds in faults.items() if holds]


@pytest.mark.parametrize(("words", "key"), TABLE, ids=[words for words, _ in TABLE])
def test_bad_call_is_refused_at_once_with_the_word_that_helps(words, key, folder, monkeypatch, figure):
    monkeypatch.chdir(folder)
    before, began = listing(folder), time.process_time()
    called = call(*shlex.split(words))
    seconds = time.process_time() - began
    errors = errors_of(*called, key, folder, before)
    print("\n".join(errors))
    figure.count("bad calls refused as the table says", int(not errors), 1)
    figure.at_most("processor seconds of a refusal", round(seconds, 2), SECONDS)


def test_the_table_is_as_long_as_promised():
    assert len({words for words, _ in TABLE}) == len(TABLE) >= 60


@pytest.mark.parametrize("words", ["check typo.yaml", "train digits-mlp --sett a=3", "report comparison"])
def test_a_process_of_its_own_says_the_same(words, folder, figure):
    before = listing(folder)
    code = "import sys, torch; from labelembed.lab.cli import main; main()"
    command = [sys.executable, "-c", code, *shlex.split(words)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    errors = errors_of(ran.returncode, ran.stdout, ran.stderr, "error: ", folder, before)
    print("\n".join(errors))
    figure.count("the same in a process of its own", int(not errors), 1)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("check", "mnist-mlp", "--data", ""), "--data"),
        (("compare", "digits-mlp", "--objectives", ""), "--objectives"),
        (("compare", "digits-mlp", "--baseline", ""), "--baseline"),
        (("compare", "digits-mlp", "--seeds", ""), "--seeds"),
        (("train", "digits-mlp", "--objective", ""), "--objective"),
        (("train", ""), "recipe"),
        (("check", "digits-mlp", "--set", f"objective.preset={'x' * 9000}"), "objective.preset"),
        (("check", "digits-mlp", "--set", f"epochs={'[' * 3000}"), "epochs"),
        (("train", "digits-mlp", "--objective", f"one_hot:{'x' * 9000}"), "one_hot"),
    ],
)
def test_empty_and_endless_words_are_refused_in_a_short_message(words, key, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = listing(folder)
    assert errors_of(*call(*words), key, folder, before) == []
