"""Files of a run: written whole or not at all, and YAML from people read as plain values."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from labelembed.lab.errors import RunFolderError, TrainingError

MAXIMUM_BYTES = 100_000  # a second and a half of reading, where it is all brackets and commas


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a file under a temporary name, flushes it to the disk and renames it: a kill leaves the old or the new.

    Args:
        path: The file to write or replace.
        content: All of it.
        durable: Wait until the disk has it; a rename alone survives a killed process, not a power cut.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed, or a link that leads elsewhere
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # half a file would only fill a full disk further
            temporary.unlink()
        raise


def write_json(path: Path, value: Any, *, durable: bool = True, indent: int | None = 2) -> None:
    """Writes JSON as `write_bytes` does; a NaN is refused, for it is no JSON."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), durable=durable)


def flush_folder(path: Path) -> None:
    """Waits until the disk knows the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_writable_folder(path: Path) -> None:
    """Makes a folder and tries it; raises RunFolderError where it cannot be made or written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise RunFolderError(f"{path}: cannot write here ({error.strerror}); {elsewhere(path)}") from error


def elsewhere(folder: Path) -> str:
    """Returns what to do about a folder that cannot be written; a run that has begun there is kept."""
    has_begun = (folder / "recipe.yaml").is_file()  # `resume` has no --out
    return "move the run's folder to another place" if has_begun else "choose another folder with --out"


@contextmanager
def saving(folder: Path, *, needed_bytes: int | None = None, way_on: str = "") -> Iterator[None]:
    """Turns a failed save into an error that stops the run and says how to go on; none is swallowed.

    Args:
        folder: The run folder.
        needed_bytes: About how many bytes are written, for the message; None: not known.
        way_on: What to do when it can be saved again; empty: to resume the run.

    Raises:
        TrainingError: In the place of an OSError that names nothing outside the folder.
    """
    try:
        yield
    except OSError as error:
        outside = error.filename is not None and not str(error.filename).startswith(str(folder))
        if outside or isinstance(error, ConnectionError):  # a file of the data, or a reader of our pipe that has left
            raise
        what = f"cannot save ({error.strerror or error})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            quota = " (your quota of it is used up)" if error.errno == errno.EDQUOT else ""
            needed = "" if needed_bytes is None else f"about {needed_bytes:,} bytes are needed and "
            what = f"the disk is full{quota}: {needed}{_free_bytes(folder)} bytes are free"
        elif not folder.is_dir():
            what += ", the folder is not there any more"
        way_on = way_on or f"When it can be saved again: labelembed resume {folder}"
        raise TrainingError(f"{folder}: {what}; the last whole checkpoint is kept. {way_on}") from error


def _free_bytes(folder: Path) -> str:
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(place).free:,}"
    return "unknown"


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without references, which could unfold to far more than was written, and without repeats."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConstructorError(None, None, "references are not allowed; write the value out", mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: the key {key.value[:40]!r} occurs twice; keep one")
            seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # a month of 13, `!!bool maybe`, a number of 5,000 digits: each raises its own
            raise ConstructorError(None, None, f"{str(node.value)[:40]!r} is no value", node.start_mark) from error

    def construct_undefined(self, node: yaml.Node) -> Any:
        raise ConstructorError(None, None, f"the tag {node.tag!r} is not allowed", node.start_mark)


_PlainLoader.add_constructor(None, _PlainLoader.construct_undefined)


def plain_values(text: str) -> Any:
    """Returns what a YAML document holds; nothing in it is executed.

    Raises:
        ValueError: It is no YAML, gives a key twice, has references or is nested too deeply; one line.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (getattr(error, "problem", None) or str(error).splitlines()[0]).removeprefix("but ")
        raise ValueError(f"{where}no valid YAML ({problem})") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
