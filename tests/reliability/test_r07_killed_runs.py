"""R7: runs that are killed cost nothing but themselves, are told with their last words, and alone are made again."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
import signal
import time

import pytest

from labelembed.errors import DataError
from labelembed.lab import report
from labelembed.lab.cli.compare_verb import say_comparison
from labelembed.lab.data.encoders import pictures
from labelembed.lab.data.encoders.pictures import PictureFolder, decode_pictures
from labelembed.lab.errors import RunFolderError, TrainingError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.variants import variants_of
from labelembed.lab.results import Comparison
from labelembed.lab.runs.comparison import run_comparison
from labelembed.lab.runs.comparison_plan import plan_comparison
from labelembed.lab.runs.jobs import Job, least_used, make, run_jobs
from labelembed.lab.runs.run import run_job
from labelembed.lab.runs.worker_log import LOG_FILE, with_last_lines
from labelembed.lab.training.progress import ignore_progress
from labelembed.lab.training.run_folder import RunFolder
from tests.made_failing_jobs import HARMS, harmed_job
from tests.made_in_process import make_runs_here
from tests.made_pictures import write_classes
from tests.made_training import (
    CommandLines,
    cached_data,
    contents,
    differences,
    do_job,
    fork_server,
    stop_after,
    train,
    wait_until,
)
from tests.reliability.figures import FULL, sized

SETTINGS = [
    "data.train_examples=190",
    "model.hidden_sizes=[12]",
    "batch_size=40",
    "epochs=3",
    "checkpoints={minimum_seconds: 0, time_share: 1}",
]
SEEDS = sized(short=4, full=8)
LONGEST_SILENCE_SECONDS = 30.0
PATIENCE_SECONDS = 100.0  # within which everything here has come to its end, on a machine with much else to do


@pytest.fixture(autouse=True)
def harm(monkeypatch):
    """Harm comes to the runs of comparisons that ask for it."""
    fork_server()  # with what the tests import
    monkeypatch.setattr("labelembed.lab.runs.comparison.run_job", harmed_job)


def planned(out, objectives, seeds, *more):
    recipe, name = load_recipe("digits-mlp", settings=[*SETTINGS, *more])
    return plan_comparison(recipe, name, out, objectives=objectives, seeds=str(seeds))


def compared(plan, out, cluster=None):
    """Makes what is missing of a comparison, here or by the workers of a cluster; returns what failed, what was made,
    and the longest silence.
    """
    made, silence, heard = [], 0.0, time.monotonic()

    def observe(event):
        nonlocal silence, heard
        silence, heard = max(silence, time.monotonic() - heard), time.monotonic()
        if event.kind == "done":
            made.append(event.job.name)

    failed = run_comparison(plan, out, jobs=2, cluster=cluster, device="cpu", observe=observe)
    return failed, made, max(silence, time.monotonic() - heard)


def told_of(out, failed):
    """Returns what the terminal, the files and the report of a comparison say, each in one line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(TrainingError) as error:
        say_comparison(Comparison(report.write_comparison(out, redraw=True)), failed, as_json=False)
    with (out / "runs.csv").open(newline="") as file:
        lines = {(line["variant"], int(line["seed"])): line for line in csv.DictReader(file)}
    texts = {"error": str(error.value), "terminal": printed.getvalue()}
    texts |= {"page": (out / "report.html").read_text(encoding="utf-8")}
    return {name: " ".join(text.split()) for name, text in texts.items()} | {"runs": lines}


def places_that_tell(out, failed, told):
    """Counts where each failed run is told with all its words: error, page, table and comparison.json."""
    described = {(e["variant"], e["seed"]): e for e in json.loads((out / "comparison.json").read_text())["failed"]}
    places = 0
    for name, message in failed.items():
        variant, seed = name.split(" seed ")
        line, why = told["runs"][variant, int(seed)], " ".join(message.split())
        found = [told["error"], html.unescape(told["page"])]
        found += [" ".join(text.split()) for text in (line["message"], described[variant, int(seed)]["message"])]
        places += sum(why in text for text in found)
        assert line["status"] == "failed"
    return places


TWICE = "its process died twice "
KILLED = TWICE + "(killed by SIGKILL: by a person, or by the system when memory ran out)"
OWN_FAULT = "RuntimeError: the job's own error"
# What happens to runs and how often, how they are told then, and what their last words end with.
LOST = {
    "one_hot/seed-1": (["killed", 2], KILLED, " epoch 3 of 3: loss "),
    "label_smoothing/seed-2": (["killed", 2], KILLED, " epoch 3 of 3: loss "),
    "label_embedding/seed-0": (["raises", 1], OWN_FAULT, OWN_FAULT),
    "label_embedding/seed-1": (["a crash", 2], TWICE + "(by SIGSEGV)", "in _harm"),
    "label_embedding/seed-2": (["ended", 2], TWICE + "(it ended with exit code 7 and no word)", "the last word"),
}
ONCE = {"one_hot/seed-0": ["killed", 1], "label_embedding/seed-3": ["killed", 1]}


def test_lost_runs_of_a_comparison_cost_themselves_alone_and_are_told(tmp_path, figure):
    out, objectives = tmp_path / "comparison", "one_hot,label_smoothing,label_embedding"
    plan = planned(out, objectives, SEEDS)
    out.mkdir()
    (out / HARMS).write_text(json.dumps({run: harm for run, (harm, *_) in LOST.items()} | ONCE))
    names = {"/".join(folder.parts[-2:]): f"{variant.name} seed {seed}" for variant, seed, _, folder in plan.runs}
    lost = {names[run] for run in LOST}

    failed, made, silence = compared(plan, out)
    assert set(failed) == lost
    # Killed once, a run goes on from its checkpoint; one that raises is not made again.
    attempts = {run: (out / f"attempts-{run.replace('/', '-')}").read_text() for run in (*LOST, *ONCE)}
    assert attempts == dict.fromkeys(attempts, "xx") | {"label_embedding/seed-0": "x"}
    figure.count("results kept", len(made), len(plan.runs) - len(LOST))

    told = told_of(out, failed)
    for run, (_, reason, end) in LOST.items():
        variant, seed = names[run].split(" seed ")
        assert failed[names[run]].startswith(f"{reason}; the last lines of its worker.log: ")
        assert end in failed[names[run]]
        assert f"{variant} seed {seed}: {reason}" in told["error"]
    places = places_that_tell(out, failed, told)
    figure.count("places that tell of a lost run with its last words", places, 4 * len(LOST))
    logs = {run: (out / "runs" / run / LOG_FILE).read_text() for run in LOST}
    assert "Fatal Python error: Segmentation fault" in logs["label_embedding/seed-1"]
    assert "in _harm" in logs["label_embedding/seed-0"]  # where it was raised

    folders = {names["/".join(run[3].parts[-2:])]: run[3] for run in plan.runs}
    before = {name: (folder / "result.json").read_bytes() for name, folder in folders.items() if name not in lost}
    failed, made, silence_again = compared(planned(out, objectives, SEEDS), out)
    assert failed == {}
    assert "failed" not in json.loads((out / "comparison.json").read_text())
    assert {name: (folders[name] / "result.json").read_bytes() for name in before} == before
    figure.count("runs made again, the lost ones alone", len(made), len(LOST))
    assert set(made) == lost
    figure.at_most("longest silence, in seconds", max(silence, silence_again), LONGEST_SILENCE_SECONDS)
    # And they end as runs to which nothing happened, those too that were killed once.
    for _, _, recipe, folder in plan.runs:
        if (run := "/".join(folder.parts[-2:])) in LOST or run in ONCE:
            train(recipe, tmp_path / "here" / run)
            assert differences(contents(folder), contents(tmp_path / "here" / run)) == []


def test_killed_trial_of_a_tuning_is_told_stays_open_and_is_made_again(tmp_path, monkeypatch, figure):
    pytest.importorskip("optuna", reason="no optuna here: pip install 'labelembed[tune]'")
    from labelembed.lab.runs.tuning import failure_of, run_tuning
    from labelembed.lab.runs.tuning_plan import plan_tuning

    monkeypatch.setattr("labelembed.lab.runs.tuning.run_trial", harmed_job)
    recipe, name = load_recipe("digits-mlp", settings=SETTINGS)
    out = tmp_path / "tuning"
    plan = plan_tuning(recipe, name, out, variants=variants_of(recipe, "label_smoothing"), trials=3)
    fingerprint = cached_data(recipe).fingerprint()
    out.mkdir()
    folder = plan.folders_of(plan.spaces[0][0], 1)[plan.seeds[0]].path
    (out / HARMS).write_text(json.dumps({"/".join(folder.parts[-2:]): ["killed", 2]}))
    about, problems = run_tuning(plan, fingerprint=fingerprint, jobs=2, device="cpu")
    [(trial, why)] = problems.items()
    assert "trial 1" in trial
    assert "killed by SIGKILL" in why
    assert "epoch 3 of 3: loss " in why.split("the last lines of its worker.log: ")[1]
    assert trial in str(failure_of(about, problems))
    made = []
    about, problems = run_tuning(plan, fingerprint=fingerprint, jobs=2, device="cpu", observe=made.append)
    assert problems == {}
    assert [event.job.name for event in made if event.kind == "done"] == [trial]
    assert all(trial["score"] is not None for trial in about["variants"][0]["trials"])
    figure.count("killed trials made again, alone", 1, 1)


# ---- runs in processes of their own: how they begin, die, are told to leave and are left alone


def run_all(payloads, *, at=lambda event: None, **how):
    """Makes jobs given by name, two at once; returns the last event of each."""
    events = []
    until = time.monotonic() + PATIENCE_SECONDS
    for event in run_jobs([Job(name, payload) for name, payload in payloads.items()], do_job, processes=2, **how):
        assert time.monotonic() < until
        events.append(event)
        at(event)
    assert sorted(event.job.name for event in events if event.kind != "progress") == sorted(payloads)  # once each
    return {event.job.name: event for event in events}


@pytest.mark.parametrize("gpus", [["4", "GPU-7"], []])
def test_each_run_has_a_process_its_threads_and_a_gpu_of_its_own(gpus, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", "here")  # the fork server is older than this
    last = run_all({str(number): {"do": "work", "value": number} for number in range(5)}, threads=2, gpus=gpus)
    results = [event.result for event in last.values()]
    assert {name: event.result["value"] for name, event in last.items()} == {str(number): number for number in range(5)}
    assert len({result["pid"] for result in results} - {os.getpid()}) == 5
    assert {(result["threads"], result["cache"]) for result in results} == {(2, "here")}
    assert {result["gpu"] for result in results} == set(gpus or [os.environ.get("CUDA_VISIBLE_DEVICES")])


def test_a_new_process_gets_the_gpu_that_the_fewest_use():
    assert least_used(["0", "1"], []) == "0"
    assert least_used(["0", "1"], ["0"]) == "1"
    assert least_used(["0", "1"], ["1"]) == "0"  # the run on the first is over
    assert least_used(["0", "1"], ["0", "1", "0"]) == "1"
    assert least_used([], [None]) is None


def test_a_death_or_an_error_costs_its_own_run_alone(tmp_path):
    finished = tmp_path / "the others are over"

    def note(event):
        if event.job.name == "killed twice" and event.kind == "failed":
            finished.touch()

    last = run_all(
        {
            "bystander": {"do": "wait", "file": str(tmp_path / "bystander"), "until": str(finished)},
            "killed once": {"do": "die", "file": str(tmp_path / "once"), "deaths": 1},
            "told to end": {"do": "die", "file": str(tmp_path / "told"), "deaths": 1, "signal": signal.SIGTERM},
            "an error of the data": {"do": "raise", "error": "DataError"},
            "killed twice": {"do": "die", "file": str(tmp_path / "twice"), "deaths": 2},
            "after": {"do": "work", "value": 1},
        },
        at=note,
    )
    failed = {name: event.message for name, event in last.items() if event.kind == "failed"}
    assert failed.keys() == {"killed twice", "an error of the data"}
    assert failed["an error of the data"] == "the job's own error"
    assert "died twice" in failed["killed twice"]
    assert last["killed once"].result == last["told to end"].result == "survived"
    assert (tmp_path / "told-wait-saved").exists()  # SIGTERM left it the time to save
    # How often each was begun: the bystander saw all four deaths, and none of them was its own.
    begun = {name: (tmp_path / name).read_text() for name in ("bystander", "once", "told", "twice")}
    assert begun == {"bystander": "x", "once": "xx", "told": "xx", "twice": "xx"}


def test_leaving_early_lets_the_runs_save_and_ends_every_process(tmp_path):
    payloads = [{"do": "chatter", "file": str(tmp_path / str(number))} for number in range(3)]
    events = run_jobs([Job(str(number), payload) for number, payload in enumerate(payloads)], do_job, processes=2)
    begun = time.monotonic()
    heard = {next(events).job.name}
    while heard != {"0", "1"}:
        heard.add(next(events).job.name)
    time.sleep(0.3)  # until the pipes, which nobody reads, are full
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)  # as Ctrl-C does
    assert time.monotonic() - begun < PATIENCE_SECONDS
    assert [(tmp_path / f"{number}-saved").exists() for number in range(3)] == [True, True, False]


def group_is_empty(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
def test_ctrl_c_while_the_processes_start_ends_without_a_traceback(tmp_path):
    command = CommandLines(tmp_path).start(
        *("compare", "digits-mlp", "--objectives", "one_hot", "--seeds", "2", "--jobs", "2", "--device", "cpu"),
        *("--out", str(tmp_path / "comparison"), "--quiet"),
    )
    wait_until((tmp_path / "comparison" / "comparison.json").exists, command, pause=0.01)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.code() == 130
    assert "Traceback" not in command.output()


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
def test_killed_comparison_leaves_no_process(tmp_path):
    # A whole command, for nothing of it may answer to SIGKILL.
    command = CommandLines(tmp_path).start(
        *("compare", "digits-mlp", "--objectives", "one_hot", "--seeds", "1", "--jobs", "1", "--device", "cpu"),
        *(word for setting in [*SETTINGS, "epochs=3000"] for word in ("--set", setting)),
        *("--out", str(tmp_path / "comparison"), "--quiet"),
    )
    run = RunFolder(tmp_path / "comparison" / "runs" / "one_hot" / "seed-0")
    wait_until(lambda: len(run.history()) > 1, command, pause=0.01)
    command.signal(signal.SIGKILL)
    assert command.code() == -signal.SIGKILL
    until = time.monotonic() + PATIENCE_SECONDS
    while not group_is_empty(command.process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)


# ---- comparisons, in this process


@pytest.fixture
def here(monkeypatch):
    """Makes the runs of a comparison in this process."""
    monkeypatch.setattr("labelembed.lab.runs.comparison.run_job", run_job)
    make_runs_here(monkeypatch)


def counted(out):
    about = json.loads((out / "comparison.json").read_text())
    return about["reused"], about["made"]


def test_comparison_makes_what_is_missing_and_reuses_what_is_finished(here, tmp_path, monkeypatch):
    out = tmp_path / "comparison"
    plan = planned(out, "one_hot,label_embedding", 2)
    folders = {f"{variant.name} seed {seed}": (recipe, folder) for variant, seed, recipe, folder in plan.runs}
    assert list(folders) == [f"{name} seed {seed}" for seed in (0, 1) for name in ("one_hot", "label_embedding")]
    # One run was broken off, one failed, one has finished; one was never begun.
    stop_after(*folders["one_hot seed 0"], 7)
    stop_after(*folders["label_embedding seed 0"], 7)
    RunFolder(folders["label_embedding seed 0"][1]).write_result({"format": 1, "status": "failed", "message": "made"})
    train(*folders["label_embedding seed 1"])
    before = RunFolder(folders["label_embedding seed 1"][1]).result()

    failed, made, _ = compared(plan, out)
    assert failed == {}
    assert sorted(made) == ["label_embedding seed 0", "one_hot seed 0", "one_hot seed 1"]
    assert counted(out) == (1, 3)
    assert RunFolder(folders["label_embedding seed 1"][1]).result() == before
    for name, (recipe, folder) in folders.items():
        train(recipe, tmp_path / "alone" / name)
        assert differences(contents(folder), contents(tmp_path / "alone" / name)) == []

    # The second time nothing is left to do, and no process is started.
    monkeypatch.setattr("labelembed.lab.runs.machines.run_jobs", run_jobs)
    monkeypatch.setattr("labelembed.lab.runs.jobs._started", None)
    again = planned(out, "one_hot,label_embedding", 2)
    assert len(again.finished()) == 4
    assert compared(again, out)[:2] == ({}, [])
    assert counted(out) == (4, 0)


def test_comparison_refuses_the_runs_of_another_recipe(tmp_path):
    out = tmp_path / "comparison"
    plan = planned(out, "one_hot", 1)
    stop_after(*plan.runs[0][2:], 4)
    with pytest.raises(RunFolderError) as error:
        planned(out, "one_hot", 1, "batch_size=50", "optimizer.learning_rate=0.5")
    assert str(plan.runs[0][3]) in str(error.value)
    assert "batch_size: here 40, asked for 50" in str(error.value)
    assert "optimizer.learning_rate: here 0.001, asked for 0.5" in str(error.value)
    planned(out, "one_hot", 1)  # the recipe it was begun with is welcome


# ---- the log


def test_log_that_cannot_be_written_or_read_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    job = Job("a run", {"do": "work", "value": 1}, tmp_path / "file" / LOG_FILE)
    event = make(do_job, job, ignore_progress, lambda: False)
    assert (event.kind, event.result["value"]) == ("done", 1)
    assert with_last_lines("first\nsecond", None) == with_last_lines("first", tmp_path / "none") == "first"
    (tmp_path / "log").write_bytes(b"\xff\x1b[31mred\n\n" + b"y" * 500)
    assert with_last_lines("first", tmp_path / "log") == (
        f"first; the last lines of its worker.log: \ufffd [31mred | {'y' * 100}"
    )


def test_last_words_of_a_crash_say_where_it_was(tmp_path):
    begun = "2026-11-01 10:00:00 one_hot seed 3: started in process 7 on m"
    dump = ["Fatal Python error: Bus error", "", "Stack (most recent call first):", '  File "a.py", line 1 in inner']
    dump += ['  File "b.py", line 2', '  File "c.py", line 3', "", "Extension modules: numpy, torch"]
    (tmp_path / "log").write_text("\n".join([begun, "epoch 1 of 2", *dump]))
    beginning = "first; the last lines of its worker.log: "
    told = f'{dump[0]} | File "a.py", line 1 in inner | File "b.py", line 2'
    assert with_last_lines("first", tmp_path / "log") == beginning + told
    (tmp_path / "log").write_text("\n".join([*dump, begun, "epoch 2 of 2"]))  # an attempt after it
    assert with_last_lines("first", tmp_path / "log") == f"{beginning}{begun} | epoch 2 of 2"


# ---- pictures, decoded in threads


def test_thread_that_fails_names_its_picture(tmp_path, monkeypatch, figure):
    write_classes(tmp_path, {"a": 40, "b": 40})
    files = sorted(tmp_path.rglob("*.png"))
    decode, named = pictures.decode, 0
    contents = [file.read_bytes() for file in files]
    monkeypatch.setattr(pictures, "_PIXELS_FOR_THREADS", 1)  # several threads, also for these
    for place in (0, 37, len(files) - 1):

        def fail(content, place=place, **rest):
            if content == contents[place]:
                raise MemoryError("no room for the picture")
            return decode(content, **rest)

        monkeypatch.setattr(pictures, "decode", fail)
        begun = time.monotonic()
        with pytest.raises(DataError) as error:
            decode_pictures(PictureFolder(tmp_path), files, where="here", image_size=9 + place, fit="crop")
        assert time.monotonic() - begun < LONGEST_SILENCE_SECONDS
        shown = files[place].relative_to(tmp_path).as_posix()
        named += str(error.value) == f"{shown}: cannot be decoded here (MemoryError: no room for the picture)"
    figure.count("pictures named", named, 3)
