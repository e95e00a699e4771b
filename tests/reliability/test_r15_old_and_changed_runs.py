"""R15: runs of every release go on, to recorded numbers; a changed recipe goes on by force; newer files are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.optimizers import SCHEDULES
from labelembed.lab.training.run_folder import RunFolder
from tests.made_checkpoints import vouch_for
from tests.made_cli import call, listing, succeed
from tests.made_training import small_recipe, stop_after, train

RELEASED = sorted((Path(__file__).parent / "released").iterdir())
# Other versions of torch and other processors add up in another order.
TOLERANCE = 1e-6


def matches(found, wanted):
    """Tells whether all that is wanted is there, numbers but for the last digits."""
    if isinstance(wanted, dict):
        return all(matches(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(matches, found, wanted))
    return found == (pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE) if isinstance(wanted, float) else wanted)


@pytest.mark.parametrize("release", RELEASED, ids=[path.name for path in RELEASED])
def test_run_of_a_release_ends_with_its_recorded_result(release, tmp_path, figure):
    shutil.copytree(release / "run", tmp_path / "run")
    expected = json.loads((release / "expected.json").read_text())
    before, damaged = load_newest(tmp_path / "run" / "checkpoints")
    assert (before.step, damaged) == (expected["stopped_at"], [])
    kept = RunFolder(release / "run").history()
    succeed("resume", tmp_path / "run", "--quiet")
    folder = RunFolder(tmp_path / "run")
    assert folder.history()[: len(kept)] == kept  # what was done is as it was, to the last bit
    is_same = matches(folder.result(), expected["result"]) and matches(folder.history(), expected["history"])
    figure.count("releases whose run ends as recorded", int(is_same), 1)
    for subcommand in ("evaluate", "labels", "report"):
        succeed(subcommand, tmp_path / "run")


@pytest.fixture
def half(tmp_path, monkeypatch):
    """A run stopped after step 7, in its second of three epochs."""
    monkeypatch.chdir(tmp_path)
    stop_after(small_recipe(schedule={"name": "cosine"}), tmp_path / "run", 7)
    return RunFolder(tmp_path / "run")


def test_resume_goes_on_with_a_changed_recipe_and_the_folder_says_so(half):
    succeed("resume", "run", "--epochs", 3, "--quiet")  # no change
    assert "changes" not in half.environment()
    succeed("resume", "run", "--epochs", 5, "--set", "optimizer.learning_rate=0.5", "--quiet")
    history = half.history()
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5]
    # cosine over 25 steps, of which 19 and 24 end an epoch: the schedule is that of the new number of epochs
    rates = [0.5 * SCHEDULES["cosine"]()(step, 5, 25) for step in (19, 24)]
    assert [line["learning_rate"] for line in history[3:]] == pytest.approx(rates, rel=1e-12)
    assert (stored_recipe(half).epochs, RunFolder(half.path).result()["epochs"]) == (5, 5)
    noted = "at step 15 (epoch 4): epochs 3 became 5; optimizer.learning_rate 0.01 became 0.5"
    assert half.environment()["changes"] == [noted]
    succeed("report", "run")
    page = " ".join((half.path / "report.html").read_text().split())
    assert noted in page


def test_finished_run_with_more_epochs_is_that_of_so_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(small_recipe(), tmp_path / "run")
    train(small_recipe(epochs=5), tmp_path / "whole")
    succeed("resume", "run", "--set", "epochs=5", "--quiet")
    # With a rate that does not depend on the number of epochs this is the run of five epochs.
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert models[0] == models[1]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.hidden_sizes=[13]", "model.hidden_sizes: here [12]"),
        ("objective=one_hot", "objective.name: here"),
        ("epochs=1", "epochs: must be 2 or more, got 1"),
    ],
)
def test_what_cannot_go_on_is_refused(setting, said, half, figure):
    before = listing(half.path)
    called = call("resume", "run", "--set", setting)
    assert (called.code, said in called.err, len(called.err.splitlines()) <= 10) == (2, True, True), called.err
    figure.count("changes that do not fit refused", int(listing(half.path) == before), 1)


def test_newer_formats_are_told_and_nothing_is_done(tmp_path, monkeypatch, figure):
    monkeypatch.chdir(tmp_path)
    stop_after(small_recipe(), tmp_path / "run", 7)
    train(small_recipe(), tmp_path / "done")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes().replace(rb"{\"format\": 1", rb"{\"format\": 2"))
    newest = vouch_for(newest)
    RunFolder("done").write("result.json", RunFolder("done").result() | {"format": 2})
    about = {"format": "labelembed.label_geometry", "version": "2", "names": json.dumps(list("0123456789"))}
    save_file(load_file("done/label_geometry.safetensors"), "newer.safetensors", metadata=about)
    Path("c").mkdir()
    Path("c/comparison.json").write_text(json.dumps({"format": 2}))
    calls = {
        "resume run": f"run/checkpoints/{newest.name}",
        "resume done": "done/result.json",
        "evaluate done": "done/result.json",
        "report done": "done/result.json",
        "labels newer.safetensors": "newer.safetensors",
        "report c": "c/comparison.json",
    }
    before = listing(tmp_path)
    for words, file in calls.items():
        called = call(*words.split())
        told = f"error: {file}: written by a newer labelembed (format 2); update labelembed\n"
        assert (called.code, called.err) == (2, told), words
    figure.count("newer formats told", len(calls) if listing(tmp_path) == before else 0, len(calls))
