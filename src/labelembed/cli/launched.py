"""Which of several processes this one is, as torchrun and `accelerate launch` say it; torch is not needed for that."""

from __future__ import annotations

import os

from labelembed.errors import LabelEmbedError

#: Verbs that several processes can do together.
TOGETHER = ("train", "resume")


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


def _number(variable: str, otherwise: int) -> int:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return otherwise
