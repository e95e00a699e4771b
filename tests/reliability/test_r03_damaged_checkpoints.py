"""R3: damage of any kind to the newest checkpoint is seen and named, and the one before is used."""

from __future__ import annotations

import random
import shutil

import pytest

from labelembed.lab.training.checkpoints import load_newest
from tests.made_checkpoints import save, steps_in
from tests.made_training import contents, differences, small_recipe, stop_after, train
from tests.reliability.figures import sized

TRUNCATIONS = sized(short=16, full=64)
FLIPPED_BITS = sized(short=48, full=256)
RESUMED = sized(short=3, full=24)


def test_damaged_newer_ones_never_push_out_what_was_just_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 10, 20, 30, keep=3)
    for path in sorted(folder.iterdir())[1:]:
        path.write_bytes(b"")
    checkpoint, damaged = load_newest(folder)
    assert (checkpoint.step, len(damaged)) == (10, 2)
    save(folder, 11)  # as the run does that went on from step 10
    assert load_newest(folder)[0].step == 11
    assert steps_in(folder) == [10, 11]


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """A run with the checkpoints of steps 10 and 12, and what the unbroken one leaves."""
    folder = tmp_path_factory.mktemp("runs")
    train(small_recipe(), folder / "unbroken")
    stop_after(small_recipe(), folder / "run", 12)
    assert steps_in(folder / "run" / "checkpoints") == [10, 12]
    return folder / "run", contents(folder / "unbroken")


def damages(content, before):
    """Yields what the newest checkpoint may hold instead, spread evenly over it."""
    chance = random.Random("damage")
    for end in [0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(TRUNCATIONS - 2))]:
        yield content[:end]
    for _ in range(FLIPPED_BITS):
        place = chance.choice((chance.randrange(2000), chance.randrange(len(content))))  # the header is small
        yield content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    yield bytes(len(content))
    yield before


def test_every_damage_to_the_newest_checkpoint_is_seen_and_named_and_the_one_before_is_loaded(
    broken_off, tmp_path, figure
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(broken_off[0] / "checkpoints", folder)
    older, path = sorted(folder.iterdir())
    content = path.read_bytes()
    assert load_newest(folder)[0].step == 12
    cases = list(damages(content, older.read_bytes()))
    seen = 0
    for damaged in cases:
        path.write_bytes(damaged)
        checkpoint, lines = load_newest(folder)
        seen += checkpoint.step == 10 and len(lines) == 1 and lines[0].startswith(f"{path}: ")
    figure.count("damages seen, named and passed over", seen, len(cases))


def test_run_with_a_damaged_newest_checkpoint_ends_as_the_unbroken_one(broken_off, tmp_path, figure):
    run, expected = broken_off
    older, path = sorted((run / "checkpoints").iterdir())
    cases = random.Random("resumed").sample(list(damages(path.read_bytes(), older.read_bytes())), RESUMED)
    same = 0
    for number, damaged in enumerate([*cases, None]):
        folder, warnings = tmp_path / str(number), []
        shutil.copytree(run, folder)
        for one in (folder / "checkpoints").iterdir() if damaged is None else [folder / "checkpoints" / path.name]:
            one.write_bytes(damaged or b"")
        train(small_recipe(), folder, warn=warnings.append)
        assert path.name in warnings[0]
        assert len(warnings) == (1 if damaged is not None else 3)  # of none whole also that it starts over
        same += differences(contents(folder), expected) == []
    figure.count("runs that went on from the one before, ended bit-equal", same, len(cases) + 1)
