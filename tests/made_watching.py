"""What a call does besides what it returns: files opened for writing, programs started, code loaded, memory taken."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

#: Whoever reads a file of somebody else's has no business with any of these.
_NEVER = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_NEVER += ("subprocess.Popen", "socket.connect")
_watching: list[tuple[tuple[str, ...], list[str]]] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    allowed, found = _watching[-1]
    if event in _NEVER:
        found.append(f"{event} {arguments!r:.100}")
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and isinstance(arguments[2], int):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not path.startswith(allowed):
            found.append(f"wrote {path}")


sys.addaudithook(_hook)  # it stays for as long as the process lives


@contextlib.contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Gives a list of what was done that may not be: anything of `_NEVER`, and files written outside of the folders."""
    found: list[str] = []
    own = (f"{os.path.realpath(folder)}{os.sep}" for folder in folders)
    _watching.append(((*own, "/dev/null", f"/proc/{os.getpid()}/"), found))
    try:
        yield found
    finally:
        _watching.pop()


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise AssertionError(name)


@contextlib.contextmanager
def memory_taken() -> Iterator[list[int]]:
    """Gives a list that holds, afterwards, how many bytes the process took at most over what it had before."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _resident("VmRSS")
    taken: list[int] = []
    try:
        yield taken
    finally:
        taken.append(max(0, _resident("VmHWM") - before))
