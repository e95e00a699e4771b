"""Tables of calls of the command line and the word that each answer must have: `bad_calls.txt`, `bad_data.txt`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.made_cli import Called


def read_table(name: str) -> list[tuple[str, str]]:
    """Returns the words after `labelembed` and what the answer must have, of each line `WORDS => ANSWER`."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [
        (words, answer) for line in lines if not line.startswith("# ") for words, _, answer in [line.partition(" => ")]
    ]


def assert_answer(called: Called, answer: str) -> None:
    """Holds a refusal to its answer; `...` in it stands for anything, and `fine: TEXT` must succeed."""
    fine = answer.startswith("fine: ")
    said = called.out if fine else called.err
    assert called.code == (0 if fine else 2), called.err
    assert re.search(".*".join(map(re.escape, answer.removeprefix("fine: ").split("..."))), said, re.DOTALL), said
    if not fine:
        assert called.out == ""
        assert "error: " in said
        assert "Traceback" not in said
        assert len(said.splitlines()) <= 10
        assert len(said) < 2_000
