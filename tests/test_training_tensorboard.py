"""What TensorBoard shows is the journal, of a resumed run too."""

from __future__ import annotations

import sys

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.runs.run_setup import start_over
from labelembed.training.progress import Progress
from labelembed.training.tensorboard import journal_logged, log_journal
from tests.made_cli import SMALL, call, succeed
from tests.made_data import write_idx_folder
from tests.made_runs import journal_lines, make_run, measures
from tests.made_tensorboard import journal_for_tensorboard, tensorboard_shows


def watched(folder, lines, *, asked=True, warn=pytest.fail):
    """Ends these epochs as the loop does: into the journal, then to who watches. Returns what was seen after each."""
    seen = []
    with journal_logged(folder, seen.append, asked=asked, warn=warn) as watch:
        for line in lines:
            folder.append_journal(line)
            watch(Progress(line["epoch"], 9, 0, 1, 1.0, line))
    return seen


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    return make_run(tmp_path / "run", test=measures(0.5))


def test_epochs_are_those_of_the_journal(folder):
    seen = watched(folder, journal_lines([0.5, None, 0.25]))
    assert [progress.epoch for progress in seen] == [1, 2, 3]
    assert tensorboard_shows(folder.path) == journal_for_tensorboard(folder.path)
    assert [step for step, _ in tensorboard_shows(folder.path)["test/error"]] == [1, 3]
    assert {"train/total", "train/output", "validation/nll", "learning_rate", "seconds"} <= tensorboard_shows(
        folder.path
    ).keys()


def test_resumed_run_has_each_step_once(folder):
    lines = journal_lines([0.5, 0.4, 0.3, 0.2])
    watched(folder, lines[:3])
    folder.keep_journal(1)  # the checkpoint was of epoch 1
    again = journal_lines([0.5, 0.45, 0.35, 0.25])
    watched(folder, again[1:], asked=False)
    assert tensorboard_shows(folder.path) == journal_for_tensorboard(folder.path)
    assert [step for step, _ in tensorboard_shows(folder.path)["test/error"]] == [1, 2, 3, 4]


def test_epoch_that_a_kill_kept_from_the_log_is_there_after_resuming(folder):
    watched(folder, journal_lines([0.5]))
    folder.append_journal(journal_lines([0.5, 0.4])[1])  # killed before the log was written
    watched(folder, journal_lines([0.5, 0.4, 0.3])[2:])
    assert [step for step, _ in tensorboard_shows(folder.path)["test/error"]] == [1, 2, 3]


def test_reader_that_has_read_the_old_file_forgets_it(folder):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    watched(folder, journal_lines([0.5, 0.4, 0.3]))
    accumulator = reading.EventAccumulator(str(folder.path / "tensorboard"))
    accumulator.Reload()
    folder.keep_journal(1)
    watched(folder, journal_lines([0.5, 0.1])[1:])
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("test/error")] == [1, 2]


def test_no_log_where_none_was_asked_for(folder):
    watched(folder, journal_lines([0.5]), asked=False)
    assert not (folder.path / "tensorboard").exists()


def test_ended_run_gets_its_log_later_once(folder):
    for line in journal_lines([0.5, 0.25]):
        folder.append_journal(line)
    log_journal(folder.path)
    assert tensorboard_shows(folder.path) == journal_for_tensorboard(folder.path)
    files = sorted((folder.path / "tensorboard").iterdir())
    log_journal(folder.path)
    assert sorted((folder.path / "tensorboard").iterdir()) == files
    start_over(folder.path)
    assert not (folder.path / "tensorboard").exists()


def test_log_unasked_without_tensorboard_is_left_with_a_word(folder, monkeypatch):
    watched(folder, journal_lines([0.5]))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = []
    assert len(watched(folder, journal_lines([0.5, 0.4])[1:], asked=False, warn=said.append)) == 1
    assert said == [f"{folder.path / 'tensorboard'} stays as it is: tensorboard is not installed (extra track)"]
    with pytest.raises(LabelEmbedError, match=r"pip install 'labelembed\[track\]'"):
        watched(folder, [])


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_option_without_tensorboard_exits_2_before_anything_is_written(verb, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    called = call(verb, "digits-mlp", "--tensorboard", "--out", tmp_path / "out")
    assert called.code == 2
    assert "pip install 'labelembed[track]'" in called.err
    assert not (tmp_path / "out").exists()


def test_train_and_compare_leave_the_log(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.chdir(tmp_path)
    write_idx_folder(tmp_path / "mnist")
    train = ["train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "run"]
    succeed(*train, "--tensorboard")
    assert tensorboard_shows(tmp_path / "run") == journal_for_tensorboard(tmp_path / "run")
    compare = ["compare", "mnist-mlp", "--data", "mnist", *SMALL, "--objectives", "one_hot", "--out", "compared"]
    succeed(*compare, "--seeds", "1", "--jobs", "1")
    runs = tmp_path / "compared" / "runs" / "one_hot"
    assert not (runs / "seed-0" / "tensorboard").exists()
    succeed(*compare, "--seeds", "2", "--jobs", "1", "--tensorboard")
    for seed in (0, 1):
        assert len(tensorboard_shows(runs / f"seed-{seed}")["validation/error"]) == 2
        assert tensorboard_shows(runs / f"seed-{seed}") == journal_for_tensorboard(runs / f"seed-{seed}")
