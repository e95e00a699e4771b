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
FORCED = "goes on by force"


def numbers(value, path=""):
    """Every number of a JSON value by its place; texts as they are."""
    if isinstance(value, dict):
        return {place: n for key, part in value.items() for place, n in numbers(part, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {place: n for key, part in enumerate(value) for place, n in numbers(part, f"{path}[{key}]").items()}
    return {path: value}


def differing(found, wanted):
    found, wanted = numbers(found), numbers(wanted)
    return [
        f"{place}: {found.get(place)!r} instead of {value!r}"
        for place, value in wanted.items()
        if found.get(place) != value
        and not (isinstance(value, float) and found.get(place) == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE))
    ]


# ------------------------------------------------------------------------------------------------ old runs


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
    errors = differing({"result": folder.result(), "history": folder.history()},
                       {key: expected[key] for key in ("result", "history")})  # fmt: skip
    print("\n".join(errors))
    figure.count("releases whose run ends as recorded", int(not errors), 1)
    for verb in ("evaluate", "labels", "report"):
        succeed(verb, tmp_path / "run")


@pytest.mark.parametrize("verb", ["resume", "evaluate", "report"])
def test_run_of_the_first_edition_is_refused_with_the_way_out(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(small_recipe(epochs=1), tmp_path / "run")
    environment = RunFolder("run").environment()
    environment["packages"]["labelembed"] = "0.1.0"
    RunFolder("run").write("environment.json", environment)
    before = listing(tmp_path)
    called = call(verb, "run")
    assert (called.code, called.err) == (
        2,
        "error: run: made by labelembed 0.1.0, whose runs this version does not read; use that version, or train "
        "again\n",
    )
    assert listing(tmp_path) == before


# ------------------------------------------------------------------------------------------------ changed recipes


@pytest.fixture
def half(tmp_path, monkeypatch):
    """A run stopped after step 7, in its second of three epochs."""
    monkeypatch.chdir(tmp_path)
    stop_after(small_recipe(schedule={"name": "cosine"}), tmp_path / "run", 7)
    return RunFolder(tmp_path / "run")


def test_train_refuses_a_changed_recipe_with_its_differences(half, figure):
    before = listing(half.path)
    called = call("train", "run/recipe.yaml", "--epochs", 5, "--lr", 0.5, "--out", "run")
    assert (called.code, called.err) == (
        2,
        "error: run: holds the run of another recipe; choose another --out, or go on with a change: labelembed resume "
        "run --set KEY=VALUE. It differs in\n"
        "  epochs: here 3, asked for 5\n"
        "  optimizer.learning_rate: here 0.01, asked for 0.5\n",
    )
    figure.count("changed recipes refused by train", int(listing(half.path) == before), 1)


def test_resume_goes_on_with_a_changed_recipe_and_the_folder_says_so(half, figure):
    succeed("resume", "run", "--epochs", 5, "--set", "optimizer.learning_rate=0.5", "--quiet")
    history = half.history()
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5]
    # cosine over 25 steps, the last of an epoch 9, 14, ...: the schedule is that of the new number of epochs
    cosine = SCHEDULES["cosine"]
    rates = [0.5 * cosine()(step, 5, 25) for step in (9, 14, 19, 24)]
    assert [line["learning_rate"] for line in history[1:]] == pytest.approx(rates, rel=1e-12)
    assert (stored_recipe(half).epochs, RunFolder(half.path).result()["epochs"]) == (5, 5)
    assert "epochs: 3" in (half.path / "recipe.1.yaml").read_text()
    noted = "at step 7 (epoch 2): epochs 3 became 5; optimizer.learning_rate 0.01 became 0.5; before: recipe.1.yaml"
    assert half.environment()["changes"] == [noted]
    succeed("export", "run", "--format", "card")
    succeed("report", "run")
    texts = [" ".join((half.path / name).read_text().split()) for name in ("README.md", "report.html")]
    said = [noted in text.replace("\\", "") for text in texts]
    figure.count(FORCED, sum(said) == 2, 1)


def test_finished_run_goes_on_with_more_epochs(tmp_path, monkeypatch, figure):
    monkeypatch.chdir(tmp_path)
    train(small_recipe(), tmp_path / "run")
    train(small_recipe(epochs=5), tmp_path / "whole")
    succeed("resume", "run", "--set", "epochs=5", "--quiet")
    # With a rate that does not depend on the number of epochs this is the run of five epochs.
    here, there = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert here.keys() == there.keys()
    figure.count(FORCED, int(all(bool((here[name] == there[name]).all()) for name in there)), 1)
    again = call("resume", "run", "--set", "epochs=6", "--quiet")
    assert again.code == 0, again.err
    assert len(RunFolder("run").environment()["changes"]) == 2
    assert (tmp_path / "run" / "recipe.2.yaml").is_file()


def test_set_without_a_change_only_goes_on(half):
    succeed("resume", "run", "--epochs", 3, "--quiet")
    assert "changes" not in half.environment()
    assert not (half.path / "recipe.1.yaml").exists()
    called = succeed("resume", "run", "--epochs", 3)
    assert "finished already" in called.err


ANEW = "it cannot go on; train again in another folder. It differs in\n  "


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.hidden_sizes=[13]", "does not fit this recipe (RuntimeError: "),
        ("objective=one_hot", f"{ANEW}objective.name: here"),
        ("optimizer=sgd", f"{ANEW}optimizer.name: here 'adam'"),
        ("batch_size=20", f"{ANEW}batch_size: here 40, asked"),
        (f"objective.weight={[2.0] * 10}", f"{ANEW}objective.weight: here None, asked"),
        ("seed=1", f"{ANEW}seed: here 0, asked for 1"),
        ("data.train_examples=100", f"{ANEW}data.train_examples: here"),
        ("selection.by=last_epoch", f"{ANEW}selection.by: here"),
        ("epochs=1", "run: epochs: must be 2 or more, the run is in epoch 2, got 1\n"),
        ("epochs=0", "run/recipe.yaml with --set: epochs: must be >= 1, got 0\n"),
        ("epocs=4", "run/recipe.yaml with --set: epocs: unknown key (did you mean 'epochs'?)\n"),
    ],
)
def test_what_cannot_go_on_is_refused(setting, said, half, figure):
    before = listing(half.path)
    called = call("resume", "run", "--set", setting)
    assert called.code == 2
    assert said in called.err
    assert len(called.err.splitlines()) <= 10
    figure.count("changes that do not fit refused", int(listing(half.path) == before), 1)


# ------------------------------------------------------------------------------------------------ newer files


def test_newer_formats_are_told_and_nothing_is_done(tmp_path, monkeypatch, figure):
    monkeypatch.chdir(tmp_path)
    recipe = small_recipe()
    stop_after(recipe, tmp_path / "run", 7)
    train(recipe, tmp_path / "done")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes().replace(rb"{\"format\": 1", rb"{\"format\": 2"))
    newest = vouch_for(newest)
    result = RunFolder("done").result()
    Path("done/result.json").write_text(json.dumps(result | {"format": 2}))
    table = load_file("done/label_geometry.safetensors")
    about = {"format": "labelembed.label_geometry", "version": "2", "names": json.dumps(list("0123456789"))}
    save_file(table, "newer.safetensors", metadata=about)
    Path("c").mkdir()
    Path("c/comparison.json").write_text(json.dumps({"format": 2}))
    newer = "written by a newer labelembed (format 2); update labelembed\n"
    told = 0
    calls = {
        "resume run": f"run/checkpoints/{newest.name}: {newer}",
        "resume done": f"done/result.json: {newer}",
        "evaluate done": f"done/result.json: {newer}",
        "report done": f"done/result.json: {newer}",
        "labels newer.safetensors": f"newer.safetensors: {newer}",
        "report c": f"c/comparison.json: {newer}",
    }
    before = listing(tmp_path)
    for words, said in calls.items():
        called = call(*words.split())
        assert (called.code, called.err) == (2, f"error: {said}"), words
        told += listing(tmp_path) == before
    figure.count("newer formats told", told, len(calls))
