"""What a launcher (torchrun, `accelerate launch`) has started: which of several processes this is, and its end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from labelembed.errors import LabelEmbedError

#: Verbs that several processes can do together.
TOGETHER = ("train", "resume")
# Each launcher's own variable, which is set in the processes that it starts.
_LAUNCHED = ("TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND")
_PR_SET_PDEATHSIG = 1


def process_number() -> int:
    """Returns which process this is, from 0; 0 where there is one."""
    return _number("RANK", 0) if process_count() > 1 else 0


def process_count() -> int:
    """Returns how many processes were started together."""
    return _number("WORLD_SIZE", 1)


def say(line: str) -> None:
    """Prints to standard error what all processes of a run have to say alike: once."""
    if process_number() == 0:
        print(line, file=sys.stderr, flush=True)


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
    """Has the system send SIGHUP to this process when the launcher that started it has ended; only Linux can.

    `accelerate launch` of one process dies of a signal and leaves its process behind, and so does any launcher that is
    killed. It is SIGHUP because that is never a second signal: a launcher may have handed on another one before.
    """
    if sys.platform == "linux" and any(name in os.environ for name in _LAUNCHED):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)


def _number(variable: str, otherwise: int) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return otherwise
