"""What a launcher (torchrun, `accelerate launch`) has started: which of several processes this is."""

from __future__ import annotations

import sys

from labelembed.errors import LabelEmbedError
from labelembed.lab.training.device import process_count, process_index

#: Verbs that several processes can do together.
TOGETHER = ("train", "resume")


def say(line: str) -> None:
    """Prints to standard error what all processes of a run have to say alike: once."""
    if process_index() == 0:
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
