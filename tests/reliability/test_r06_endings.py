"""R6: a signal that comes while the process is about to end changes nothing of its exit code."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

SIGNALS = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}
# Where it comes: as the last message is written, in what a library leaves for the end, as the interpreter goes.
TOLD = "said = cli.complain\ncli.complain = lambda *words: (hit(), said(*words))[1]"
PLACES = {
    "message": TOLD,
    "message, after a first signal": f"cli.app = hit\n{TOLD}",
    "exit function": "import atexit\natexit.register(hit)",
    "last objects": (
        "class Last:\n    def __init__(self): self.hit = hit\n    def __del__(self): self.hit()\nsys.last = Last()"
    ),
}
CODE = """
import os, signal, sys
from labelembed import cli
def hit(obj=None, kill=os.kill, process=os.getpid(), number={number}):
    kill(process, number)
    for _ in range(1000):  # the handler runs between two instructions
        pass
{place}
sys.argv = ["labelembed", *{words}]
cli.main()
"""


def ended(place, number, *words):
    code = CODE.format(place=place, number=int(number), words=words)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("place", ["exit function", "last objects"])
@pytest.mark.parametrize("words", [["--version"], ["train", "nothing-such"]], ids=["0", "2"])
def test_signal_at_the_end_leaves_the_code_as_it_was(place, number, words):
    found = ended(PLACES[place], number, *words)
    assert found.returncode == (0 if words == ["--version"] else 2), found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout.startswith("labelembed ") or "nothing-such" in found.stderr


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
def test_error_that_is_being_told_goes_before_a_signal(number):
    found = ended(PLACES["message"], number, "train", "nothing-such")
    assert found.returncode == 2, found.stderr
    assert "nothing-such" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
def test_second_signal_while_the_first_is_answered_leaves_its_code(number):
    found = ended(PLACES["message, after a first signal"], number, "--version")
    assert found.returncode == 128 + number, found.stderr
    assert "give the same command again" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
def test_message_that_nobody_reads_does_not_hold_the_process(number):
    waits = "import time\ncli.complain = lambda *words: (hit(), hit(), time.sleep(50))"  # as for a pipe that is full
    found = ended(waits, number, "train", "nothing-such")
    assert found.returncode == 128 + number


@pytest.mark.parametrize("number", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("error", ["ValueError('not a number')", "errors.RunFolderError('damaged')", "SystemExit(1)"])
def test_signal_of_which_a_library_made_an_error_of_its_own_is_told_as_a_signal(number, error, tmp_path):
    # As pydantic does with what its callbacks raise, NumPy with what reading a file raises, and typer.
    place = (
        "from labelembed import errors\nfrom labelembed.runs import run\ndef fails(*_, **__):\n"
        f"    try:\n        hit()\n    except BaseException as stopped:\n        raise {error} from stopped\n"
        "run.build_data = fails"
    )
    found = ended(place, number, "train", "digits-mlp", "--out", str(tmp_path / "run"), "--quiet")
    assert found.returncode == 128 + number, found.stderr
    assert "give the same command again" in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []
