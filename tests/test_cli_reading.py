"""What the command line shows while data are read that take long."""

from __future__ import annotations

import pytest

from labelembed.lab.runs import display
from labelembed.lab.runs.display import ReadingText


@pytest.mark.parametrize(("kind", "what"), [("texts", "texts through the encoder"), ("images", "pictures")])
def test_reading_says_how_long_the_rest_will_take(kind, what, monkeypatch):
    monkeypatch.setenv("LABELEMBED_CACHE", "/some/where")
    clock = iter([100.0, 130.0, 190.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    text = ReadingText(kind)
    # the first rows may have been there already
    assert text(1_000, 4_000) == f"{what}: 1,000 of 4,000 (25%)"
    assert text(2_000, 4_000) == f"{what}: 2,000 of 4,000 (50%), about 1 min 0 s left"
    assert text(4_000, 4_000) == f"{what}: 4,000 of 4,000 (100%), kept in /some/where"
