"""What every verb does, prints and leaves, and that its own example runs."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main
from safetensors.torch import load_file

import labelembed
from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry
from labelembed.lab import cli
from labelembed.lab.cli import program
from labelembed.lab.cli.options import device_for_runs
from labelembed.lab.data import read_idx
from labelembed.lab.runs import display
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_corpus import made_pairs, write_example_text, write_text
from tests.made_corpus_runs import sequence_recipe
from tests.made_data import made_images, write_idx, write_idx_folder, write_image
from tests.made_in_process import make_runs_here
from tests.made_texts import reviews, write_csv
from tests.made_training import train
from tests.reliability.tables import read_table

MNIST = ["mnist-mlp", "--data", "mnist", *SMALL]
COMMAND = typer.main.get_command(cli.app)
VERBS = list(COMMAND.commands)
METRICS = {"error", "nll", "calibration_error", "brier"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a data set and one finished run; tests that change either take a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("made"))
        write_idx_folder(Path("mnist"))
        succeed("train", *MNIST, "--out", "run")
        return Path.cwd()


@pytest.fixture
def run(made, tmp_path):
    """A copy of the finished run, here."""
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "mnist", tmp_path / "mnist")
    return "run"


def result_of(folder):
    return json.loads(Path(folder, "result.json").read_text())


def weights_of(folder):
    return {name: value.tolist() for name, value in load_file(Path(folder, "model.safetensors")).items()}


def interrupt_after(monkeypatch, epochs):
    """Makes the next run get Ctrl-C when so many epochs have ended."""

    def observe(self, progress):
        if progress.line is not None and progress.epoch == epochs:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(display.RunDisplay, "progress", observe)


# -------------------------------------------------------------------------------------------------------- help


def test_program_lists_its_verbs():
    shown = succeed("--help").out
    listed = [line.split()[1] for line in shown.splitlines() if re.match(r"│ [a-z]+  ", line)]
    assert listed == program.VERBS
    assert sorted(VERBS) == sorted(program.VERBS)
    assert "labelembed compare digits-mlp" in shown
    assert succeed("-h").out == shown


def test_version():
    assert succeed("--version").out == f"labelembed {labelembed.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_its_options_and_an_example(verb):
    shown = succeed(verb, "--help").out
    assert f"Usage: labelembed {verb}" in shown
    assert f"\n labelembed {verb}" in shown
    assert succeed(verb, "-h").out == shown
    command = COMMAND.commands[verb]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", "")] == []


def options_of(verb):
    return [one for one in COMMAND.commands[verb].params if one.param_type_name == "option"]


def test_options_are_few_and_alike():
    assert sum(len(options_of(verb)) for verb in VERBS) <= 102
    spellings = {name: tuple(option.opts) for verb in VERBS for option in options_of(verb) for name in option.opts}
    for verb in VERBS:
        assert [option.opts for option in options_of(verb) if tuple(option.opts) != spellings[option.opts[0]]] == []
    assert {name: spelling[0] for name, spelling in spellings.items() if len(name) == 2} == {
        "-o": "--out",
        "-q": "--quiet",
        "-j": "--jobs",
        "-k": "--count",
    }
    helps = {}
    for verb in VERBS:
        for option in options_of(verb):
            helps.setdefault(option.opts[0], set()).add(option.help)
    # What is written, read or set, each verb says of itself.
    differing = {name for name, texts in helps.items() if len(texts) > 1}
    assert differing == {"--out", "--format", "--set", "--trials", "--data"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trian digits-mlp", "no verb 'trian' (did you mean 'train'?); there are: train, resume, compare"),
        ("neighbors run", "no verb 'neighbors' (did you mean 'neighbours'?)"),
        ("train --epoch 3", "no option --epoch (did you mean '--epochs'?); see labelembed train --help"),
        ("train --bathc-size 3", "no option --bathc-size (did you mean '--batch-size'?)"),
        ("train digits-mlp --lr", "--lr: needs a value; it is short for --set optimizer.learning_rate=VALUE"),
        ("predict run x --fromat csv", "no option --fromat (did you mean '--format'?)"),
        ("compare digits-mlp --seeds 7-3", "--seeds: '7-3': give how many seeds"),
        ("compare digits-mlp --device cudaa", "--device: must be auto, cpu, cuda, cuda:NUMBER or mps, got 'cudaa'"),
        ("evaluate run --split dev", "--split: must be test, validation or train, got 'dev'"),
    ],
)
def test_what_is_typed_wrong_is_told_the_nearest_name(words, said):
    called = call(*words.split())
    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("error: ")
    assert said in called.err
    assert len(called.err.splitlines()) == 1


def test_short_forms_are_settings(made):
    words = ["train", "mnist-mlp", "--data", made / "mnist", *SMALL, "-o", "run"]
    succeed(*words, "--seed", 3, "--epochs=1", "--lr", "0.02", "--batch-size", 5)
    recipe = stored_recipe(RunFolder("run"))
    assert (recipe.seed, recipe.epochs, recipe.batch_size, recipe.optimizer["learning_rate"]) == (3, 1, 5, 0.02)
    facts = succeed("check", "digits-mlp", "--epochs", 7, "--json").json
    assert facts["epochs"] == 7
    assert call("train", "digits-mlp", "--epochs", "ten").err.startswith(
        "error: recipe 'digits-mlp' with --set: epochs: must be a whole number, got 'ten'"
    )


def test_neighbours_is_another_name_of_labels(run):
    assert succeed("neighbours", run, 4, "--json").json == succeed("labels", run, 4, "--json").json


@pytest.mark.parametrize(
    ("device", "gpus", "given", "seen"),
    [
        ("auto", 0, None, None),
        ("cpu", 2, "cpu", None),
        ("cuda", 2, None, None),
        ("cuda:1", 2, None, "1"),
    ],
)
def test_device_is_what_runs_are_told(device, gpus, given, seen, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    assert device_for_runs(device) == given
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen


def test_device_counts_among_the_gpus_that_are_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    device_for_runs("cuda:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
    with pytest.raises(LabelEmbedError, match="CUDA_VISIBLE_DEVICES names 1 GPU"):
        device_for_runs("cuda:1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(LabelEmbedError, match="torch finds no such GPU here"):
        device_for_runs("cuda")


# ---------------------------------------------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def examples_folder(tmp_path_factory):
    """What the examples name: `path/to/mnist`, `picture.png`, and `runs/first` as the example of train makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        images, labels = made_images(5200), np.arange(5200, dtype=np.uint8) % 10
        write_idx_folder(
            Path("path/to/mnist"),
            train_images=images,
            train_labels=labels,
            test_images=images[:20],
            test_labels=labels[:20],
        )
        write_image(Path("picture.png"), images[0])
        write_example_text(Path())
        write_text(Path("pairs.jsonl"), [json.dumps({"source": a, "target": b}) for a, b in made_pairs(20)])
        write_csv(Path("reviews.csv"), reviews(60), "review", "stars")
        Path("pictures").mkdir()
        write_image(Path("pictures/one.png"), images[1])
        small = ["--epochs", 1, "--quiet"]
        succeed("train", "digits-mlp", *small, "--out", "runs/digits")
        succeed("train", "digits-mlp", *small, "--objective", "label_smoothing", "--out", "runs/smoothing")
        succeed("train", "mnist-mlp", "--data", "path/to/mnist", *small, "--out", "runs/first")
        teachers = ["--objectives", "one_hot,label_smoothing", "--seeds", 2, "--out", "comparisons/digits-mlp"]
        make_runs_here(patch)
        succeed("compare", "digits-mlp", *SHORT, *teachers)
        train(sequence_recipe(Path("made")), Path("runs/en-de"))
        write_text(Path("input.txt"), [source for source, _ in made_pairs(3)])
        return Path.cwd()


EXAMPLES = [example for verb in VERBS for example in COMMAND.commands[verb].epilog.split("\n\n")[1:]]
# What makes an example take a second.
SHORT = ["--epochs", 1, "--batch-size", 20, "--quiet"]
SHORTER = {
    "train": [*SHORT, "--overwrite"],
    "compare": [*SHORT, "--seeds", 1, "--jobs", 1],
    "tune": [*SHORT, "--trials", 1, "--jobs", 1],
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example, examples_folder, monkeypatch):
    monkeypatch.chdir(examples_folder)
    make_runs_here(monkeypatch)
    name, verb, *words = shlex.split(example)
    assert (name, verb in VERBS) == ("labelembed", True)
    trials = ["--trials", 1] if "--tuned" in words else []
    assert succeed(verb, *words, *SHORTER.get(verb, []), *trials).out
    if verb == "init":
        assert succeed("check", "my.yaml").out.startswith("my: fine")


def test_program_suggests_an_example_that_is_one():
    assert COMMAND.epilog == "Begin with: labelembed compare digits-mlp"


# ---------------------------------------------------------------------------------------- objectives and recipes


def test_objectives_are_listed():
    lines = succeed("objectives").out.splitlines()
    listed = succeed("objectives", "--json").json
    assert [line.split()[0] for line in lines] == list(listed) == list(labelembed.OBJECTIVES)
    keys = {"smoothing": 0.1, "impl": "auto", "weight": None, "bias": True}
    assert listed["label_smoothing"]["keys"] == keys
    assert listed["static_labels"]["required"] == ["embedding"]
    assert listed["static_labels"]["keys"]["embedding"] is None
    assert listed["one_hot"]["required"] == []
    assert all(about["summary"] in line for about, line in zip(listed.values(), lines, strict=True))


def test_recipes_are_listed():
    lines = succeed("recipes").out.splitlines()
    listed = succeed("recipes", "--json").json
    assert [line.split()[0] for line in lines] == list(listed)
    assert {"digits-mlp", "mnist-mlp", "mnist-cnn"} <= set(listed)
    assert all(line.endswith(listed[line.split()[0]]) for line in lines)


def test_init_writes_over_a_file_only_when_told():
    succeed("init", "digits-mlp", "-o", "my.yaml")
    first = Path("my.yaml").read_text()
    Path("my.yaml").write_text("mine")
    assert call("init", "digits-mlp", "-o", "my.yaml").code == 2
    assert Path("my.yaml").read_text() == "mine"
    succeed("init", "digits-mlp", "--out", "my.yaml", "--overwrite")
    assert Path("my.yaml").read_text() == first


def test_check_reads_without_training(made, monkeypatch):
    monkeypatch.chdir(made)
    before = listing(made)
    shown = succeed("check", *MNIST[:-1])
    lines = shown.out.splitlines()
    assert re.fullmatch(r"  one run     about [\d.]+ s on one thread", next(line for line in lines if "one run" in line))
    assert re.search(r"logistic regression on .*: validation error .* %, test error .* %", shown.out)
    lines = [line for line in lines if line[2:12].strip() not in ("one run", "reference", "note")]
    together = r"; about [\d.]+ (s|min \d+ s) with \d+ runs at once"
    assert re.search(rf"{together}$", lines[-1])
    assert [*lines[:-1], re.sub(together, "", lines[-1])] == [
        "mnist-mlp: fine",
        f"  data        idx files in {made}/mnist: train 20, validation 10, test 10; 10 labels, inputs [1, 4, 5]",
        "  network     448 parameters, objective label_embedding",
        "  training    2 epochs of 2 steps",
        "  comparison  one_hot, label_smoothing, label_embedding; 5 seeds",
    ]
    facts = succeed("check", *MNIST[:-1], "--json", "--set", "comparison.seeds=1").json
    assert facts["source"] == f"idx files in {made}/mnist"
    assert facts["input_shape"] == [1, 4, 5]
    assert facts["seconds"] < 60
    assert facts["parameters"] == 448  # 20 * 8 + 8, two output layers of 8 * 10 + 10, and E of 10 * 10
    assert listing(made) == before


# ------------------------------------------------------------------------------------------------------- train


def test_train_leaves_a_run_folder_and_says_where(made, run):
    folder = made / "run"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *(".lock", "recipe.yaml", "environment.json", "history.jsonl", "result.json"),
        *("model.safetensors", "label_geometry.safetensors", "class_means.safetensors", "checkpoints"),
        "diagnostics",
    }
    result = result_of(folder)
    again = succeed("train", *MNIST, "--out", run)
    assert again.out.splitlines() == [
        f"label_embedding: validation error {result['validation']['error']:.2%}, "
        f"test error {result['test']['error']:.2%} at epoch {result['selected_epoch']} of 2 "
        f"(by validation error), {result['seconds']:.1f} s",
        "no temperature: not fitted, 10 validation examples are fewer than 50",
        "run folder: run    next: labelembed report run",
    ]


def test_train_reports_progress_on_standard_error_only():
    words = ["train", "digits-mlp", "--set", "epochs=2", "--set", "model.hidden_sizes=[8]"]
    called = succeed(*words, "--out", "run", "--json")
    assert called.json["folder"] == "run"
    lines = called.err.splitlines()
    assert lines[-1].startswith("epoch 2/2: validation error ")
    assert lines[-1].endswith("; done")
    assert succeed(*words, "--out", "quiet", "--quiet").err == ""


def test_train_as_json_has_what_was_reached(made, monkeypatch):
    monkeypatch.chdir(made)
    values = succeed("train", *MNIST, "--out", "run", "--json").json
    assert values == {"folder": "run"} | result_of("run")
    assert values["status"] == "finished"
    assert values["epochs"] == 2
    assert 1 <= values["selected_epoch"] <= 2
    assert values["selected_by"] == "validation error"
    assert values["parameters"] == 448
    assert set(values["test"]) >= METRICS
    assert set(values["validation"]) >= METRICS
    assert set(values["train"]) == {"total", "output", "target", "auxiliary", "hinge", "embedding", "uniform"}


def test_train_chooses_a_folder_by_recipe_objective_and_seed(made):
    words = ["mnist-mlp", "--data", made / "mnist", *SMALL, "--set", "epochs=1"]
    assert "run folder: runs/mnist-mlp/label_embedding/seed-0 " in succeed("train", *words).out
    succeed("train", *words, "--objective", "label_smoothing:smoothing=0.3", "--set", "seed=4")
    assert Path("runs/mnist-mlp/label_smoothing/seed-4/result.json").exists()


def test_train_on_a_finished_folder_does_nothing(run, tmp_path):
    before = listing(tmp_path)
    called = succeed("train", *MNIST, "--out", run)
    assert called.err == "run: finished already, nothing to do\n"
    assert listing(tmp_path) == before


def test_overwrite_trains_anew(run):
    Path("run/mine.txt").write_text("kept")
    succeed("train", *MNIST, "--set", "seed=1", "--out", run, "--overwrite")
    assert "seed: 1" in Path("run/recipe.yaml").read_text()
    assert len(Path("run/history.jsonl").read_text().splitlines()) == 2
    assert Path("run/mine.txt").read_text() == "kept"


def test_overwrite_on_no_run_just_trains(made):
    succeed("train", "mnist-mlp", "--data", made / "mnist", *SMALL, "--out", "new", "--overwrite")
    assert result_of("new")["status"] == "finished"


@pytest.mark.parametrize("file", ["result.json", "environment.json", "recipe.yaml"])
def test_overwrite_takes_away_a_damaged_run(run, file):
    Path(run, file).write_text("{")
    succeed("train", *MNIST, "--out", run, "--overwrite")
    assert result_of(run)["status"] == "finished"
    assert succeed("evaluate", run)


def test_overwrite_keeps_the_old_run_when_the_new_one_cannot_begin(run, tmp_path):
    before = listing(tmp_path)
    for wrong in (["--data", "nowhere"], ["--set", "batch_size=999"], ["--objective", "label_embedding:embedding=no"]):
        assert call("train", *MNIST, *wrong, "--out", run, "--overwrite").code == 2
        assert listing(tmp_path) == before


def test_two_runs_of_one_recipe_are_equal(made):
    for out in ("one", "two"):
        succeed("train", "mnist-mlp", "--data", made / "mnist", *SMALL, "--out", out)
    assert weights_of("one") == weights_of("two") == weights_of(made / "run")


# ----------------------------------------------------------------------------------------- what errors advise


def options_lacking(verb, text):
    """Returns the options that a message of a verb names and the verb lacks; those after `labelembed VERB` are its."""
    lacking = []
    parts = re.split(r"labelembed ([a-z]+)(?=[^;`)\n]* --)([^;`)\n]*)", text)
    for of_verb, said in [(verb, "".join(parts[::3])), *zip(parts[1::3], parts[2::3], strict=True)]:
        known = COMMAND.commands[of_verb].known()
        lacking += [option for option in re.findall(r"(?<![\w-])--[a-z-]+", said) if option not in known]
    return lacking


def test_options_that_a_verb_lacks_are_found():
    assert options_lacking("compare", "choose another --out, or go on with the changed recipe by --force.") == [
        "--force"
    ]
    assert options_lacking("compare", "goes on by `labelembed train --overwrite` and --seeds; --set") == []
    assert options_lacking("compare", "goes on by `labelembed resume --out`; --set") == ["--out"]


@pytest.fixture(scope="module")
def folders(made, tmp_path_factory):
    """A finished run, comparison and tuning, and a run that has not finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folders"))
        make_runs_here(patch)
        shutil.copytree(made / "mnist", "mnist")
        shutil.copytree(made / "run", "run")
        shutil.copytree(made / "run", "unfinished")
        Path("unfinished/result.json").unlink()
        succeed("compare", *MNIST, "--objectives", "one_hot", "--seeds", 1, "--out", "comparison")
        tuned = ["--objectives", "one_hot", "--trials", 1, "--out", "tuning"]
        succeed("tune", *MNIST, *tuned)
        succeed("compare", *MNIST, "--tuned", *tuned[:-1], "tuned", "--seeds", 1)
        return Path.cwd()


CHANGED = ["--set", "optimizer.learning_rate=0.5"]
RATES = ["--space", "optimizer.learning_rate=1e-3:1e-2"]
ONE = ["--objectives", "one_hot"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train", *MNIST, *CHANGED, "--out", "run"],
            "another --out, or go on with a change: labelembed resume run --s",
        ),
        (["train", *MNIST, "--out", "unfinished"], "add --overwrite"),
        (["train", *MNIST, "--out", "comparison"], "choose another folder with --out"),
        (["resume", "run", "--batch-size", 5], "with such a change it cannot go on; train again in another folder"),
        (["resume", "run", "--epochs", 1], "epochs: must be 2 or more"),
        (["compare", *MNIST, *ONE, "--seeds", 1, *CHANGED, "--out", "comparison"], "over with --overwrite. It differs"),
        (["compare", *MNIST, *ONE, "--out", "run"], "choose another folder with --out"),
        (["compare", *MNIST, "--tuned", *ONE, "--trials", 1, "--seeds", 1, *RATES, "--out", "tuned"], "another --out"),
        (["compare", *MNIST, "--trials", 3], "labelembed tune"),
        (["tune", *MNIST, *ONE, "--trials", 1, *CHANGED, "--out", "tuning"], "choose another --out. It differs"),
        (["tune", *MNIST, *ONE, "--trials", 1, *RATES, "--out", "tuning"], "choose another --out"),
        (["tune", *MNIST, *ONE, "--out", "comparison"], "choose another folder with --out"),
        (["tune", *MNIST, *ONE, "--out", "run"], "choose another folder with --out"),
    ],
    ids=lambda value: (
        " ".join(map(str, value)).replace(" ".join(map(str, MNIST)), "") if isinstance(value, list) else ""
    ),
)
def test_errors_advise_only_what_the_verb_has(folders, monkeypatch, words, said):
    monkeypatch.chdir(folders)
    before = {name: value for name, value in listing(folders).items() if "/.lock" not in name}
    called = call(*words)
    assert called.code == 2, called.err
    assert said in called.err
    assert options_lacking(words[0], called.err) == []
    assert listing(folders) == before


def test_errors_of_the_table_advise_only_what_their_verb_has():
    table = [bad for bad in read_table("bad_calls.txt") if bad.said.startswith("error: ")]
    table = [bad for bad in table if not bad.said.startswith(("error: no option ", "error: no verb "))]
    found = [(bad.words, options_lacking(bad.words.split()[0], bad.said)) for bad in table]
    assert len(found) > 200
    assert [(words, lacking) for words, lacking in found if lacking] == []


# ------------------------------------------------------------------------------------------ interrupt and resume


def test_interrupted_run_says_how_to_go_on_and_ends_the_same(made, monkeypatch):
    words = ["train", "mnist-mlp", "--data", made / "mnist", *SMALL, "--set", "epochs=4", "--out"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        stopped = call(*words, "broken")
    assert stopped.code == 130
    assert stopped.out == ""
    assert stopped.err == "stopped in epoch 3 of 4; to go on: labelembed resume broken\n"
    assert not Path("broken/result.json").exists()
    assert call(*words, "broken").code == 2  # train does not go on by itself
    resumed = succeed("resume", "broken", "--json").json
    whole = succeed(*words, "whole", "--json").json
    for measured in ("train", "validation", "test", "selected_epoch", "epochs"):
        assert resumed[measured] == whole[measured]
    assert weights_of("broken") == weights_of("whole")


def test_moved_run_is_resumed(made, monkeypatch):
    words = ["train", "mnist-mlp", "--data", made / "mnist", *SMALL, "--out", "old"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert call(*words).code == 130
    shutil.move("old", "elsewhere")
    succeed("resume", "elsewhere")
    assert result_of("elsewhere")["test"] == result_of(made / "run")["test"]


def test_resume_of_a_finished_run_does_nothing(run, tmp_path):
    before = listing(tmp_path)
    called = succeed("resume", run)
    assert called.err == "run: finished already, nothing to do\n"
    assert "run folder: run" in called.out
    assert succeed("resume", run, "--json").json == {"folder": "run"} | result_of(run)
    assert listing(tmp_path) == before


def test_resume_goes_on_with_a_failed_run(run):
    Path("run/result.json").write_text(json.dumps({"status": "failed", "message": "out of luck"}))
    succeed("resume", run)
    assert result_of(run)["status"] == "finished"


def test_resume_needs_what_the_run_began_with(run):
    Path("run/result.json").unlink()
    for content in ("{}", '{"data": {}}', '{"data": {}, "threads": "x"}', '{"data": [], "threads": 1}'):
        Path("run/environment.json").write_text(content)
        called = call("resume", run)
        assert called.code == 2
        message = "run/environment.json: missing or damaged, it does not say what the run began with"
        assert called.err == f"error: {message}\n"


def test_loss_that_is_not_finite_exits_with_1(made):
    words = ["mnist-mlp", "--data", made / "mnist", *SMALL, "--set", "optimizer.learning_rate=1e30", "--out", "wild"]
    called = call("train", *words)
    assert called.code == 1
    assert called.err.startswith("error: the loss is not finite: term `")
    assert "Traceback" not in called.err
    assert result_of("wild")["status"] == "failed"
    again = call("train", *words)
    assert again.code == 2
    assert again.err == (
        "error: wild: this run failed; to go on: labelembed resume wild; to start over: add --overwrite\n"
    )


# ---------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_gives_the_numbers_of_the_run(made, monkeypatch):
    monkeypatch.chdir(made)
    result = result_of("run")
    for split in ("test", "validation"):
        values = succeed("evaluate", "run", "--split", split, "--json").json
        assert {name: values[name] for name in result[split]} == result[split]  # to the last digit
        assert (values["split"], values["examples"]) == (split, 10)
        assert values["source"] == f"idx files in {made}/mnist"
    assert succeed("evaluate", "run", "--split", "train", "--json").json["examples"] == 20


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A folder with a run that has validation examples enough for a temperature; tests only read it."""
    folder = tmp_path_factory.mktemp("calibrated")
    words = ["--set", "model.hidden_sizes=[8]", "--set", "epochs=2", "--set", "data.validation.fraction=0.15"]
    succeed("train", "digits-mlp", *words, "--out", folder / "run", "--quiet")
    return folder


def test_evaluate_in_words(calibrated, monkeypatch):
    monkeypatch.chdir(calibrated)
    result = result_of("run")
    test, after = result["test"], result["calibrated"]["test"]
    lines = succeed("evaluate", "run").out.splitlines()
    assert lines[0].endswith(", test set, 449 examples")
    shown = {line[:20].strip(): line[20:].split() for line in lines[1:-1]}
    assert shown["error"] == [f"{test['error']:.2%}"]
    assert shown["top5 error"] == [f"{test['top5_error']:.2%}"]
    assert shown["macro-F1"] == [f"{test['macro_f1']:.2%}"]
    assert shown["balanced accuracy"] == [f"{test['balanced_accuracy']:.2%}"]
    assert shown["NLL"] == [f"{test['nll']:.4f}", "calibrated", f"{after['nll']:.4f}"]
    errors = [f"{metrics['calibration_error']:.2%}" for metrics in (test, after)]
    assert shown["calibration error"] == [errors[0], "calibrated", errors[1]]
    assert shown["Brier score"] == [f"{test['brier']:.4f}", "calibrated", f"{after['brier']:.4f}"]
    assert lines[-1] == f"calibrated: at temperature {result['temperature']:.3g}, which is that of predict"


def test_evaluate_as_json_has_both(calibrated, monkeypatch):
    monkeypatch.chdir(calibrated)
    result = result_of("run")
    values = succeed("evaluate", "run", "--json").json
    assert values["temperature"] == result["temperature"]
    assert values["calibrated"] == result["calibrated"]["test"]  # to the last digit


def test_evaluate_reads_data_that_moved(run, tmp_path):
    # the recipe still names the place where the run was trained, which is there as well
    source = succeed("evaluate", run, "--data", "mnist", "--json").json["source"]
    assert source == "idx files in mnist"
    shutil.move("mnist", "other")
    assert succeed("evaluate", run, "--data", "other", "--json").json["error"] == result_of(run)["test"]["error"]


def test_evaluate_needs_no_more_rows_than_there_are(run):
    few = np.arange(12, dtype=np.uint8) % 10
    write_idx_folder(Path("few"), train_images=made_images(12), train_labels=few)
    # two rows are left to train on, fewer than a batch: enough to evaluate the others
    assert succeed("evaluate", run, "--data", "few", "--json").json["examples"] == 10


def test_evaluate_refuses_labels_that_the_run_does_not_know(run):
    nine = np.arange(30, dtype=np.uint8) % 9
    write_idx_folder(Path("nine"), train_labels=nine + 3, test_labels=nine[:10] + 3)
    called = call("evaluate", run, "--data", "nine")
    assert called.code == 2
    assert called.err == (
        "error: idx files in nine: has labels that the run does not know: 10 (4 examples), 11 (4 examples); its 10 "
        "labels are 0, 1, 2, 3, 4, 5, 6, 7 and 2 more\n"
    )


def test_evaluate_numbers_labels_as_the_run_does(run):
    # without the label 0 the file's first label is the run's second
    odd = np.arange(30, dtype=np.uint8) % 9 + 1
    write_idx_folder(Path("odd"), train_labels=odd, test_labels=odd[:10])
    images = read_idx(Path("odd/t10k-images-idx3-ubyte"))
    np.save("odd.npy", images)
    predicted = [row["label"] for row in succeed("predict", run, "odd.npy", "--json").lines]
    wrong = sum(label != str(right) for label, right in zip(predicted, odd[:10], strict=True))
    assert succeed("evaluate", run, "--data", "odd", "--json").json["error"] == wrong / 10


def test_evaluate_says_which_splits_there_are(made):
    words = ["mnist-mlp", "--data", made / "mnist", *SMALL, "--set", "data.validation=null", "--out", "run"]
    succeed("train", *words)
    called = call("evaluate", "run", "--split", "validation")
    assert called.code == 2
    assert called.err.endswith("has no validation set; it has train, test\n")


# ----------------------------------------------------------------------------------------------------- predict


def as_file(kind):
    images = made_images(4, seed=9)
    if kind == "png":
        write_image(Path("inputs.png"), images[0])
        return "inputs.png", images[:1]
    if kind == "npy":
        np.save("inputs.npy", images)
        return "inputs.npy", images
    write_idx(Path("inputs"), images, zipped=kind == "idx.gz")
    return "inputs", images


@pytest.mark.parametrize("kind", ["png", "npy", "idx", "idx.gz"])
def test_predict_agrees_with_the_library(run, kind):
    file, images = as_file(kind)
    rows = succeed("predict", run, file, "--json").lines
    saved = SavedRun.load(run)
    probabilities = saved.probabilities(torch.from_numpy(images).unsqueeze(1))
    names = [file] if kind == "png" else [f"{file}[{row}]" for row in range(4)]
    assert [row["input"] for row in rows] == names
    assert [list(row["probabilities"].values()) for row in rows] == probabilities.tolist()
    for row in rows:
        assert list(row) == ["input", "label", "probability", "probabilities"]
        assert list(row["probabilities"]) == list("0123456789")
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)  # float32 sums
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]


@pytest.mark.parametrize("kind", ["png", "npy", "idx"])
def test_predict_in_words_has_the_most_probable_first(run, kind):
    file, images = as_file(kind)
    rows = succeed("predict", run, file, "--json").lines
    lines = succeed("predict", run, file, "--top", 2).out.splitlines()
    assert len(lines) == len(images)
    for line, row in zip(lines, rows, strict=True):
        (first, one), (second, two), *_ = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])
        assert line == f"{row['input']}: {first} ({one:.1%}), {second} ({two:.1%})"
        assert first == row["label"]
    assert succeed("predict", run, file).out.splitlines()[0].count("%") == 3
    assert succeed("predict", run, file, "--top", 99).out.splitlines()[0].count("%") == 10


def test_predict_notes_what_it_changed(run):
    write_image(Path("large.png"), np.zeros((8, 10), dtype=np.uint8))
    called = succeed("predict", run, "large.png", "--invert", "--json")
    assert called.err == "note: resized from 10x8 to 5x4\nnote: dark and light exchanged\n"
    np.save("white.npy", np.full((4, 5), 255, dtype=np.uint8))
    assert called.lines[0]["probabilities"] == succeed("predict", run, "white.npy", "--json").lines[0]["probabilities"]


def test_predict_takes_files_and_folders_and_writes_a_line_for_each(run):
    for number, image in enumerate(made_images(3, seed=9)):
        Path(f"pictures/sub{number % 2}").mkdir(parents=True, exist_ok=True)
        write_image(Path(f"pictures/sub{number % 2}/{number}.png"), image)
    Path("pictures/notes.md").write_text("no picture")
    np.save("more.npy", made_images(2))
    called = succeed("predict", run, "pictures", "more.npy", "--format", "csv", "--top", 2)
    table = list(csv.DictReader(called.out.splitlines()))
    names = ["pictures/sub0/0.png", "pictures/sub0/2.png", "pictures/sub1/1.png", "more.npy[0]", "more.npy[1]"]
    assert [row["input"] for row in table] == names
    assert list(table[0]) == ["input", "label", "probability", "label_2", "probability_2"]
    as_json = succeed("predict", run, "pictures", "more.npy", "--format", "json").lines
    assert [(row["input"], row["label"]) for row in as_json] == [(row["input"], row["label"]) for row in table]
    for row, found in zip(table, as_json, strict=True):
        assert float(row["probability"]) == found["probability"] >= float(row["probability_2"])
    said = succeed("predict", run, "pictures", "-o", "found.csv", "--format", "csv").out
    assert said == "found.csv: 3 lines written\n"
    assert Path("found.csv").read_text().splitlines()[0] == "input,label,probability"
    # Many inputs at once give what each gives alone.
    alone = [line for name in names[:3] for line in succeed("predict", run, name, "--json").lines]
    for one, other in zip(alone, as_json, strict=False):
        assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-6)  # sums in another order


def test_predict_leaves_out_what_cannot_be_read_and_says_so(run):
    Path("pictures").mkdir()
    write_image(Path("pictures/good.png"), made_images(1)[0])
    for number in range(3):
        Path(f"pictures/bad{number}.png").write_bytes(b"no picture")
    called = call("predict", run, "pictures")
    assert called.code == 2
    assert [line.split(":")[0] for line in called.out.splitlines()] == ["pictures/good.png"]
    assert called.err.startswith("error: 3 inputs cannot be used\npictures/bad0.png: ")
    Path("nothing").mkdir()
    assert call("predict", run, "nothing").err == "error: nothing: holds no picture or .npy array to predict for\n"


# ------------------------------------------------------------------------------------------ neighbours and report


def test_neighbours_are_those_of_the_geometry(run):
    geometry = LabelGeometry.load(Path(run, "label_geometry.safetensors"))
    values = succeed("labels", run, "--json").json["nearest"]
    assert list(values) == list("0123456789")
    expected = [{"name": near.name, "score": near.score} for near in geometry.neighbours("4", k=5)]
    assert values["4"] == expected
    assert succeed("labels", run, 4, 7, "--count", 2, "--json").json["nearest"] == {
        label: [near._asdict() for near in geometry.neighbours(label, k=2)] for label in ("4", "7")
    }


def test_neighbours_in_words(run):
    (near,) = succeed("labels", run, 4, "-k", 1, "--json").json["nearest"]["4"]
    called = succeed("labels", run, 4, "-k", 1)
    heading = "(in brackets: probability in the label's soft target)\n"
    assert called.out == f"{heading}4: {near['name']} ({near['score']:.3g})\n"


def test_report_of_a_run_is_one_page(run):
    called = succeed("report", run)
    assert called.out == "run/report.html\n"
    page = Path("run/report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "label_embedding" in page
    first = page
    succeed("report", run)
    assert Path("run/report.html").read_text() == first


# ------------------------------------------------------------------------------------------ folders that move


def test_moved_run_predicts_and_evaluates(run, monkeypatch, tmp_path):
    np.save("x.npy", made_images(2))
    before = [line["probabilities"] for line in succeed("predict", run, "x.npy", "--json").lines]
    Path("deep/er").mkdir(parents=True)
    shutil.move(run, "deep/er/moved")
    monkeypatch.chdir("deep")
    after = succeed("predict", "er/moved", "../x.npy", "--json").lines
    assert [line["probabilities"] for line in after] == before
    assert after[0]["input"] == "../x.npy[0]"
    measured = succeed("evaluate", "er/moved", "--data", tmp_path / "mnist", "--json").json
    assert measured["nll"] == result_of("er/moved")["test"]["nll"]


def test_run_with_a_saved_geometry_keeps_its_own_copy(made, run, monkeypatch):
    shutil.copy(Path(run, "label_geometry.safetensors"), "mine.safetensors")
    words = ["mnist-mlp", "--data", made / "mnist", *SMALL, "--set", "epochs=4", "--out", "fixed"]
    words += ["--objective", "label_embedding:embedding=mine.safetensors"]
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert call("train", *words).code == 130
    Path("mine.safetensors").unlink()
    shutil.move("fixed", "moved")
    resumed = succeed("resume", "moved", "--json").json
    assert resumed["epochs"] == 4
    assert resumed["parameters"] == 20 * 8 + 8 + 8 * 10 + 10  # no second output layer, and E is not trained
    np.save("x.npy", made_images(2))
    assert len(succeed("predict", "moved", "x.npy", "--json").lines) == 2
    assert succeed("evaluate", "moved", "--json").json["nll"] == resumed["test"]["nll"]
    learned, again = (succeed("labels", folder, "--json").json["nearest"] for folder in (run, "moved"))
    assert learned == again
    assert "embedding: embedding.safetensors" in Path("moved/recipe.yaml").read_text()


def test_saved_geometry_of_another_size_is_refused_before_anything_is_written(made, tmp_path):
    LabelGeometry(tuple("abc"), similarities=torch.eye(3)).save(tmp_path / "three.safetensors")
    before = listing(tmp_path)
    variant = "label_embedding:embedding=three.safetensors"
    for words in (["train", "--objective", variant], ["compare", "--objectives", f"one_hot,{variant}"]):
        called = call(words[0], "mnist-mlp", "--data", made / "mnist", *SMALL, *words[1:])
        assert called.code == 2
        assert "embedding: must have 10 labels as the data has, got 3" in called.err
        assert listing(tmp_path) == before


def test_arrays_are_trained_on_and_predicted():
    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int64)
    arrays = {"train_inputs": inputs, "train_labels": labels, "test_inputs": inputs, "test_labels": labels}
    np.savez("mine.npz", names=np.array(["low", "high"]), **arrays)
    Path("mine.yaml").write_text(
        "data: vectors\nmodel: {name: mlp, hidden_sizes: [16]}\nobjective: one_hot\nepochs: 30\nbatch_size: 8\n"
        "optimizer: {name: adam, learning_rate: 0.03}\n"
    )
    values = succeed("train", "mine.yaml", "--data", "mine.npz", "--out", "run", "--quiet", "--json").json
    assert values["selected_by"] == "last epoch"
    assert values["validation"] is None
    assert values["test"]["error"] < 0.05  # a line separates them
    np.save("new.npy", np.array([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=np.float32))
    assert [row["label"] for row in succeed("predict", "run", "new.npy", "--json").lines] == ["high", "low"]
    heading = "(in brackets: minus the Euclidean distance between class means)"
    assert call("labels", "run").out.splitlines()[0] == heading
    np.savez("whole.npz", inputs=inputs[:7], labels=labels[:7])
    measured = succeed("evaluate", "run", "--data", "whole.npz").out
    assert measured.startswith("arrays in whole.npz, all 7 examples\n")
