"""R9: checkpoints and run folders made to harm: our own errors only, little memory, no code, nothing outside."""

from __future__ import annotations

import json
import os
import random
import shutil
import traceback
from collections import Counter
from pathlib import Path

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.report import write_card, write_report
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from tests.made_checkpoints import vouch_for
from tests.made_cli import call, listing
from tests.made_evidence import leave_errors
from tests.made_hostile import RECIPES, mutated_file, pickle_bomb, read_everything, write_runs
from tests.made_runs import embedding_geometry, fail_run, make_comparison, run_path
from tests.made_training import train
from tests.made_watching import watched
from tests.reliability.figures import sized

CASES = sized(short=150, full=1_000)
LABELS = ("cat", "dog", "car", "ship")


def read(folder: Path, recipe: Recipe) -> None:
    read_everything(RunFolder(folder))


def neighbours(folder: Path, recipe: Recipe) -> None:
    geometry = RunFolder(folder).label_geometry()
    geometry.neighbours_of(geometry.names)


# Of a hundred times how often, with which folder, and what is done: the slow ones less.
WAYS = [
    (42, "half", "load_newest", lambda folder, recipe: load_newest(folder / "checkpoints")),
    (5, "half", "resume", lambda folder, recipe: train(recipe, folder)),
    (13, "half", "readers", read),
    (16, "done", "readers", read),
    (13, "done", "geometry", neighbours),
    (5, "done", "weights", lambda folder, recipe: SavedRun.load(folder)),
    (2, "done", "card", lambda folder, recipe: write_card(folder)),
    (1, "done", "report", lambda folder, recipe: write_report(folder)),
    (3, "comparison", "report", lambda folder, recipe: write_report(folder)),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of `write_runs`, each recipe with a comparison in which everything stands that a page shows."""
    place = write_runs(tmp_path_factory.mktemp("runs"))
    for name in RECIPES:
        geometry = {"label_embedding": {0: embedding_geometry(LABELS, seed=0)}}
        errors = {"one_hot": {0: 0.2, 1: 0.25}, "label_embedding": {0: 0.1}}
        path = make_comparison(place / name / "comparison", errors, geometry=geometry)
        fail_run(run_path(path, "label_embedding", 1), "diverged: the loss is nan", seed=1)
        leave_errors(run_path(path, "one_hot", 0), [(0, 1, 3), (2, 3, 1)], labels=4)
    return place


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def damaged_copy(run: Path, to: Path, chance: random.Random, bomb: bytes) -> str:
    """Copies a run with one file damaged; nine times in ten the SHA-256 of a checkpoint fits the damage."""
    shutil.copytree(run, to)
    file = to / chance.choice(files_of(run))
    file.write_bytes(mutated_file(file.name, file.read_bytes(), chance, bomb))
    if file.parent.name == "checkpoints" and chance.random() < 0.9:
        file = vouch_for(file)
    return str(file.relative_to(to))


def test_damaged_folders_are_refused_or_read(runs, tmp_path, figure):
    outside, folder = tmp_path / "outside", tmp_path / "copy"
    outside.mkdir()
    bomb, cache = pickle_bomb(outside / "sentinel"), Path(os.environ["LABELEMBED_CACHE"])
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(CASES):
        chance = random.Random(number)
        name = chance.choice(list(RECIPES))
        _, which, way, do = chance.choices(WAYS, [often for often, *_ in WAYS])[0]
        file = damaged_copy(runs / name / which, folder, chance, bomb)
        with watched(folder, cache) as told:
            try:
                do(folder, RECIPES[name])
                seen[f"read by {way}"] += 1
            except LabelEmbedError as error:
                seen["refused"] += 1
                told += ["a long message"] if len(str(error)) > 2500 else []
            except BaseException:
                told.append(traceback.format_exc(limit=-4))
        shutil.rmtree(folder)
        told += map(str, outside.iterdir())
        wrong += [f"{number}: {name}, {file}, {way}\n" + "\n".join(told)] if told else []
    print("\n\n".join(wrong[:8]))
    figure.count("damaged run folders refused by our own errors, or read", seen.total(), CASES)
    assert wrong == []
    assert seen["refused"] > CASES / 20
    assert seen["read by report"] > 0


READING = (["resume"], ["evaluate"], ["labels"], ["export", "--format", "card"])


@pytest.mark.parametrize("which", ["half", "done"])
def test_pickle_under_every_name_is_never_loaded(which, runs, tmp_path, figure):
    run = runs / "label embedding" / which
    names = list({name.name: name for name in files_of(run)}.values())  # of all checkpoints the newest
    for name in names:
        folder = tmp_path / name.name
        shutil.copytree(run, folder)
        (folder / name).write_bytes(pickle_bomb(tmp_path / "sentinel"))
        if name.parts[0] == "checkpoints":
            vouch_for(folder / name)
        with watched(folder, Path(os.environ["LABELEMBED_CACHE"])) as done:
            for subcommand, *words in READING:
                called = call(subcommand, folder, *words)
                assert called.code in (0, 2), called.err
                assert "Traceback" not in called.err
        assert (done, (tmp_path / "sentinel").exists()) == ([], False), name
    figure.count("pickles under every name never loaded", len(names), len(names))


LINKS = ("recipe.yaml", "result.json", "model.safetensors", "diagnostics", "diagnostics/errors.json", "checkpoints")
LINKS += ("checkpoints/step-9999999999", "translations", ".lock")


@pytest.mark.parametrize("name", LINKS)
def test_link_out_of_the_folder_is_refused_and_not_followed(name, runs, tmp_path, figure):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(runs / "label embedding" / "half", folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("precious")
    path.symlink_to(outside)
    before = listing(tmp_path)
    for subcommand, *words in READING:
        called = call(subcommand, folder, *words)
        assert called.code == 2, subcommand
        assert f"{name}: is a link that leads out of the run folder" in called.err
    assert listing(tmp_path) == before
    figure.count("links out of the folder not followed", 1, 1)


def test_nothing_is_written_through_a_link_in_the_place_of_a_temporary_file(runs, tmp_path, figure):
    folder = shutil.copytree(runs / "label embedding" / "half", tmp_path / "run")
    (tmp_path / "precious").write_text("precious")
    names = ("history.jsonl", "result.json", "model.safetensors")
    for name in names:
        (folder / f".{name}.writing").symlink_to(tmp_path / "precious")
        with pytest.raises(RunFolderError, match="leads out"):
            train(RECIPES["label embedding"], folder)
        (folder / f".{name}.writing").unlink()
    assert (tmp_path / "precious").read_text() == "precious"
    figure.count("nothing written through links", len(names), len(names))


def test_comparison_of_a_folder_elsewhere_is_refused(tmp_path):
    for name in ("../../outside", "/etc", "a/b", ""):
        variant = {"name": "a", "folder": name, "objective": {"name": "one_hot"}}
        about = {"format": 1, "recipe": "r", "baseline": "a", "seeds": [0], "variants": [variant]}
        (tmp_path / "comparison.json").write_text(json.dumps(about))
        with pytest.raises(RunFolderError, match="the name of a folder"):
            write_report(tmp_path)
