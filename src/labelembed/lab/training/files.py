"""Files of a run: written whole or not at all, and YAML from people read as plain values."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from yaml.constructor import ConstructorError

from labelembed.lab.errors import RunFolderError, TrainingError

MAXIMUM_YAML_BYTES = 100_000  # a second and a half of reading, where it is all brackets and commas


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it: a kill or a power cut leaves the old or the new."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed, or a link that leads elsewhere
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # half a file would only fill a full disk further
            temporary.unlink()
        raise


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Writes JSON as `write_bytes` does; raises ValueError for a NaN, which is no JSON."""
    write_bytes(path, (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what a missing, damaged or hostile file makes its readers raise into a RunFolderError that names it."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise RunFolderError(f"{path}: damaged, cannot be read ({' '.join(str(error).split())[:300]})") from error


def check_format(path: Path, version: Any, newest: int) -> None:
    """Raises RunFolderError where a newer version of this program wrote a file."""
    if type(version) is int and version > newest:
        raise RunFolderError(f"{path}: written by a newer labelembed (format {version}); update labelembed")


def resume_command(folder: Path) -> str:
    """Returns the command that goes on with a run, for a shell."""
    return f"labelembed resume {shlex.quote(str(folder))}"


@contextmanager
def saving(folder: Path, *, way_on: str = "") -> Iterator[None]:
    """Turns a failed save below a folder into a TrainingError that stops the run and says how to go on."""
    try:
        yield
    except OSError as error:
        outside = error.filename is not None and not str(error.filename).startswith(str(folder))
        if outside or isinstance(error, ConnectionError):  # a file of the data, or a reader of our pipe that has left
            raise
        what = f"cannot save ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what += f": {shutil.disk_usage(folder).free:,} bytes are free"
        way_on = way_on or f"When it can be saved again: {resume_command(folder)}"
        raise TrainingError(f"{folder}: {what}; the last whole checkpoint is kept. {way_on}") from error


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without references, which could unfold to far more than was written."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "references are not allowed; write the value out", mark)
        return super().compose_node(parent, index)


def plain_values(text: str) -> Any:
    """Returns the plain values of a YAML document; nothing is executed. Raises a ValueError of one line."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # a month of 13, `!!bool maybe`, a number of 5,000 digits: each raises its own
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:100]
        raise ValueError(f"{where}no valid YAML ({problem.removeprefix('but ')})") from error
