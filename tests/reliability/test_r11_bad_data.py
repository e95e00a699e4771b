"""R11: bad data of every kind that is read: right, or one message of `bad_data.txt` with file and row, exit code 2."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from labelembed.objectives import OBJECTIVES
from tests.made_bad_data import write_all
from tests.made_cli import call
from tests.made_objectives import build
from tests.reliability.tables import errors_of, read_table

TABLE = read_table("bad_data.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("data"))
        write_all()
        return Path.cwd()


@pytest.mark.parametrize("bad", TABLE, ids=[bad.words for bad in TABLE])
def test_bad_data_are_told_by_file_and_row_or_read_right(bad, folder, monkeypatch, figure):
    monkeypatch.chdir(folder)
    errors = errors_of(call(*shlex.split(bad.words)), bad.said, folder)
    print("\n".join(errors))
    figure.count("bad data told or read right", int(not errors), 1)


def test_the_table_has_every_reader():
    assert len({bad.words for bad in TABLE}) == len(TABLE) >= 60
    assert len({bad.heading for bad in TABLE}) == 9
    assert not Path("hacked").exists()


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_batch_in_which_no_row_counts_is_a_loss_of_zero(name, rows, figure):
    objective = build(name, 4, 3)
    objective.start_epoch(0, 2, 5)
    hidden = torch.randn(rows, 4, requires_grad=True)
    terms = objective(hidden, torch.full((rows,), -100), torch.arange(rows))
    terms.total.backward()
    right = terms.total.item() == 0 and not hidden.grad.any()
    figure.count("batches without a row that counts", int(right), 1)


@pytest.mark.parametrize("label", [-1, -101, 3, 2**31])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_label_that_is_none_is_refused(name, label, figure):
    objective = build(name, 4, 3)
    objective.start_epoch(0, 2, 5)
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        objective(torch.randn(2, 4), torch.tensor([0, label]), torch.arange(2))
    figure.count("labels out of range refused", 1, 1)
