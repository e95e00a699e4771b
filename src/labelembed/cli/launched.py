"""What a launcher (torchrun, `accelerate launch`) is to this process: which of several it is, and the end of both.

Torch is not needed for that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from labelembed.errors import LabelEmbedError
from labelembed.training.interruption import signal_has_come

#: Verbs that several processes can do together.
TOGETHER = ("train", "resume")
_LAUNCHERS = {
    "torchrun",
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate launch",
    "accelerate-launch",
    "accelerate.commands.launch",
    "accelerate.commands.accelerate_cli launch",
}
_LOOK_SECONDS = 0.5
# What ends a launcher often comes to its processes too (Ctrl-C, a job that is cancelled), and may come a little later.
_GRACE_SECONDS = 1.0


def process_number() -> int:
    """Returns which process this is, from 0; 0 where there is one."""
    return _number("RANK", 0) if process_count() > 1 else 0


def process_count() -> int:
    """Returns how many processes were started together."""
    return _number("WORLD_SIZE", 1)


def refuse_several(verb: str | None) -> None:
    """Raises LabelEmbedError where several processes were started for a verb that is done by one."""
    if verb is None or verb in TOGETHER or process_count() == 1:
        return
    way_out = "train each run with several processes instead, or give" if verb == "compare" else "give"
    raise LabelEmbedError(
        f"labelembed {verb} works in one process, and {process_count()} were started: torchrun and accelerate launch "
        f"are for {' and '.join(TOGETHER)}; {way_out} the command without them"
    )


def end_with_launcher() -> None:
    """Has this process get SIGTERM when the launcher that started it is gone and no signal came from anybody.

    `accelerate launch` of one process dies of a signal and leaves its process behind, and so does any launcher that is
    killed. Where the parent is no launcher nothing is done: a program goes on when the shell ends that has put it into
    the background. Only Linux tells what the parent is.
    """
    parent = os.getppid()
    if is_launcher(_words_of(parent)):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def is_launcher(words: list[str]) -> bool:
    """Tells whether a command line is that of a launcher, called by its name or as a module of Python.

    What it is given to launch, or a script that only mentions one, counts for nothing.
    """
    called = [word for place, word in enumerate(words) if place == 0 or not word.startswith("-")]
    if called and Path(called[0]).name.startswith("python"):
        del called[0]
    program = Path(called[0]).name if called else ""
    return program in _LAUNCHERS or " ".join([program, *called[1:2]]) in _LAUNCHERS


def _words_of(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_GRACE_SECONDS)
    if not signal_has_come():
        os.kill(os.getpid(), signal.SIGTERM)


def _number(variable: str, otherwise: int) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return otherwise
