"""A disk that is full, or fails otherwise, from one call on: every call by which Python writes is counted."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class FailingDisk:
    """Counts the calls that change what is below a folder; from the one of number `at`, or that one only, they fail."""

    def __init__(
        self, folder: Path, *, at: int | None = None, number: int = errno.ENOSPC, only_once: bool = False
    ) -> None:
        self.folder, self.at, self.number, self.only_once = str(folder), at, number, only_once
        self.calls: list[str] = []

    def call(self, what: str, path: object) -> bool:
        """Counts a call; tells whether it fails."""
        if not os.fspath(path).startswith(self.folder):  # type: ignore[call-overload]
            return False
        self.calls.append(f"{what} {Path(str(path)).name}")
        count = len(self.calls)
        return self.at is not None and (count == self.at if self.only_once else count >= self.at)

    def fail(self, path: object) -> None:
        """Raises what the system would."""
        raise OSError(self.number, os.strerror(self.number), str(path))

    @contextlib.contextmanager
    def mounted(self) -> Iterator[FailingDisk]:
        """Stands between Python and the disk for the time of the block; nothing waits for the real disk."""
        real_open, disk = io.open, self

        class Raw(io.FileIO):
            torn = False

            def write(self, content: Any) -> int | None:
                # As the system does: what there is room for is written and counted, and the next call fails.
                if self.torn:
                    self.torn = False
                    disk.fail(self.name)
                if disk.call("write", self.name):
                    self.torn = True
                    return super().write(bytes(content)[: len(content) // 2])
                return super().write(content)

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **more: Any
        ) -> Any:
            inside = not isinstance(file, int) and os.fspath(file).startswith(disk.folder)
            if not inside or not set(mode) & set("wax+"):
                return real_open(file, mode, buffering, encoding, *rest, **more)
            if disk.call("open", file):
                disk.fail(file)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, "utf-8")

        def fsync(handle: int) -> None:
            place = os.readlink(f"/proc/self/fd/{handle}")
            if disk.call("fsync", place):
                disk.fail(place)

        def counted(name: str, real: Any, place: int) -> Any:
            def made(*arguments: Any, **named: Any) -> Any:
                there = name == "mkdir" and os.path.isdir(arguments[place])  # which is what the system says first
                if not there and disk.call(name, arguments[place]):
                    disk.fail(arguments[place])
                return real(*arguments, **named)

            return made

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(io, "open", opened)
            patched.setattr(builtins, "open", opened)
            patched.setattr(os, "fsync", fsync)
            patched.setattr(os, "replace", counted("replace", os.replace, 1))
            patched.setattr(os, "mkdir", counted("mkdir", os.mkdir, 0))
            yield self
