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
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report import write_card, write_report
from labelembed.lab.runs.saved_run import SavedRun
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from tests.made_checkpoints import vouch_for
from tests.made_cli import call, listing
from tests.made_hostile import mutated_file, pickle_bomb
from tests.made_hostile_runs import RECIPES, files_of, read_everything, write_runs
from tests.made_training import no_flush, one_thread, train  # noqa: F401
from tests.made_watching import watched
from tests.reliability.figures import sized

CASES = sized(short=150, full=10_000)


def call_refuses_or_works(*words: object) -> None:
    called = call(*words)
    assert called.code in (0, 1, 2), called.err
    assert "Traceback" not in called.err


def neighbours(geometry: LabelGeometry) -> object:
    return geometry.neighbours_of(geometry.names)


# What is done with a folder, and how often of a hundred: the slow ones less.
UNFINISHED = {
    "load_newest": (70, lambda folder, recipe: load_newest(folder / "checkpoints")),
    "resume": (8, lambda folder, recipe: train(recipe, folder)),
    "readers": (22, lambda folder, recipe: read_everything(RunFolder(folder))),
}
FINISHED = {
    "readers": (40, lambda folder, recipe: read_everything(RunFolder(folder))),
    "geometry": (35, lambda folder, recipe: neighbours(RunFolder(folder).label_geometry())),
    "weights": (15, lambda folder, recipe: SavedRun.load(folder)),
    "card": (5, lambda folder, recipe: write_card(folder)),
    "neighbours": (5, lambda folder, recipe: call_refuses_or_works("labels", folder)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"))


def damaged_copy(run: Path, to: Path, chance: random.Random, bomb: bytes) -> str:
    """Copies a run with one file damaged; nine times in ten the SHA-256 of a checkpoint fits the damage."""
    shutil.copytree(run, to)
    file = to / chance.choice(files_of(run))
    file.write_bytes(mutated_file(file.name, file.read_bytes(), chance, bomb))
    if file.parent.name == "checkpoints" and chance.random() < 0.9:
        file = vouch_for(file)
    return str(file.relative_to(to))


# What 10,000 cases have found, so that the short form looks for it too.
FOUND = (931776615870744, 18605858, 40770591, 14282162, 4690673)


def test_damaged_folders_are_refused_or_read(runs, tmp_path_factory, figure):
    place = tmp_path_factory.mktemp("hostile")
    outside = place / "outside"
    outside.mkdir()
    bomb = pickle_bomb(outside / "sentinel")
    seen: Counter[str] = Counter()
    errors: list[str] = []
    cache = Path(os.environ["LABELEMBED_CACHE"])

    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # a case is no smaller for a smaller number
    )
    @example(FOUND[0])
    @example(FOUND[1])
    @example(FOUND[2])
    @example(FOUND[3])
    @example(FOUND[4])
    @given(st.integers(0, 2**63))
    def refused_or_read(number):
        chance = random.Random(number)
        name = chance.choice(list(RECIPES))
        half = chance.random() < 0.6
        ways = UNFINISHED if half else FINISHED
        way = chance.choices(list(ways), [often for often, _ in ways.values()])[0]
        folder = place / "copy"
        file = damaged_copy(runs / name / ("half" if half else "done"), folder, chance, bomb)
        with watched(folder, cache) as told:
            try:
                ways[way][1](folder, RECIPES[name])
                seen["read"] += 1
            except LabelEmbedError as error:
                seen["refused"] += 1
                told += ["a long message"] if len(str(error)) > 2500 else []
            except BaseException:
                told.append(traceback.format_exc(limit=-4))
        shutil.rmtree(folder)
        told += map(str, outside.iterdir())
        if told:
            errors.append("\n".join([f"{number}: {name}, {file}, {way}", *told]))

    refused_or_read()
    print("\n\n".join(errors[:8]))
    figure.count(
        "damaged run folders refused by our own errors, or read", seen["read"] + seen["refused"], CASES + len(FOUND)
    )
    assert errors == []
    assert seen["refused"] > CASES / 20


# ------------------------------------------------------------------------------------------------ each file a pickle


@pytest.mark.parametrize("which", ["half", "done"])
def test_pickle_under_every_name_is_never_loaded(which, runs, tmp_path, figure):
    run = runs / "label embedding" / which
    names = files_of(run)
    names = sized(short=list({name.name: name for name in names}.values()), full=names)  # of all checkpoints the newest
    refused = 0
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        (folder / name).write_bytes(pickle_bomb(tmp_path / "sentinel"))
        if name.parts[0] == "checkpoints":
            vouch_for(folder / name)
        card = ["export", folder, "--format", "card"]
        with watched(folder, Path(os.environ["LABELEMBED_CACHE"])) as done:
            for words in (["resume", folder], ["evaluate", folder], ["labels", folder], card):
                called = call(*words)
                assert called.code in (0, 2), called.err
                assert "Traceback" not in called.err
        assert done == [], name
        refused += not (tmp_path / "sentinel").exists()
    figure.count("pickles under every name never loaded", refused, len(names))


# ------------------------------------------------------------------------------------------------ out of the folder


def linked(folder: Path, name: str, target: Path) -> None:
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


LINKS = (
    "recipe.yaml", "environment.json", "history.jsonl", "result.json", "model.safetensors",
    "label_geometry.safetensors",
    "class_means.safetensors", "diagnostics", "diagnostics/errors.json",
    "diagnostics/examples.safetensors", "checkpoints", "checkpoints/step-9999999999",
    "translations", ".lock",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_link_out_of_the_folder_is_refused_and_not_followed(name, runs, tmp_path, figure):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(runs / "label embedding" / "half", folder)
    kept = runs / "label embedding" / ("half" if (folder / name).exists() else "done") / name
    if name == ".lock":
        outside.mkdir()
        (outside / name).write_text("precious")
    elif kept.is_file():
        outside.mkdir()
        shutil.copy(kept, outside / kept.name)
    else:
        shutil.copytree(kept if kept.is_dir() else folder / "checkpoints", outside)
    linked(folder, name, outside / kept.name if (outside / kept.name).is_file() else outside)
    before = listing(outside)
    with watched(folder, Path(os.environ["LABELEMBED_CACHE"])) as done:
        for words in (
            ["resume", folder],
            ["evaluate", folder],
            ["labels", folder],
            ["export", folder, "--format", "card"],
            ["report", folder],
        ):
            called = call(*words)
            assert called.code == 2, words
            assert f"{name}: is a link that leads out of the run folder" in called.err
    assert done == []
    assert listing(outside) == before
    figure.count("links out of the folder not followed", 1, 1)


def test_link_within_the_folder_is_followed(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "label embedding" / "done", folder)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    (folder / "model.safetensors").symlink_to("weights.safetensors")
    SavedRun.load(folder)
    (tmp_path / "link").symlink_to(folder)  # to a whole run
    SavedRun.load(tmp_path / "link")


TEMPORARY = (".recipe.yaml", ".history.jsonl", ".result.json", ".model.safetensors", ".label_geometry.safetensors")


@pytest.mark.parametrize("name", TEMPORARY)
def test_nothing_is_written_through_a_link_in_the_place_of_a_temporary_file(name, runs, tmp_path, figure):
    folder = tmp_path / "run"
    shutil.copytree(runs / "label embedding" / "half", folder)
    (tmp_path / "precious").write_text("precious")
    (folder / f"{name}.writing").symlink_to(tmp_path / "precious")
    train(RECIPES["label embedding"], folder)
    assert (tmp_path / "precious").read_text() == "precious"
    assert RunFolder(folder).state() == "finished"
    figure.count("nothing written through links", 1, 1)


def test_comparison_of_a_folder_elsewhere_is_refused(tmp_path):
    (tmp_path / "c").mkdir()
    for name in ("../../outside", "/etc", "..", "a/b", ""):
        variant = {"name": "a", "folder": name, "objective": {"name": "one_hot"}}
        about = {"format": 1, "recipe": "r", "baseline": "a", "seeds": [0], "variants": [variant]}
        (tmp_path / "c" / "comparison.json").write_text(json.dumps(about))
        with pytest.raises(RunFolderError, match="the name of a folder"):
            write_report(tmp_path / "c")
