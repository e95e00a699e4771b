"""R11: bad data of every kind that is read: right, or one message with file and row, exit code 2."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.made_bad_data import write_all
from tests.made_cli import call
from tests.reliability.tables import errors_of, read_table

TABLE = read_table("bad_data.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("data"))
        write_all()
        return Path.cwd()


@pytest.mark.parametrize(("words", "answer"), TABLE, ids=[words for words, _ in TABLE])
def test_bad_data_are_told_by_file_and_row_or_read_right(words, answer, folder, monkeypatch, figure):
    monkeypatch.chdir(folder)
    errors = errors_of(call(*shlex.split(words)), answer, folder)
    print("\n".join(errors))
    figure.count("bad data told or read right", int(not errors and not Path("hacked").exists()), 1)
