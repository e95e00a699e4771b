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
from tests.made_cli import SMALL
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


def compare_words(*more):
    write_idx_folder(Path("mnist"))
    words = ["compare", "mnist-mlp", "--data", "mnist", *SMALL[:-1], "--objectives", VARIANTS, "--jobs", 2]
    return [*words, *more]


# ----------------------------------------------------------------------------------------- imports and start-up


def test_program_is_installed_under_its_name():
    (found,) = [entry for entry in entry_points(group="console_scripts") if entry.name == "labelembed"]
    assert found.value == "labelembed.cli:main"
    script = Path(sys.executable).with_name("labelembed")
    if not script.exists():
        pytest.skip(f"the package is not installed beside {sys.executable}")
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout == ran("--version").stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['labelembed', '--help']\nfrom labelembed.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 0\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code).endswith("HEAVY []\n")


def test_help_answers_in_a_second():
    def seconds(words):
        began = time.perf_counter()
        subprocess.run(words, capture_output=True, check=True)
        return time.perf_counter() - began

    start = min(seconds([sys.executable, "-c", ""]) for _ in range(3))
    # the fastest of three, so that what else the machine does is left out
    assert min(seconds(command("--help")) for _ in range(3)) - start < 1.0


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


def test_wrong_key_exits_with_2():
    called = ran("check", "digits-mlp", "--set", "epohcs=3")
    assert called.returncode == 2
    assert called.stdout == ""
    assert called.stderr == ("error: recipe 'digits-mlp' with --set: epohcs: unknown key (did you mean 'epochs'?)\n")


def test_unknown_verb_exits_with_2():
    called = ran("trian")
    assert called.returncode == 2
    assert "Did you mean 'train'?" in called.stderr


def test_nothing_given_shows_the_help():
    called = ran()
    assert "Usage: " in called.stdout + called.stderr
    assert "compare" in called.stdout + called.stderr


@pytest.mark.parametrize("words", [["recipes"], ["objectives"], ["objectives", "--json"], ["--help"]])
def test_closed_pipe_gives_no_traceback(words):
    # the reader leaves before the first word is written
    reader, writer = os.pipe()
    os.close(reader)
    try:
        called = subprocess.run(command(*words), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
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
    for called in (ran("--help"), ran("train", "--help"), ran("trian"), ran("recipes")):
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
    words = compare_words("--seeds", 2, "--quiet")
    first = ran(*words)
    assert first.returncode == 0, first.stderr
    out = tmp_path / "comparisons" / "mnist-mlp"
    assert first.stderr == ""
    assert first.stdout.splitlines()[-1] == (
        "report: comparisons/mnist-mlp/report.html    table: comparisons/mnist-mlp/comparison.csv"
    )
    assert "label_smoothing" in first.stdout
    assert "\x1b" not in first.stdout
    runs = sorted(str(path.parent.relative_to(out / "runs")) for path in out.rglob("result.json"))
    folders = ("label_smoothing-smoothing=0.3", "one_hot")
    assert runs == [f"{folder}/seed-{seed}" for folder in folders for seed in (0, 1)]
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert [row["variant"] for row in rows] == ["one_hot", "label_smoothing smoothing=0.3"]
    results = [json.loads((out / "runs/one_hot" / f"seed-{seed}" / "result.json").read_text()) for seed in (0, 1)]
    errors = [result["test"]["error"] for result in results]
    assert float(rows[0]["test_error_mean"]) == pytest.approx(sum(errors) / 2, abs=1e-15)
    page = (out / "report.html").read_text()
    assert "label_smoothing smoothing=0.3" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page

    stamps = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    again = ran(*words[:-1], "--json")
    assert again.returncode == 0, again.stderr
    assert "4 of 4 runs reused" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == stamps
    values = json.loads(again.stdout)
    assert [(row["name"], row["n"]) for row in values] == [("one_hot", 2), ("label_smoothing smoothing=0.3", 2)]
    assert values[0]["is_baseline"] is True
    assert values[1]["error_difference"]["n"] == 2
    assert list(csv.DictReader((out / "comparison.csv").open())) == rows


def test_second_comparison_reuses_what_it_can_and_pairs_by_seed(tmp_path):
    words = compare_words("--out", "out", "--quiet")
    assert ran(*words, "--seeds", "3,", "--json").returncode == 0
    more = ran(*words[:-1], "--seeds", "3,5", "--baseline", "label_smoothing", "--json")
    assert more.returncode == 0, more.stderr
    assert "2 of 4 runs reused" in more.stderr
    assert re.search(r"\[4/4\] .* seed 5: development error .*; (done|0\.0 s left)", more.stderr)
    values = json.loads(more.stdout)
    assert [row["is_baseline"] for row in values] == [False, True]
    assert values[0]["seeds"] == [3, 5]
    assert values[0]["error_difference"]["n"] == 2


def test_seeds_begin_alike_whatever_the_number_of_jobs(tmp_path):
    words = compare_words("--seeds", 2, "--quiet")
    for jobs in (1, 2):
        called = ran(*words, "--jobs", jobs, "--out", f"out-{jobs}")
        assert called.returncode == 0, called.stderr
    for path in sorted((tmp_path / "out-1").rglob("result.json")):
        one = json.loads(path.read_text())
        two = json.loads((tmp_path / "out-2" / path.relative_to(tmp_path / "out-1")).read_text())
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_run_that_fails_is_told_and_exits_with_1(tmp_path):
    words = compare_words("--seeds", 1, "--out", "out", "--quiet", "--set", "optimizer.learning_rate=1e30")
    called = ran(*words)
    assert called.returncode == 1
    assert "Traceback" not in called.stderr
    lines = called.stderr.splitlines()
    assert "error: 2 runs failed; the same command tries again" in lines
    assert any(line.startswith("one_hot seed 0: the loss is not finite: term `") for line in lines)
    assert (tmp_path / "out" / "report.html").exists()


def test_run_whose_folder_cannot_be_used_is_told(tmp_path):
    words = compare_words("--seeds", 1, "--out", "out", "--quiet", "--json")
    (tmp_path / "out/runs/one_hot").mkdir(parents=True)
    (tmp_path / "out/runs/one_hot/seed-0").write_text("in the way")
    called = ran(*words)
    assert called.returncode == 1
    assert "error: 1 run failed; the same command tries again" in called.stderr
    assert "one_hot seed 0: out/runs/one_hot/seed-0: cannot write here" in called.stderr
    assert [row["n"] for row in json.loads(called.stdout)] == [0, 1]


# ----------------------------------------------------------------------------------------------------- Ctrl-C


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)


def stopped(words, when, number=signal.SIGINT):
    """Starts a command as a terminal does, in a process group of its own, and signals all of it."""
    with open("stderr.txt", "w") as errors:
        process = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
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
    # long enough to be stopped in the middle of the second pair of runs, quick enough to be finished
    words = [*compare_words("--seeds", 2, "--out", "out", "--quiet"), "--set", "epochs=300"]
    code, out, err = stopped(words, lambda: len(list(tmp_path.rglob("result.json"))) >= 1)
    assert code == 130
    assert out == ""
    assert "Traceback" not in err
    assert err == ("stopped; finished runs are kept. To go on, give the same command again (mnist-mlp, --out out)\n")
    done = len(list(tmp_path.rglob("result.json")))
    assert 1 <= done <= 4
    called = ran(*words[: words.index("--quiet")], *words[words.index("--quiet") + 1 :])
    assert called.returncode == 0, called.stderr
    assert f"{done} of 4 runs reused" in called.stderr
    assert len(list(tmp_path.rglob("result.json"))) == 4


def test_ctrl_c_while_the_workers_start_leaves_quietly(tmp_path):
    words = [*compare_words("--seeds", 2, "--out", "out", "--quiet"), "--set", "epochs=300"]
    code, out, err = stopped(words, lambda: (tmp_path / "out" / "comparison.json").exists())
    assert code == 130
    assert out == ""
    assert "Traceback" not in err


def test_ctrl_c_in_a_run_says_how_to_resume(tmp_path):
    write_idx_folder(Path("mnist"))
    words = ["train", "mnist-mlp", "--data", "mnist", *SMALL, "--set", "epochs=100000", "--out", "run"]
    journal = tmp_path / "run" / "journal.jsonl"
    code, out, err = stopped(words, lambda: journal.exists() and journal.stat().st_size > 0)
    assert code == 130
    assert out == ""
    assert re.fullmatch(r"stopped in epoch \d+ of 100000; to go on: labelembed resume run\n", err)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
