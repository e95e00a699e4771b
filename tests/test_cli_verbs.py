"""What every subcommand does, prints and leaves, and that its own examples run."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main

import labelembed
from labelembed.errors import LabelEmbedError
from labelembed.lab import cli
from labelembed.lab.cli.options import use_device
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import SMALL, call, listing, succeed
from tests.made_corpus import made_pairs, write_example_text, write_text
from tests.made_corpus_runs import sequence_recipe
from tests.made_data import made_images, write_idx_folder, write_image
from tests.made_in_process import make_runs_here
from tests.made_texts import reviews, write_csv
from tests.made_training import train

MNIST = ["mnist-mlp", "--data", "mnist", *SMALL]
COMMAND = typer.main.get_command(cli.app)
COMMANDS = {name: command for name, command in COMMAND.commands.items() if not command.hidden}
NAMES = ["train", "resume", "compare", "evaluate", "predict", "translate", "labels", "report", "export", "list", "init"]
NAMES += ["check", "preprocess"]


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


def test_help_lists_the_subcommands_and_the_version_is_printed():
    assert len(re.findall(r"^  labelembed ", succeed().out, flags=re.MULTILINE)) == 3
    shown = succeed("--help").out
    assert [line.split()[1] for line in shown.splitlines() if re.match(r"│ [a-z]+  ", line)] == NAMES == list(COMMANDS)
    assert succeed("-h").out == shown
    assert succeed("--version").out == f"labelembed {labelembed.__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_subcommand_has_two_examples_and_says_each_option(name):
    shown, command = succeed(name, "--help").out, COMMANDS[name]
    assert f"Usage: labelembed {name}" in shown
    assert len(re.findall(rf"^ labelembed {name}", shown, flags=re.MULTILINE)) == 2
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", "")] == []


def test_options_are_few_and_spelled_alike():
    options = [one for command in COMMANDS.values() for one in command.params if one.param_type_name == "option"]
    assert len(options) <= 70
    spellings = {}
    for option in options:
        spellings.setdefault(option.opts[0], set()).add(tuple(option.opts))
    assert [name for name, ways in spellings.items() if len(ways) > 1] == []


def test_options_of_their_own_are_settings(made):
    words = ["train", "mnist-mlp", "--data", made / "mnist", *SMALL, "-o", "run"]
    succeed(*words, "--seed", 3, "--epochs=1", "--lr", "0.02", "--batch-size", 5)
    recipe = stored_recipe(RunFolder("run"))
    assert (recipe.seed, recipe.epochs, recipe.batch_size, recipe.optimizer["learning_rate"]) == (3, 1, 5, 0.02)


@pytest.mark.parametrize(("visible", "seen"), [("", "1"), ("4,6", "6")])
def test_device_is_one_of_the_gpus_that_are_visible(visible, seen, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not visible:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert (use_device("cpu"), use_device("cuda:1")) == ("cpu", None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    with pytest.raises(LabelEmbedError, match="CUDA_VISIBLE_DEVICES"):
        use_device("cuda:1")  # of one GPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert use_device("auto") is None
    with pytest.raises(LabelEmbedError, match="no such GPU"):
        use_device("cuda")


@pytest.fixture(scope="module")
def examples_folder(tmp_path_factory):
    """What the examples name: `path/to/mnist`, `picture.png`, and `runs/first` as the example of train makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("examples"))
        make_runs_here(patch)
        images, labels = made_images(5200), np.arange(5200, dtype=np.uint8) % 10
        test = {"test_images": images[:20], "test_labels": labels[:20]}
        write_idx_folder(Path("path/to/mnist"), train_images=images, train_labels=labels, **test)
        write_image(Path("picture.png"), images[0])
        Path("pictures").mkdir()
        write_image(Path("pictures/one.png"), images[1])
        write_example_text(Path())
        write_text(Path("input.txt"), [source for source, _ in made_pairs(3)])
        write_csv(Path("reviews.csv"), reviews(60), "review", "stars")
        for line in (
            "train digits-mlp --out runs/digits",
            "train digits-mlp --objective label_smoothing --out runs/smoothing",
            "train mnist-mlp --data path/to/mnist --out runs/first",
            "compare digits-mlp --objectives one_hot,label_smoothing --seeds 2 --out comparisons/digits-mlp",
        ):
            succeed(*line.split(), *SHORT)
        train(sequence_recipe(Path("made")), Path("runs/en-de"))
        return Path.cwd()


EXAMPLES = [example for command in COMMANDS.values() for example in command.epilog.split("\n\n")[1:]]
# What makes an example take a second.
SHORT = ["--epochs", 1, "--set", "batch_size=20", "--quiet"]
SHORTER = {"train": [*SHORT, "--overwrite"], "compare": [*SHORT, "--seeds", 1, "--jobs", 1]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example, examples_folder, monkeypatch):
    monkeypatch.chdir(examples_folder)
    make_runs_here(monkeypatch)
    name, subcommand, *words = shlex.split(example)
    assert (name, subcommand in NAMES) == ("labelembed", True)
    trials = ["--trials", 1] if "--tuned" in words else []
    assert succeed(subcommand, *words, *SHORTER.get(subcommand, []), *trials).out


def test_check_reads_without_training(made, monkeypatch):
    monkeypatch.chdir(made)
    before = listing(made)
    assert succeed("check", *MNIST[:-1]).out.startswith("mnist-mlp: fine\n")
    facts = succeed("check", *MNIST[:-1], "--json", "--set", "epochs=7").json
    assert (facts["epochs"], facts["input_shape"], facts["seconds"] < 60) == (7, [1, 4, 5], True)
    assert facts["parameters"] == 448  # 20 * 8 + 8, two output layers of 8 * 10 + 10, and E of 10 * 10
    assert listing(made) == before


@pytest.mark.parametrize("file", [None, "result.json", "environment.json", "recipe.yaml"])
def test_overwrite_takes_away_a_finished_or_damaged_run_and_nothing_else(run, file):
    Path("run/mine.txt").write_text("kept")
    if file is not None:
        Path(run, file).write_text("{")
    succeed("train", *MNIST, "--set", "seed=1", "--out", run, "--overwrite")
    assert "seed: 1" in Path("run/recipe.yaml").read_text()
    assert RunFolder(run).state() == "finished"
    assert len(Path("run/history.jsonl").read_text().splitlines()) == 2
    assert Path("run/mine.txt").read_text() == "kept"


def test_overwrite_keeps_the_old_run_when_the_new_one_cannot_begin(run, tmp_path):
    before = listing(tmp_path)
    for wrong in (["--data", "nowhere"], ["--set", "batch_size=0"], ["--objective", "label_embedding:embedding=no"]):
        assert call("train", *MNIST, *wrong, "--out", run, "--overwrite").code == 2
        assert listing(tmp_path) == before


def test_evaluate_gives_the_numbers_of_the_run(made, monkeypatch):
    monkeypatch.chdir(made)
    result = RunFolder("run").result()
    for split in ("test", "validation"):
        values = succeed("evaluate", "run", "--split", split, "--json").json
        assert {name: values[name] for name in result[split]} == result[split]  # to the last digit
        assert (values["split"], values["examples"]) == (split, 10)
        assert values["source"] == f"idx files in {made}/mnist"
    assert succeed("evaluate", "run", "--split", "train", "--json").json["examples"] == 20


def test_predict_agrees_with_the_library(run):
    images = made_images(4, seed=9)
    np.save("inputs.npy", images)
    rows = succeed("predict", run, "inputs.npy", "--json").lines
    probabilities = SavedRun.load(run).probabilities(torch.from_numpy(images).unsqueeze(1))
    assert [list(row["probabilities"].values()) for row in rows] == probabilities.tolist()
    lines = succeed("predict", run, "inputs.npy").out.splitlines()
    for line, row in zip(lines, rows, strict=True):
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
        best = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:3]
        assert line == f"{row['input']}: {', '.join(f'{label} ({share:.1%})' for label, share in best)}"


def test_csv_has_the_columns_of_the_input_with_label_and_probability_added(monkeypatch):
    write_csv(Path("reviews.csv"), reviews(60), "review", "stars")
    succeed("train", "--data", "reviews.csv", "--epochs", 1, "--batch-size", 10, "--quiet", "--out", "run")
    Path("new.csv").write_text('id,review,label\n7,"a fine, lovely film",x\n8,dull,y\n')
    Path("more.csv").write_text("review\nfine\n")
    called = succeed("predict", "run", "new.csv", "more.csv", "--format", "csv", "--probabilities")
    rows = list(csv.DictReader(called.out.splitlines()))
    assert list(rows[0])[:5] == ["id", "review", "label", "predicted_label", "predicted_probability"]
    assert [(row["id"], row["review"]) for row in rows] == [("7", "a fine, lovely film"), ("8", "dull"), ("", "fine")]
    assert rows[0][f"predicted_probability_{rows[0]['predicted_label']}"] == rows[0]["predicted_probability"]
    assert call("predict", "run", "new.csv", "--probabilities").code == 2
    write_csv(Path("reviews.csv"), reviews(62), "review", "stars")  # which of them were trained on nobody knows
    assert "has changed" in call("evaluate", "run").err
    assert succeed("predict", "run", "a text", "--format", "csv").out.startswith("input,label,probability\na text,")


def test_a_comparison_stands_for_its_best_run_by_validation(monkeypatch):
    make_runs_here(monkeypatch)
    write_idx_folder(Path("mnist"))
    words = ["--objectives", "one_hot,label_smoothing", "--seeds", 2]
    shown = succeed("compare", *MNIST, *words, "--out", "compared")
    assert len(shown.out.splitlines()) <= 12
    runs = {path.parent: json.loads(path.read_text())["validation"] for path in Path("compared").rglob("result.json")}
    best = min(sorted(runs), key=lambda folder: (runs[folder]["error"], runs[folder]["nll"]))
    for name in ("evaluate", "labels"):
        called, alone = succeed(name, "compared", "--json"), succeed(name, best, "--json")
        assert f"its best run on the validation set is {best}" in called.err
        assert called.json | {"run": ""} == alone.json | {"run": ""}
    assert "comparison" in call("resume", best, "--epochs", 9).err


def test_predict_leaves_out_what_cannot_be_read_and_says_so(run):
    Path("pictures").mkdir()
    write_image(Path("pictures/good.png"), made_images(1)[0])
    for number in range(3):
        Path(f"pictures/bad{number}.png").write_bytes(b"no picture")
    called = call("predict", run, "pictures")
    assert called.code == 2
    assert [line.split(":")[0] for line in called.out.splitlines()] == ["pictures/good.png"]
    assert called.err.startswith("error: 3 inputs cannot be used\npictures/bad0.png: ")
