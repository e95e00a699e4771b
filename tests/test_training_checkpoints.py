"""Checkpoints: damage of any kind is seen and named, the one before is used, and a failed save breaks nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from labelembed.errors import RunFolderError, TrainingError
from labelembed.objectives import LabelEmbedding
from labelembed.training import checkpoints
from labelembed.training.checkpoints import Checkpoint, load_newest, save_checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS, load_state, state_tensors
from labelembed.training.run_folder import RunFolder
from tests.made_training import (
    checkpoint_names,
    contents,
    differences,
    kill_after,
    newest,
    one_thread,  # noqa: F401
    small_recipe,
    stop_after,
    train,
)

FILES = ["best.safetensors", "manifest.json", "network.safetensors", "state.json"]


def made_checkpoint(step):
    """Returns a checkpoint all of whose values tell its step."""
    weights = {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)}
    return Checkpoint(step, {"network": weights, "best": {"weight": torch.arange(5.0) + step}}, {"sums": [step, 0.1]})


def save(folder, *steps, **arguments):
    for step in steps:
        path = save_checkpoint(folder, made_checkpoint(step), **arguments)
    return path


def assert_loads(folder, step, damaged=0):
    """The newest whole one is that of `step`, value for value; so many newer ones are named as damaged."""
    found, lines = load_newest(folder)
    assert len(lines) == damaged
    expected = made_checkpoint(step)
    assert (found.step, found.values) == (step, expected.values)
    torch.testing.assert_close(found.tensors, expected.tensors, rtol=0, atol=0)
    return lines


@pytest.fixture
def two(tmp_path):
    """Two checkpoints, of steps 1 and 2; returns the folder and the newer one."""
    return tmp_path / "checkpoints", save(tmp_path / "checkpoints", 1, 2)


def test_checkpoint_comes_back_as_it_was_saved(tmp_path):
    tensors = {
        "network": {
            "scalar": torch.tensor(3, dtype=torch.int64),
            "empty": torch.empty(0, 4),
            "view": torch.arange(6.0).view(2, 3).T,
            "bf16": torch.randn(4).bfloat16(),
            "states": torch.arange(256).to(torch.uint8),
        },
        "optimizer": {},
    }
    values = {"position": {"step": 7, "line": None, "score": 0.1 + 0.2}, "text": "naïve ✓"}
    save_checkpoint(tmp_path / "c", Checkpoint(7, tensors, values))
    found, damaged = load_newest(tmp_path / "c")
    assert damaged == []
    assert (found.step, found.values) == (7, values)
    torch.testing.assert_close(found.tensors, tensors, rtol=0, atol=0)


def test_manifest_has_length_and_sha256_of_every_file(two):
    folder, path = two
    assert sorted(file.name for file in path.iterdir()) == FILES
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    for name, about in manifest["files"].items():
        content = (path / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert_loads(folder, 2)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named_and_the_checkpoint_before_is_used(name, two):
    folder, path = two
    (path / name).unlink()
    [line] = assert_loads(folder, 1, damaged=1)
    assert line.startswith(f"{path}: ")
    assert name in line


@pytest.mark.parametrize("name", FILES)
def test_truncation_is_seen_at_any_length(name, two):
    folder, path = two
    content = (path / name).read_bytes()
    for length in sorted({0, 1, 8, len(content) // 2, len(content) - 2}):
        (path / name).write_bytes(content[:length])
        [line] = assert_loads(folder, 1, damaged=1)
        assert str(path) in line
        assert name.removesuffix(".json") in line
    (path / name).write_bytes(content)
    assert_loads(folder, 2)


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_seen(name, two):
    folder, path = two
    content = (path / name).read_bytes()
    chance = random.Random(name)
    for position in chance.sample(range(8 * len(content)), 64):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        (path / name).write_bytes(flipped)
        if name == "manifest.json" and claims_newer_format(flipped):  # the 1 has become 3, 5 or 9
            with pytest.raises(RunFolderError, match="newer labelembed"):
                load_newest(folder)
        else:
            assert_loads(folder, 1, damaged=1)


def claims_newer_format(manifest):
    try:
        return json.loads(manifest)["format"] > 1
    except (ValueError, KeyError):
        return False


@pytest.mark.parametrize("name", FILES)
def test_file_of_zeros_is_seen(name, two):
    folder, path = two
    (path / name).write_bytes(bytes((path / name).stat().st_size))
    assert_loads(folder, 1, damaged=1)


def test_empty_folder_and_file_in_place_of_a_folder_are_seen(two):
    folder, _ = two
    (folder / "step-0000000003").mkdir()
    (folder / "step-0000000004").write_bytes(b"")
    lines = assert_loads(folder, 2, damaged=2)
    assert all("manifest" in line for line in lines)


def test_folder_of_a_save_that_was_killed_is_not_looked_at_and_goes_with_the_next_save(two):
    folder, path = two
    shutil.copytree(path, folder / ".tmp-1234-3")
    assert_loads(folder, 2)
    save(folder, 3)
    assert sorted(os.listdir(folder)) == ["step-0000000002", "step-0000000003"]


def test_file_that_the_manifest_does_not_list_is_not_loaded(two):
    folder, path = two
    shutil.copy(path / "best.safetensors", path / "optimizer.safetensors")
    assert_loads(folder, 2)


def test_nothing_whole_is_nothing_loaded(two):
    folder, _ = two
    for path in folder.glob("step-*/network.safetensors"):
        path.write_bytes(b"damaged")
    found, damaged = load_newest(folder)
    assert found is None
    assert [line.split(":")[0] for line in damaged] == [str(folder / f"step-000000000{step}") for step in (2, 1)]
    assert load_newest(folder / "none here") == (None, [])


def rewrite(path, name, content):
    """Replaces a file of a checkpoint and makes the manifest say that all is well."""
    (path / name).write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(json.dumps(manifest))


class Trap:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path(os.environ["TRAP"]),))


def pickled(kind):
    if kind == "pickle":
        return pickle.dumps(Trap())
    saved = io.BytesIO()
    torch.save({"weight": Trap()}, saved)
    return saved.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
@pytest.mark.parametrize("name", ["network.safetensors", "state.json"])
def test_pickle_is_refused_even_where_the_manifest_vouches_for_it(name, kind, two, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "sprung").exists()  # the trap is one
    (tmp_path / "sprung").unlink()
    folder, path = two
    rewrite(path, name, pickled(kind))
    assert_loads(folder, 1, damaged=1)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b'"text"', b'{"step": null}', b'{"step": "seven"}'])
def test_state_of_another_form_is_refused(content, two):
    folder, path = two
    rewrite(path, "state.json", content)
    assert_loads(folder, 1, damaged=1)


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "files": null}',
        '{"format": 1, "files": {}}',
        '{"format": 1, "files": {"state.json": null}}',
        '{"format": 1, "files": {"state.json": {}}}',
        '{"format": 1, "files": ["state.json"]}',
        '{"format": null, "files": {}}',
        '{"format": "one", "files": {}}',
        '{"format": 0, "files": {}}',
    ],
)
def test_manifest_of_another_form_is_refused(manifest, two):
    folder, path = two
    (path / "manifest.json").write_text(manifest)
    assert_loads(folder, 1, damaged=1)


def test_manifest_of_no_format_is_refused_whatever_it_lists(two):
    folder, path = two
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))  # one bit from 1
    assert_loads(folder, 1, damaged=1)


def test_manifest_cannot_name_a_file_elsewhere(two, tmp_path):
    folder, path = two
    (tmp_path / "elsewhere.safetensors").write_bytes((path / "best.safetensors").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../elsewhere.safetensors"] = manifest["files"]["best.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert_loads(folder, 1, damaged=1)


@pytest.mark.parametrize("files", [{}, {"state.bin": 1}])
def test_newer_format_is_refused_with_the_way_out(files, two):
    folder, path = two
    (path / "manifest.json").write_text(json.dumps({"format": 2, "files": files}))
    with pytest.raises(RunFolderError, match=r"step-0000000002: written by a newer labelembed \(format 2\); update"):
        load_newest(folder)


def test_newest_are_kept(tmp_path):
    save(tmp_path / "two", *range(1, 6))
    assert sorted(os.listdir(tmp_path / "two")) == ["step-0000000004", "step-0000000005"]
    save(tmp_path / "four", *range(8, 13), keep=4)
    assert sorted(os.listdir(tmp_path / "four")) == [f"step-{step:010d}" for step in (9, 10, 11, 12)]


def test_damaged_newer_ones_never_push_out_what_was_just_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 10, 20, 30, keep=3)
    for step in (20, 30):
        (folder / f"step-00000000{step}" / "manifest.json").unlink()
    assert_loads(folder, 10, damaged=2)
    save(folder, 11)  # as the run does that went on from step 10
    assert_loads(folder, 11)
    assert sorted(os.listdir(folder)) == ["step-0000000010", "step-0000000011"]


def test_checkpoint_of_the_same_step_is_replaced(two):
    folder, path = two
    (path / "state.json").write_text("damaged")
    save(folder, 2)
    assert_loads(folder, 2)


# ---- saves that fail


@contextlib.contextmanager
def failing(module, name, *, at, number=errno.ENOSPC):
    """Makes the call of a function with that number fail; yields the list of calls made."""
    real, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            raise OSError(number, os.strerror(number), str(args[0]))
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, name, counted)
        yield calls


# What a save calls to change the disk.
CALLS = {"flush": (os, "fsync"), "rename": (os, "replace"), "open": (Path, "open"), "make folder": (Path, "mkdir")}


@pytest.mark.parametrize("call", CALLS)
def test_full_disk_at_any_call_leaves_the_last_checkpoint_and_says_how_to_go_on(call, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    save(folder, 1, 2)
    with failing(*CALLS[call], at=None) as calls:
        save(folder, 3)
    assert len(calls) >= 2
    for at in range(1, len(calls) + 1):
        with failing(*CALLS[call], at=at), pytest.raises(TrainingError) as error:
            save(folder, 4)
        assert str(error.value).startswith(f"{tmp_path / 'run'}: the disk is full")
        assert f"labelembed resume {tmp_path / 'run'}" in str(error.value)
        if "step-0000000004" in os.listdir(folder):  # the last flush failed, after the rename: the new one is whole
            assert (call, at) == ("flush", len(calls))
            assert_loads(folder, 4)
            shutil.rmtree(folder / "step-0000000004")
        assert sorted(os.listdir(folder)) == ["step-0000000002", "step-0000000003"]
        assert_loads(folder, 3)
    save(folder, 4)
    assert_loads(folder, 4)


def test_full_disk_while_a_file_is_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    class FullFile(io.FileIO):
        room = 0

        def write(self, content):
            FullFile.room -= len(content)
            if FullFile.room < 0:
                super().write(bytes(content)[: len(content) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    folder = tmp_path / "run" / "checkpoints"
    save(folder, 1, 2)
    size = sum(file.stat().st_size for file in (folder / "step-0000000002").iterdir())
    real = Path.open
    for room in range(0, size, size // 7):
        FullFile.room = room
        with monkeypatch.context() as patched:
            patched.setattr(
                Path, "open", lambda path, mode="r", **rest: FullFile(path, mode) if "w" in mode else real(path, mode)
            )
            with pytest.raises(TrainingError, match="the disk is full"):
                save(folder, 3)
        assert sorted(os.listdir(folder)) == ["step-0000000001", "step-0000000002"]
        assert_loads(folder, 2)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")],
)
def test_any_other_failed_save_stops_with_its_reason(number, words, two):
    folder, _ = two
    expected = pytest.raises(TrainingError, match=rf"cannot save \({words}\).*labelembed resume")
    with failing(Path, "mkdir", at=1, number=number), expected:
        save(folder, 3)
    assert_loads(folder, 2)


def test_quota_that_is_used_up_is_a_full_disk(two):
    folder, _ = two
    expected = pytest.raises(TrainingError, match="the disk is full")
    with failing(os, "fsync", at=1, number=errno.EDQUOT), expected:
        save(folder, 3)


def test_run_folder_that_was_removed_stops_the_save(tmp_path):
    (tmp_path / "run").write_text("a file stands where the run folder was")
    with pytest.raises(TrainingError, match="cannot save"):
        save(tmp_path / "run" / "checkpoints", 1)


def test_folder_that_cannot_be_written_stops_the_save(two):
    folder, _ = two
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write into read-only folders")
        with pytest.raises(TrainingError, match="cannot save"):
            save(folder, 3)
    finally:
        folder.chmod(0o700)
    assert_loads(folder, 2)


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_run_on_a_full_disk_fails_by_name_and_goes_on_when_there_is_space(name, tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "unbroken")
    folder = tmp_path / "run"
    kill_after(recipe, folder, 8)
    # The first call is that of the journal, as it is put right; then comes the save after the second epoch.
    with failing(os, name, at=4), pytest.raises(TrainingError, match="the disk is full") as error:
        train(recipe, folder)
    assert error.value.exit_code == 1
    assert RunFolder(folder).state() == "failed"
    assert "labelembed resume" in RunFolder(folder).result()["message"]
    assert newest(folder).step == 5
    assert checkpoint_names(folder) == ["step-0000000005"]
    train(recipe, folder)
    assert differences(contents(folder), contents(tmp_path / "unbroken")) == []


def test_journal_on_a_full_disk_is_a_failed_save_too(tmp_path, monkeypatch):
    recipe = small_recipe()

    def fail(folder, line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "append_journal", fail)
        with pytest.raises(TrainingError, match="the disk is full"):
            train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run")
    assert RunFolder(tmp_path / "run").state() == "finished"


def test_damaged_newest_checkpoint_of_a_run_is_told_and_the_one_before_used(tmp_path):
    recipe = small_recipe()
    train(recipe, tmp_path / "unbroken")
    folder = tmp_path / "run"
    stop_after(recipe, folder, 12)
    assert checkpoint_names(folder) == ["step-0000000010", "step-0000000012"]
    file = folder / "checkpoints" / "step-0000000012" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    warnings = []
    train(recipe, folder, warn=warnings.append)
    assert len(warnings) == 1
    assert "step-0000000012: optimizer.safetensors has" in warnings[0]
    assert differences(contents(folder), contents(tmp_path / "unbroken")) == []


# ---- the optimiser's state


def tiny_network():
    torch.manual_seed(0)
    return Network(nn.Identity(), nn.Linear(4, 3), LabelEmbedding(3, 5))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("adam", {"weight_decay": 0.1, "betas": (0.8, 0.99)}),
        ("adamw", {}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("sgd", {"momentum": 0.0}),
    ],
)
def test_optimizer_state_comes_back_through_files(name, arguments, tmp_path):
    inputs, labels = torch.randn(8, 4), torch.arange(8) % 5

    def step(network, optimizer):
        optimizer.zero_grad()
        network(inputs, labels).total.backward()
        optimizer.step()

    network = tiny_network()
    optimizer = OPTIMIZERS[name](network, **arguments)
    for _ in range(3):
        step(network, optimizer)
    tensors, values = state_tensors(optimizer)
    weights = network.state_dict()
    save_checkpoint(tmp_path / "c", Checkpoint(3, {"network": weights, "optimizer": tensors}, {"optimizer": values}))
    found, _ = load_newest(tmp_path / "c")

    other = tiny_network()
    other.load_state_dict(found.tensors["network"])
    resumed = OPTIMIZERS[name](other, **arguments)
    for group in resumed.param_groups:
        group["lr"] = 123.0  # comes from the files
    load_state(resumed, found.tensors["optimizer"], found.values["optimizer"])
    again, values_again = state_tensors(resumed)
    assert json.loads(json.dumps(values)) == json.loads(json.dumps(values_again))
    torch.testing.assert_close(again, tensors, rtol=0, atol=0)
    for _ in range(2):
        step(network, optimizer)
        step(other, resumed)
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_format_is_the_first():
    assert checkpoints.FORMAT_VERSION == 1  # a new one needs a test that the old one still loads
