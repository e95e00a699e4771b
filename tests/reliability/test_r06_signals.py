"""R6: after a signal the step is saved, the exit code is 128 and its number, no lock is left, and the run goes on."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time

import pytest

from labelembed.cli.many_runs import until_stopped
from labelembed.errors import InterruptedTraining
from labelembed.runs import run as run_module
from labelembed.training import interruption
from labelembed.training.interruption import Stopped, stop_on_signals
from labelembed.training.run_folder import RunFolder
from labelembed.training.run_lock import LOCK
from tests.made_survival import SELDOM, gloo, saves, step_of
from tests.made_training import (
    checkpoint_names,
    contents,
    differences,
    fork_server,
    newest,
    no_flush,  # noqa: F401
    one_thread,  # noqa: F401
    small_recipe,
    train,
    wait_until,
)
from tests.reliability.figures import sized

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and signals")

SIGNALS = [signal.SIGINT, signal.SIGTERM]
ALL_SIGNALS = [*SIGNALS, signal.SIGHUP]
HOW_MANY = {
    "rows": sized(short=5, full=60),
    "sentences": sized(short=2, full=24),
    "rows, two processes": sized(short=1, full=10),
    "sentences, two processes": sized(short=0, full=6),
}
# Within so many seconds a process is to end that has no step to save; on a machine with much else to do.
SOON = 5.0


def signalled(case, folder, commands, words, chance):
    """Starts a run and signals it at a random time, now and then twice; tells whether it was there to be hit."""
    number, twice = chance.choice(ALL_SIGNALS), chance.random() < 0.25
    before = step_of(folder)
    started = case.start(commands, words)
    for command in started:
        wait_until(command.ready, command)
    if chance.random() < 0.7:  # the others come while data are read and the network is built
        wait_until(lambda: step_of(folder) > before, started[0], pause=0.001)
        time.sleep(chance.uniform(0.0, 0.1))
    else:
        time.sleep(chance.uniform(0.0, 0.4))
    if not started[0].running():
        assert started[0].code() == 0, started[0].output()
        return False
    for _ in range(1 + twice):
        for command in started:  # as torchrun hands it on
            command.signal(number)
        time.sleep(0.01)
    codes = {command.code() for command in started}
    if 0 in codes and RunFolder(folder).state() == "finished":  # it had written its result
        assert codes <= {0, 128 + number}, codes
        return False
    said = "".join(command.output() for command in started)
    assert codes == {128 + number}, said
    assert "Traceback" not in said
    if not twice:
        begun = RunFolder(folder).state() != "empty"
        assert "give the same command again" in said or (begun and f"labelembed resume {folder}" in said)
        if "stopped in epoch" in said:
            epoch = int(said.split("stopped in epoch ")[1].split()[0])
            a_epoch = 8
            assert a_epoch * (epoch - 1) <= newest(folder).step <= a_epoch * epoch
            assert newest(folder).step > before
    return True


@pytest.mark.parametrize("name", [name for name, number in HOW_MANY.items() if number])
def test_signals_at_random_moments_leave_a_run_that_goes_on(name, commands, kinds, expected, tmp_path, figure):
    if "two" in name and not gloo:
        pytest.skip("this torch has no gloo, by which processes on a CPU talk")
    case, chance = kinds[name], random.Random(20261122)
    answered, runs = 0, 0
    while answered < HOW_MANY[name]:
        runs += 1
        folder = tmp_path / f"run-{runs}"
        while answered < HOW_MANY[name] and step_of(folder) < 0.8 * case.steps:
            begun = RunFolder(folder).state() != "empty"
            if not signalled(case, folder, commands, case.resume(folder) if begun else case.train(folder), chance):
                break
            answered += 1
        if RunFolder(folder).state() != "finished":
            begun = RunFolder(folder).state() != "empty"
            for command in case.start(commands, case.resume(folder) if begun else case.train(folder)):
                assert command.code() == 0, command.output()
        assert differences(contents(folder), expected(name)) == [], folder
        assert saves(folder) == []
    figure.count(
        "signals answered with 129, 130 or 143, after which the run ended as an unbroken one", answered, HOW_MANY[name]
    )


@pytest.mark.parametrize("number", ALL_SIGNALS, ids=["ctrl-c", "sigterm", "sighup"])
def test_signal_saves_the_step_in_progress_and_says_how_to_go_on(number, commands, kinds, expected, tmp_path):
    case, folder = kinds["rows"], tmp_path / "run"
    (command,) = case.start(commands, case.train(folder, saves=SELDOM))
    wait_until(lambda: len(RunFolder(folder).journal()) >= 2, command)
    command.signal(number)
    assert command.code() == 128 + number
    assert f"labelembed resume {folder}" in command.output()
    assert "Traceback" not in command.output()
    assert len(checkpoint_names(folder)) == 1
    assert newest(folder).step >= 16
    assert RunFolder(folder).state() == "unfinished"
    (command,) = case.start(commands, case.resume(folder))
    assert command.code() == 0, command.output()
    assert differences(contents(folder), expected("rows")) == []


VERBS = {
    "compare": ["compare", "--objectives", "one_hot", "--seeds", "2", "--jobs", "1"],
    "compare, two at once": ["compare", "--objectives", "one_hot", "--seeds", "2", "--jobs", "2"],
    "tune": ["tune", "--objectives", "label_smoothing", "--trials", "2", "--jobs", "2"],
    "compare --tuned": ["compare", "--tuned", "--objectives", "label_smoothing", "--trials", "2", "--seeds", "1"],
}
HIT = sized(short=[("compare", 1)], full=[(verb, times) for verb in VERBS for times in (1, 2)])


@pytest.mark.parametrize(("verb", "times"), HIT)
def test_verbs_of_many_runs_stop_their_runs_and_go_on_with_them(verb, times, commands, tmp_path):
    if "tune" in verb:
        pytest.importorskip("optuna")
    number = SIGNALS[times % 2]
    out = tmp_path / "out"
    settings = ["data.train_rows=400", "model.hidden_sizes=[24]", "model.dropout=0.2", "batch_size=50"]

    def words(epochs):
        sets = [word for setting in [*settings, f"epochs={epochs}", SELDOM] for word in ("--set", setting)]
        first, *rest = VERBS[verb]
        return [first, "digits-mlp", *sets, *rest, "--out", str(out), "--device", "cpu", "--quiet"]

    command = commands.start(*words(4000))
    wait_until(
        lambda: any(path.read_bytes().count(b"\n") > 1 for path in out.rglob("journal.jsonl")), command, pause=0.01
    )
    for _ in range(times):
        command.signal(number)
        time.sleep(0.01)
    assert command.code() == 128 + number, command.output()
    assert "Traceback" not in command.output()
    runs = [RunFolder(path.parent) for path in out.rglob("recipe.yaml")]
    assert runs
    if times == 1:
        assert f"give the same command again (digits-mlp, --out {out})" in command.output()
        saved = [newest(run.path).step for run in runs if run.journal()]
        assert saved
        assert all(step > 8 for step in saved)
    assert {run.state() for run in runs} == {"unfinished"}
    # The same words go on with it: a journal grows.
    before = {path: path.read_bytes().count(b"\n") for path in out.rglob("journal.jsonl")}
    command = commands.start(*words(4000))
    wait_until(
        lambda: any(path.read_bytes().count(b"\n") > before.get(path, 0) + 1 for path in out.rglob("journal.jsonl")),
        command,
        pause=0.01,
    )
    command.signal(signal.SIGTERM)
    assert command.code() == 143, command.output()


BEFORE_TRAINING = {
    "train": (["train", "digits-mlp"], "labelembed.runs.run:build_data"),
    "compare": (["compare", "digits-mlp", "--jobs", "1"], "labelembed.runs.run:build_data"),
    "tune": (["tune", "digits-mlp", "--jobs", "1"], "labelembed.runs.run:build_data"),
    "compare --tuned": (["compare", "digits-mlp", "--tuned"], "labelembed.runs.run:build_data"),
    "train, building the network": (["train", "digits-mlp"], "labelembed.runs.run:network_for"),
    "train, before the first step": (["train", "digits-mlp"], "labelembed.training.loop:number_of_batches"),
}


@pytest.mark.parametrize("verb", BEFORE_TRAINING)
@pytest.mark.parametrize("number", SIGNALS, ids=["ctrl-c", "sigterm"])
def test_signal_before_anything_is_written_ends_soon_and_leaves_nothing(verb, number, commands, tmp_path):
    words, place = BEFORE_TRAINING[verb]
    command = commands.start(*words, "--out", str(tmp_path / "out" / "folder"), "--device", "cpu", waits_in=place)
    wait_until(command.ready, command)
    assert (tmp_path / "out" / "folder" / LOCK).exists(), command.output()
    began = time.monotonic()
    command.signal(number)
    assert command.code() == 128 + number, command.output()
    assert time.monotonic() - began < SOON
    assert "stopped" in command.output()
    assert "give the same command again" in command.output()
    assert "Traceback" not in command.output()
    assert list(tmp_path.iterdir()) == []


def test_signal_while_a_corpus_is_made_leaves_nothing(commands, tmp_path):
    for side in ("source", "target"):
        (tmp_path / side).write_text("a b\n" * 10)
    words = ["--train", str(tmp_path / "source"), str(tmp_path / "target"), "--out", str(tmp_path / "corpus")]
    command = commands.start("preprocess", *words, waits_in="labelembed.data.corpus.preprocessing:_write_split")
    wait_until(command.ready, command)
    assert any(path.name.startswith(".corpus-") for path in tmp_path.iterdir())
    command.signal(signal.SIGTERM)
    assert command.code() == 143, command.output()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


@pytest.mark.usefixtures("no_flush")
@pytest.mark.parametrize("phase", ["_refuse_other_data", "begin", "give_teacher", "conclude", "finish"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_signal_before_the_first_step_or_after_the_last_stops_at_once(phase, late, monkeypatch, tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "unbroken")
    done = getattr(run_module, phase)
    if phase == "_refuse_other_data":  # of runs that go on
        with stop_on_signals(at_once=True) as stop, pytest.raises(InterruptedTraining):
            train(recipe, tmp_path / "run", stop=stop, observe=lambda progress: os.kill(os.getpid(), signal.SIGINT))

    def hit(*arguments, **named):
        if not late:
            os.kill(os.getpid(), signal.SIGTERM)
        done(*arguments, **named)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, phase, hit)
        with stop_on_signals(at_once=True) as stop, pytest.raises(InterruptedTraining) as stopped:
            train(recipe, tmp_path / "run", stop=stop)
    assert stopped.value.exit_code == 143
    state = RunFolder(tmp_path / "run").state()
    ways = {"empty": "give the same command again", "unfinished": "labelembed resume", "finished": "nothing is left"}
    assert ways[state] in str(stopped.value)
    train(recipe, tmp_path / "run")
    assert differences(contents(tmp_path / "run"), contents(tmp_path / "unbroken")) == []


def _wait_in_a_library(at_once, file):
    """Waits where Python hears no signal: one call into C for minutes."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # held back where a comparison has started the server
    with stop_on_signals(at_once=at_once):
        open(file, "w").close()
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)


@pytest.mark.skipif(sys.platform == "win32", reason="its pipes cannot be told of signals")
@pytest.mark.parametrize("at_once", [True, False])
def test_signal_that_python_cannot_hear_ends_the_process_too(at_once, tmp_path):
    process = fork_server().Process(target=_wait_in_a_library, args=(at_once, str(tmp_path / "began")))
    process.start()
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    if not at_once:  # there one signal waits for the end of the step, and a second one does not
        process.join(interruption._UNHEARD_SECONDS + 1.0)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 143


def test_many_runs_say_which_signal_stopped_them():
    for number in SIGNALS:
        with pytest.raises(InterruptedTraining, match=r"give the same command again \(digits") as stopped:
            until_stopped(lambda number=number: os.kill(os.getpid(), number), "digits, --out there")
        assert stopped.value.exit_code == 128 + number


class Finalised:
    """Is signalled while it is finalised, where Python can raise nothing."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        for _ in range(100):  # the handler runs between two instructions
            pass


def test_signal_whose_exception_is_swallowed_is_heard_all_the_same(capfd):
    def work_on():
        Finalised()
        time.sleep(30)

    began = time.monotonic()
    with pytest.raises(Stopped) as stopped, stop_on_signals(at_once=True):
        work_on()
    assert stopped.value.signal_number == signal.SIGTERM
    assert time.monotonic() - began < 30
    assert "ignored" not in capfd.readouterr().err


def test_signal_does_not_take_the_place_of_an_error_that_is_being_told():
    # torchrun sends SIGTERM to a process that is just about to say that another one has died.
    with stop_on_signals(at_once=True) as stop:
        with pytest.raises(RuntimeError, match="another process has died"), stop.now_at_once(False):
            raise RuntimeError("another process has died")
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert stop.requested()
