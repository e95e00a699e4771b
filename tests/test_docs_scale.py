"""The table of docs/scale.md is what the code before it prints."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"


def test_the_table_on_the_page_is_what_the_code_prints(capsys):
    text = PAGE.read_text()
    (code,) = (block for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S) if "of_a_step" in block)
    exec(compile(code, "the block", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 9
    assert f"```\n\n{printed}\n" in text
