"""R7: runs that are killed cost nothing but themselves, are told with their last words, and alone are made again."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from types import SimpleNamespace

import pytest

from labelembed.cli.results import say_comparison
from labelembed.cli.tuning_runs import tuning_failure
from labelembed.data.encoders import pictures
from labelembed.data.encoders.pictures import PictureFolder, decode_pictures
from labelembed.errors import DataError, TrainingError
from labelembed.recipes.loading import load_recipe
from labelembed.recipes.variants import variants_of
from labelembed.runs.comparison import plan_comparison, run_comparison
from labelembed.runs.run import cached_data
from labelembed.training import worker_log, workers
from labelembed.training.progress import Progress
from labelembed.training.worker_log import LOG_FILE, last_lines, note_progress, output_kept, with_last_lines
from tests.made_failing_jobs import HARMS, harmed_job
from tests.made_pictures import write_classes
from tests.made_training import contents, differences, fork_server, one_thread, train  # noqa: F401
from tests.reliability.figures import sized

SETTINGS = [
    "data.train_rows=190",
    "model.hidden_sizes=[12]",
    "batch_size=40",
    "epochs=3",
    "checkpoints={minimum_seconds: 0, time_share: 1}",
]
SEEDS = sized(short=4, full=8)
LONGEST_SILENCE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Starts workers from the fork server, where torch is imported already; harm comes to the runs asked for."""
    context = fork_server()
    monkeypatch.setattr(workers, "multiprocessing", SimpleNamespace(get_context=lambda kind: context))
    monkeypatch.setattr("labelembed.runs.comparison.run_job", harmed_job)


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
        say_comparison(out, failed, anything_new=True, as_json=False)
    with (out / "runs.csv").open(newline="") as file:
        lines = {(line["variant"], int(line["seed"])): line for line in csv.DictReader(file)}
    texts = {"error": str(error.value), "terminal": printed.getvalue()}
    texts |= {"page": (out / "report.html").read_text(encoding="utf-8")}
    return {name: " ".join(text.split()) for name, text in texts.items()} | {"runs": lines}


def test_three_killed_runs_of_a_comparison_cost_themselves_alone(tmp_path, figure):
    out = tmp_path / "comparison"
    plan = planned(out, "one_hot,label_smoothing,label_embedding", SEEDS)
    killed = {"one_hot/seed-1": 2, "label_smoothing/seed-2": 2, "label_embedding/seed-0": 2}
    once = {"one_hot/seed-0": 1, "label_embedding/seed-3": 1}
    out.mkdir()
    (out / HARMS).write_text(json.dumps({name: ["killed", times] for name, times in (killed | once).items()}))
    names = {f"{variant.name} seed {seed}": folder for variant, seed, _, folder in plan.runs}
    lost = {name for name, folder in names.items() if "/".join(folder.parts[-2:]) in killed}

    failed, made, silence = compared(plan, out)
    assert set(failed) == lost
    # Killed once, a run goes on from its checkpoint.
    assert {(out / f"attempts-{name.replace('/', '-')}").read_text() for name in (*killed, *once)} == {"xx"}
    figure.count("results kept", len(made), len(plan.runs) - 3)

    told = told_of(out, failed)
    described = {entry["variant"]: entry for entry in json.loads((out / "comparison.json").read_text())["failed"]}
    places = 0
    for name in lost:
        variant, seed = name.split(" seed ")
        reason = "its process died twice (killed by SIGKILL: by somebody, or by the system for want of memory)"
        words = f"{reason}; the last lines of its worker.log: "
        line = told["runs"][variant, int(seed)]
        found = [told["error"], told["terminal"], told["page"], line["message"], described[variant]["message"]]
        # The last line is that of the epoch after which it was killed.
        places += sum(words in text and "epoch 3 of 3: loss " in text.split(words)[1][:400] for text in found)
        assert (line["status"], described[variant]["seed"]) == ("failed", int(seed))
        assert f"Failed: {variant}, seed {seed}: {reason}" in told["terminal"]
    figure.count("places that tell of a killed run with its last words", places, 5 * 3)

    before = {name: (folder / "result.json").read_bytes() for name, folder in names.items() if name not in lost}
    again = planned(out, "one_hot,label_smoothing,label_embedding", SEEDS)
    failed, made, silence_again = compared(again, out)
    assert failed == {}
    assert "failed" not in json.loads((out / "comparison.json").read_text())
    assert {name: (names[name] / "result.json").read_bytes() for name in before} == before
    figure.count("runs made again, the killed ones alone", len(made), 3)
    assert set(made) == lost
    figure.at_most("longest silence, in seconds", max(silence, silence_again), LONGEST_SILENCE_SECONDS)
    # And they end as runs that nobody killed.
    for variant, seed, recipe, folder in plan.runs:
        if f"{variant.name} seed {seed}" in lost:
            train(recipe, tmp_path / "here" / variant.name)
            assert differences(contents(folder), contents(tmp_path / "here" / variant.name)) == []


def test_run_that_raises_ends_or_faults_is_told_with_its_last_words(tmp_path, figure):
    out = tmp_path / "comparison"
    plan = planned(out, "one_hot", 4)
    harms = ["", "raises", "a fault of memory", "ended"]
    out.mkdir()
    (out / HARMS).write_text(json.dumps({f"one_hot/seed-{seed}": [how, 2] for seed, how in enumerate(harms) if how}))
    failed, made, silence = compared(plan, out)
    assert made == ["one_hot seed 0"]
    fault = "RuntimeError: the job's own fault"
    expected = {
        1: (f"{fault}; the last lines of its worker.log: ", fault),
        2: (
            "its process died twice (by SIGSEGV); the last lines of its worker.log: Fatal Python error: Seg",
            "in _harm",
        ),
        3: ("its process died twice (it ended with exit code 7 and no word); the last", "the last word"),
    }
    told = told_of(out, failed)
    places = 0
    for seed, (beginning, end) in expected.items():
        message = failed[f"one_hot seed {seed}"]
        assert message.startswith(beginning), message
        assert message.endswith(end), message
        places += sum(beginning in told[where] for where in ("error", "terminal"))
        places += told["runs"]["one_hot", seed]["message"] == message
    assert "Fatal Python error: Segmentation fault" in (plan.runs[2][3] / LOG_FILE).read_text()
    assert "in _harm" in (plan.runs[1][3] / LOG_FILE).read_text()  # where it was raised
    figure.count("places that tell of a lost run with its last words", places, 9)
    figure.at_most("longest silence, in seconds", silence, LONGEST_SILENCE_SECONDS)
    (out / HARMS).write_text("{}")
    failed, made, _ = compared(planned(out, "one_hot", 4), out)
    assert (failed, sorted(made)) == ({}, [f"one_hot seed {seed}" for seed in (1, 2, 3)])


def test_killed_trial_of_a_tuning_is_told_stays_open_and_is_made_again(tmp_path, monkeypatch, figure):
    pytest.importorskip("optuna", reason="no optuna here: pip install 'labelembed[tune]'")
    from labelembed.tuning import plan_tuning, run_tuning, write_tuning

    monkeypatch.setattr("labelembed.tuning.trials.run_job", harmed_job)
    monkeypatch.setattr("labelembed.tuning.trials.run_trial", harmed_job)
    recipe, name = load_recipe("digits-mlp", settings=SETTINGS)
    out = tmp_path / "tuning"
    plan = plan_tuning(recipe, name, out, variants=variants_of(recipe, "label_smoothing"), trials=3)
    fingerprint = cached_data(recipe).fingerprint()
    out.mkdir()
    folder = plan.folder_of(plan.tuned[0], 1, plan.seeds[0]).path
    (out / HARMS).write_text(json.dumps({"/".join(folder.parts[-2:]): ["killed", 2]}))
    outcomes, problems = run_tuning(plan, fingerprint=fingerprint, jobs=2, device="cpu")
    [(trial, why)] = problems.items()
    assert "trial 1" in trial
    assert "killed by SIGKILL" in why
    assert "epoch 3 of 3: loss " in why.split("the last lines of its worker.log: ")[1]
    assert trial in str(tuning_failure(write_tuning(plan, outcomes), problems))
    made = []
    outcomes, problems = run_tuning(plan, fingerprint=fingerprint, jobs=2, device="cpu", observe=made.append)
    assert problems == {}
    assert [event.job.name for event in made if event.kind == "done"] == [trial]
    assert all(record.trial.score is not None for record in outcomes[0].records)
    figure.count("killed trials made again, alone", 1, 1)


# ---- the log


def test_log_keeps_what_the_process_and_its_libraries_write_and_stays_small(tmp_path, capfd, monkeypatch):
    log = tmp_path / "run" / LOG_FILE
    with output_kept(log, "one_hot seed 3") as kept, output_kept(log.with_name("other"), "of a thread") as other:
        assert (kept, other) == (True, False)  # a process has one output
        os.write(1, b"from Python\n")  # what pytest has put in the place of sys.stdout is not asked
        os.write(2, b"from a library\n")
        note_progress(Progress(2, 5, 0, 5, 1.0, {"train": {"total": 0.25}}))
    os.write(1, b"afterwards\n")
    assert capfd.readouterr() == ("afterwards\n", "")
    lines = log.read_text().splitlines()
    assert "one_hot seed 3: begun in process" in lines[0]
    assert {"from Python", "from a library"} <= set(lines)
    assert "epoch 2 of 5: loss 0.25" in log.read_text()
    assert len(last_lines(log)) == 3
    monkeypatch.setattr(worker_log, "_KEPT_BYTES", 1000)
    for _ in range(30):
        with output_kept(log, "one_hot seed 3"):
            os.write(1, b"x" * 200 + b"\n")
            note_progress(Progress(3, 5, 0, 5, 1.0, {"train": {"total": 0.5}}))
    assert log.stat().st_size < 2500
    assert last_lines(log)[-1].endswith("epoch 3 of 5: loss 0.5") or last_lines(log)[-1] == "x" * 100


def test_log_that_cannot_be_written_or_read_is_none(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / LOG_FILE, None):
        with output_kept(path, "a run") as kept:
            assert not kept
            os.write(1, b"heard\n")
        assert capfd.readouterr().out == "heard\n"
    assert last_lines(tmp_path / "none") == last_lines(None) == []
    assert with_last_lines("first\nsecond", None) == "first"
    (tmp_path / "log").write_bytes(b"\xff\x1b[31mred\n\n" + b"y" * 500)
    assert with_last_lines("first", tmp_path / "log") == (
        f"first; the last lines of its worker.log: \ufffd [31mred | {'y' * 100}"
    )


def test_last_words_of_a_fault_of_memory_say_where_it_was(tmp_path):
    dump = [
        "Fatal Python error: Bus error",
        "",
        "Thread 0x2 (most recent call first):",
        '  File "c.py", line 3 in wait',
    ]
    dump += [
        "Current thread 0x1 (most recent call first):",
        '  File "a.py", line 1 in inner',
        '  File "b.py", line 2',
        "",
    ]
    dump += ["Extension modules: numpy, torch"]
    (tmp_path / "log").write_text("\n".join(["epoch 1 of 2", *dump]))
    assert last_lines(tmp_path / "log") == [dump[0], 'File "a.py", line 1 in inner', 'File "b.py", line 2']
    (tmp_path / "log").write_text("\n".join([*dump, "epoch 1 of 2", "epoch 2 of 2"]))
    assert last_lines(tmp_path / "log")[1:] == ["epoch 1 of 2", "epoch 2 of 2"]


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
