"""Tables of calls of the command line and the word that each answer must have: `bad_calls.txt`, `bad_data.txt`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.made_cli import Called

LINES, LETTERS = 10, 600


def read_table(name: str) -> list[tuple[str, str]]:
    """Returns the words after `labelembed` and what the answer must have, of each line `WORDS => ANSWER`."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [
        (words, answer) for line in lines if not line.startswith("# ") for words, _, answer in [line.partition(" => ")]
    ]


def errors_of(called: Called, answer: str, folder: Path) -> list[str]:
    """Returns what is wrong with a refusal; `...` in it stands for anything, and `fine: TEXT` must succeed."""
    fine = answer.startswith("fine: ")
    said = called.out if fine else called.err
    wanted = ".*".join(map(re.escape, answer.removeprefix("fine: ").split("...")))
    faults = {f"it says\n{said}\nwithout {answer}": not re.search(wanted, said, re.DOTALL)}
    faults |= {f"exit {called.code}\n{called.err}": called.code != (0 if fine else 2)}
    if not fine:
        lines = said.splitlines()
        faults |= {
            f"on standard output: {called.out}": bool(called.out),
            "no error, or a traceback": "error: " not in said or "Traceback" in said,
            f"{len(lines)} lines": len(lines) > LINES,
            "a long line": max(map(len, lines), default=0) > LETTERS + len(str(folder)),
        }
    return [fault for fault, holds in faults.items() if holds]
