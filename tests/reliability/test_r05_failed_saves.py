"""R5: a save that fails stops the run at once, with the folder and the reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from labelembed.errors import TrainingError
from tests.made_checkpoints import assert_loads, failing, save


@pytest.fixture
def two(tmp_path):
    """Two checkpoints, of steps 1 and 2; returns the folder and the newer one."""
    return tmp_path / "checkpoints", save(tmp_path / "checkpoints", 1, 2)


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
