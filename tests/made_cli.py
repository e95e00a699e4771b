"""Calls of the command line inside this process, and the small data they read."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from labelembed.lab import cli

#: A small network, for `train` and `compare`; with the 30 images of `write_idx_folder` an epoch is 2 steps.
SMALL = ["--set", "model.hidden_sizes=[8]", "--set", "batch_size=10", "--set", "epochs=2"]
SMALL += ["--set", "data.validation.first=10", "--quiet"]


def result_of(folder):
    return json.loads(Path(folder, "result.json").read_text())


class Called(NamedTuple):
    """What one call left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """What stands on standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out, parse_constant=_no_json)

    @property
    def lines(self):
        """The JSON values on standard output, one a line."""
        return [json.loads(line, parse_constant=_no_json) for line in self.out.splitlines()]


def _no_json(constant: str):
    raise AssertionError(f"{constant} is no JSON")


def call(*words: object) -> Called:
    """Calls `labelembed` with these words as its own process would, but without one."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            mock.patch.object(sys, "argv", ["labelembed", *map(str, words)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            cli.main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    return Called(code, out.getvalue(), err.getvalue())


def succeed(*words: object) -> Called:
    """Calls `labelembed`, which must succeed."""
    called = call(*words)
    assert called.code == 0, f"{words}: exit {called.code}\n{called.out}{called.err}"
    return called


def listing(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder but locks, with time and content: what must not change."""
    return {
        str(path.relative_to(folder)): (0, b"") if path.is_dir() else (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }
