"""Tables of calls of the command line and what each must say, kept as text: `bad_calls.txt`, `bad_data.txt`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.made_cli import Called

LINES, LETTERS = 10, 400


class Case(NamedTuple):
    """One line of a table: the words after `labelembed`, what is said, and the heading that it stands below."""

    words: str
    said: str
    heading: str


def read_table(name: str) -> list[Case]:
    """Returns what a table holds: `$ labelembed WORDS`, then the message to the next empty line."""
    found = []
    heading = ""
    for block in Path(__file__).with_name(name).read_text().split("\n\n"):
        lines = block.strip("\n").split("\n")
        if lines[0].startswith("# "):
            heading = lines[0].removeprefix("# ").split(":")[0]
        else:
            found.append(Case(lines[0].removeprefix("$ labelembed "), "\n".join(lines[1:]), heading))
    return found


def fits(said: str, wanted: str, here: Path) -> bool:
    """Tells whether a message is the one held; `...` stands for what is not ours to word, as in a doctest.

    Of `usage: WORD WORD` every word must stand in what is said of the verbs and options, some of which typer words.
    """
    if wanted.startswith("usage: "):
        return said.startswith("error: ") and all(word in said for word in wanted.split()[1:])
    pattern = ".*".join(map(re.escape, wanted.replace("{here}", str(here)).split("...")))
    return re.fullmatch(pattern, said.removesuffix("\n"), flags=re.DOTALL) is not None


def errors_of(called: Called, said: str, here: Path) -> list[str]:
    """Returns what is wrong with how a call was answered; `said` may be `fine: TEXT`, of which its output has TEXT."""
    if said.startswith("fine: "):
        good = called.code == 0 and said.removeprefix("fine: ") in called.out
        return [] if good else [f"exit {called.code}\n{called.out}{called.err}\ninstead of\n{said}"]
    errors = [] if called.code == 2 else [f"exit {called.code}"]
    errors += [f"on standard output: {called.out}"] if called.out else []
    errors += ["a traceback"] if "Traceback" in called.err else []
    lines = called.err.splitlines()
    errors += [f"{len(lines)} lines"] if len(lines) > LINES else []
    errors += ["a long line"] if max(map(len, lines), default=0) > LETTERS + len(str(here)) else []
    return errors if fits(called.err, said, here) else [*errors, f"it said\n{called.err}\ninstead of\n{said}"]
