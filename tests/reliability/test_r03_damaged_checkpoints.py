"""R3: damage of any kind to the newest checkpoint is seen and named, and the one before is used."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from tests.made_checkpoints import assert_loads, save
from tests.made_training import checkpoint_names, contents, differences, small_recipe, stop_after, train
from tests.reliability.figures import sized

# Of a run's newest checkpoint, all files together; what is cut or flipped is spread evenly over them.
TRUNCATIONS = sized(short=16, full=64)
FLIPPED_BITS = sized(short=48, full=256)
RESUMED = sized(short=3, full=24)
GROUPS = ["best", "network", "optimizer"]


def test_damaged_newer_ones_never_push_out_what_was_just_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 10, 20, 30, keep=3)
    for step in (20, 30):
        (folder / f"step-00000000{step}" / "manifest.json").unlink()
    assert_loads(folder, 10, damaged=2)
    save(folder, 11)  # as the run does that went on from step 10
    assert_loads(folder, 11)
    assert sorted(os.listdir(folder)) == ["step-0000000010", "step-0000000011"]


def test_folder_of_a_save_that_was_killed_is_not_looked_at_and_goes_with_the_next_save(two_checkpoints):
    folder, path = two_checkpoints
    shutil.copytree(path, folder / ".tmp-1234-3")
    assert_loads(folder, 2)
    save(folder, 3)
    assert sorted(os.listdir(folder)) == ["step-0000000002", "step-0000000003"]


# ---- the checkpoint of a run


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory):
    """A run with the checkpoints of steps 10 and 12, and what the unbroken one leaves."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        train(small_recipe(), folder / "unbroken")
        stop_after(small_recipe(), folder / "run", 12)
    assert checkpoint_names(folder / "run") == ["step-0000000010", "step-0000000012"]
    return folder / "run", contents(folder / "unbroken")


def damaged_files(path, before):
    """Yields what may happen to the files of a checkpoint: (kind, file, its content then, None for no file)."""
    chance = random.Random("damage")
    files = {file.name: file.read_bytes() for file in sorted(path.iterdir())}
    assert {"manifest.json", "state.json"} | {f"{group}.safetensors" for group in GROUPS} == set(files)
    names = list(files)
    for number in range(TRUNCATIONS):
        name = names[number % len(names)]
        # First nothing is left, then all but the last bytes (the line's end of a manifest says nothing).
        ends = [0, len(files[name]) - 2][number // len(names) :][:1]
        yield "truncated", name, files[name][: ends[0] if ends else chance.randrange(len(files[name]) - 1)]
    for number in range(FLIPPED_BITS):
        name = names[number % len(names)]
        bit = chance.randrange(8 * len(files[name]))
        flipped = bytearray(files[name])
        flipped[bit // 8] ^= 1 << bit % 8
        yield "bit flipped", name, bytes(flipped)
    for name in names:
        yield "of zeros", name, bytes(len(files[name]))
        yield "missing", name, None
        if (other := (before / name).read_bytes()) != files[name]:  # the best weights may be those of before
            yield "of another checkpoint", name, other
    version = files["manifest.json"].index(b'"format": 1') + len('"format": ')
    for bit in range(8):  # three of them make it the manifest of a newer version
        flipped = bytearray(files["manifest.json"])
        flipped[version] ^= 1 << bit
        yield "format flipped", "manifest.json", bytes(flipped)


def spoil(path, name, content):
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)


def test_every_damage_to_the_newest_checkpoint_is_seen_and_named_and_the_one_before_is_loaded(
    broken_off, tmp_path, figure
):
    run, _ = broken_off
    older, path = (run / "checkpoints" / f"step-00000000{step}" for step in (10, 12))
    folder = tmp_path / "checkpoints"
    shutil.copytree(older, folder / older.name)
    expected, _ = load_newest(folder)
    cases = list(damaged_files(path, older))
    assert len(cases) > TRUNCATIONS + FLIPPED_BITS
    seen = silent = 0
    for kind, name, content in cases:
        shutil.copytree(path, folder / path.name)
        assert load_newest(folder)[0].step == 12
        spoil(folder / path.name, name, content)
        found, lines = load_newest(folder)
        silent += found is not None and found.step == 12
        if found is not None and found.step == 10 and len(lines) == 1:
            assert lines[0].startswith(f"{folder / path.name}: "), lines
            # Where the manifest is another's, whole in itself, it is the files that are not as it says.
            assert name in lines[0] or (kind, name) == ("of another checkpoint", "manifest.json"), (kind, lines)
            assert found.values == expected.values
            seen += all(
                value.numpy().tobytes() == found.tensors[group][key].numpy().tobytes()
                for group, tensors in expected.tensors.items()
                for key, value in tensors.items()
            )
        shutil.rmtree(folder / path.name)
    figure.count("damages seen, named and passed over", seen, len(cases))
    figure.at_most("damaged checkpoints loaded", silent, 0)


@pytest.mark.usefixtures("no_flush")
def test_run_with_a_damaged_newest_checkpoint_ends_as_the_unbroken_one(broken_off, tmp_path, figure):
    run, expected = broken_off
    older, path = (run / "checkpoints" / f"step-00000000{step}" for step in (10, 12))
    cases = list(damaged_files(path, older))
    cases = random.Random("resumed").sample(cases, RESUMED)
    same = 0
    for number, (_, name, content) in enumerate(cases):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        spoil(folder / "checkpoints" / path.name, name, content)
        warnings = []
        train(small_recipe(), folder, warn=warnings.append)
        assert len(warnings) == 1
        assert f"{path.name}: " in warnings[0]
        same += differences(contents(folder), expected) == []
    figure.count("runs that went on from the one before, ended bit-equal", same, len(cases))


@pytest.mark.usefixtures("no_flush")
def test_run_of_which_no_checkpoint_is_whole_says_so_and_begins_anew(broken_off, tmp_path):
    run, expected = broken_off
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for path in (folder / "checkpoints").iterdir():
        (path / "network.safetensors").write_bytes(b"")
    warnings = []
    train(small_recipe(), folder, warn=warnings.append)
    assert ["step-0000000012" in warnings[0], "step-0000000010" in warnings[1]] == [True, True]
    assert warnings[2:] == [f"{folder}: none of its checkpoints is whole; the run starts over"]
    assert differences(contents(folder), expected) == []
    assert [line["epoch"] for line in RunFolder(folder).history()] == [1, 2, 3]
