"""The program as a process of its own: exit codes, imports, pipes, signals, and comparisons over workers."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import labelembed
from tests.made_cli import SMALL, call, succeed
from tests.made_data import write_idx_folder

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "timm", "transformers", "triton", "pandas", "accelerate")
VARIANTS = "one_hot,label_smoothing:smoothing=0.3"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def command(*words):
    return [sys.executable, "-m", "labelembed", *map(str, words)]


def ran(*words, **options):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=120, **options)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def compare_words(*more):
    write_idx_folder(Path("mnist"))
    words = ["compare", "mnist-mlp", "--data", "mnist", *SMALL[:-1], "--objectives", VARIANTS]
    return [*words, *more]


# ----------------------------------------------------------------------------------------- imports and start-up


def test_program_is_installed_under_its_name():
    (found,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "labelembed"]
    assert found.value == "labelembed.__main__:main"
    script = Path(sys.executable).with_name("labelembed")
    if not script.exists():
        pytest.skip(f"the package is not installed beside {sys.executable}")
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout == ran("--version").stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['labelembed', '--help']\nfrom labelembed.lab.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 0\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code).endswith("HEAVY []\n")


def test_help_answers_in_a_second():
    def seconds(words):  # of the processor, so that what else the machine does is left out
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    start = min(seconds([sys.executable, "-c", ""]) for _ in range(2))
    assert min(seconds(command("--help")) for _ in range(2)) - start < 1.0


def test_import_of_the_package_is_light_and_all_its_names_resolve():
    code = (
        "import sys, labelembed\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
        "print([name for name in labelembed.__all__ if getattr(labelembed, name) is None])\n"
        "print([name for name in ('matplotlib', 'timm', 'transformers', 'triton', 'pandas') if name in sys.modules])"
    )
    assert python(code) == "[]\n[]\n[]\n"


def test_public_names_are_listed_once_and_shown():
    assert sorted(labelembed.__all__) == sorted(set(labelembed.__all__))
    assert set(labelembed.__all__) <= set(dir(labelembed))
    namespace = {}
    exec("from labelembed import *", namespace)
    assert set(labelembed.__all__) <= set(namespace)
    with pytest.raises(AttributeError, match="no attribute 'LabelEmbeding'"):
        labelembed.LabelEmbeding  # noqa: B018


# ------------------------------------------------------------------------------------------- exit codes, output


def test_closed_pipe_gives_no_traceback():
    # the reader leaves before the first word is written
    reader, writer = os.pipe()
    os.close(reader)
    try:
        called = subprocess.run(command("--help"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    assert called.stderr == ""
    assert called.returncode in (0, 1)


def test_head_of_a_long_list():
    shell = f"{sys.executable} -m labelembed --help | head -1"
    called = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert called.stderr == ""
    assert len(called.stdout.splitlines()) <= 1


def test_output_that_is_no_terminal_has_no_escape_codes():
    for called in (ran("--help"), ran("train", "--help"), ran("trian")):
        assert "\x1b" not in called.stdout + called.stderr


def on_a_terminal(*words, **environment):
    """What a command writes to a terminal of 80 columns."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"} | environment
    process = subprocess.Popen(command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait(timeout=60) in (0, 2)
    return written.decode()


def test_no_color_is_heeded_on_a_terminal():
    colour = re.compile(r"\x1b\[[0-9;]*m")
    coloured = on_a_terminal("--help")
    assert colour.search(coloured)  # there is colour to leave out
    plain = on_a_terminal("--help", NO_COLOR="1")
    assert not re.search(r"\x1b\[(3|4|9|10)[0-9]", plain)  # bold is no colour
    assert "compare" in plain


# ---------------------------------------------------------------------------------------------------- compare


def test_comparison_is_made_once_and_then_reused(tmp_path):
    words = compare_words("--seeds", "0,4", "--baseline", "label_smoothing", "--jobs", 2)
    out = tmp_path / "comparisons" / "mnist-mlp"

    first = ran(*words)
    assert first.returncode == 0, first.stderr
    assert "\x1b" not in first.stdout + first.stderr
    ended = [line for line in first.stderr.splitlines() if "; about " not in line or "validation error" in line]
    progress = [line for line in ended if line != "starting"]  # on a machine with much else to do
    assert [line[:5] for line in progress] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    told = r"(one_hot|label_smoothing smoothing=0\.3) seed [04]: validation error "
    assert all(re.search(told, line) for line in progress)
    assert "label_smoothing" in first.stdout
    assert first.stdout.splitlines()[-1].endswith("comparisons/mnist-mlp/report.html")
    assert len(first.stdout.splitlines()) <= 12
    runs = sorted(str(path.parent.relative_to(out / "runs")) for path in out.rglob("result.json"))
    folders = ("label_smoothing-smoothing=0.3", "one_hot")
    assert runs == [f"{folder}/seed-{seed}" for folder in folders for seed in (0, 4)]
    errors = [result_of(out / "runs/one_hot" / f"seed-{seed}")["test"]["error"] for seed in (0, 4)]
    with (out / "comparison.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["seeds"] for row in table] == ["0 4", "0 4"]
    assert float(table[0]["test_error_mean"]) == pytest.approx(sum(errors) / 2, abs=1e-15)
    page = (out / "report.html").read_text()
    assert "smoothing" in page
    assert "://" not in page.replace("http://www.w3.org", "")  # but in a name of the SVG format

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("[!.]*") if path.is_file()}
    again = call(*words, "--json")
    assert again.err == "4 of 4 runs reused\n"
    rows = again.json
    assert [(row["variant"], row["n"], row["is_baseline"]) for row in rows] == [
        ("one_hot", 2, False),
        ("label_smoothing smoothing=0.3", 2, True),
    ]
    assert rows[0]["difference_n"] == 2
    rewritten = {path.name for path, (stamp, _) in before.items() if path.stat().st_mtime_ns != stamp}
    assert rewritten <= {"comparison.json", "comparison.csv", "runs.csv", "report.html"}
    assert {path.name for path, (_, content) in before.items() if path.read_bytes() != content} <= {"comparison.json"}

    # a run of the comparison is the run that `train` makes, whatever the process
    train = ["train", "mnist-mlp", "--data", "mnist", *SMALL, "--set", "seed=4", "--objective", "one_hot"]
    alone = succeed(*train, "--out", "alone", "--json").json
    alike = result_of(out / "runs/one_hot/seed-4")
    of_the_process = {"seconds": 0, "peak_memory": None}
    assert {**alone, **of_the_process} == {**alike, **of_the_process, "folder": "alone"}


def test_runs_that_fail_are_told_and_exit_with_1(tmp_path):
    words = compare_words("--seeds", 1, "--out", "out", "--quiet", "--json", "--jobs", 1)
    words += ["--set", "optimizer.learning_rate=1e30"]
    (tmp_path / "out/runs/one_hot").mkdir(parents=True)
    (tmp_path / "out/runs/one_hot/seed-0").write_text("in the way")
    called = call(*words)
    assert called.code == 1
    assert "Traceback" not in called.err
    lines = called.err.splitlines()
    assert "error: 2 runs failed; the same command tries again" in lines
    assert any(line.startswith("one_hot seed 0: ") and "cannot write here" in line for line in lines)
    loss = "label_smoothing smoothing=0.3 seed 0: diverged at step 2: the loss is not finite: term `"
    assert any(line.startswith(loss) for line in lines)
    assert (tmp_path / "out" / "report.html").exists()


# ----------------------------------------------------------------------------------------------------- Ctrl-C


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)


def stopped(words, when, number=signal.SIGINT):
    """Starts a command as a terminal does, in a process group of its own, and signals all of it."""
    with open("stderr.txt", "w") as errors:
        # where the tests run in the background Ctrl-C is ignored, and what they start would inherit that
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        signal.signal(signal.SIGINT, ours)
        try:
            until(lambda: when() or process.poll() is not None)
            assert process.poll() is None, "it ended before it was stopped"
            os.killpg(process.pid, number)
            out, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, Path("stderr.txt").read_text()


def test_ctrl_c_in_a_comparison_keeps_what_is_done_and_the_next_call_finishes(tmp_path):
    words = [*compare_words("--seeds", 2, "--out", "out", "--jobs", 2), "--set", "epochs=40"]
    # in the middle of a run: an epoch is over, and 39 are not
    code, out, err = stopped(words, lambda: any(path.stat().st_size for path in tmp_path.rglob("history.jsonl")))
    assert code == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "stopped; what is finished is kept. To go on, give the same command again"
    assert len(list(tmp_path.rglob("result.json"))) < 4
    assert list(tmp_path.rglob("checkpoints/step-*"))
    assert "[4/4]" in succeed(*words, "--jobs", 1).err
    assert len(list(tmp_path.rglob("result.json"))) == 4
