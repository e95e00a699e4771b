"""R4: a full disk leaves the last checkpoint whole, says what is needed and what is free, and the run can go on."""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path

import pytest

from labelembed.errors import TrainingError
from labelembed.training.run_folder import RunFolder
from tests.made_checkpoints import assert_loads, failing, save
from tests.made_training import (
    checkpoint_names,
    contents,
    differences,
    kill_after,
    newest,
    one_thread,  # noqa: F401
    small_recipe,
    train,
)

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
