"""What docs/security.md says is never done: no connection, no pickle, no evaluation, no markup from a run."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from labelembed.report import write_card, write_report
from labelembed.training import plain_yaml
from tests.made_evidence import leave_errors
from tests.made_runs import ENVIRONMENT, fail_run, journal_lines, make_comparison, make_run, measures, run_path

SOURCE = Path(__file__).parents[1] / "src" / "labelembed"
# Put before every Python process of a call, workers too: a connection is noted and refused.
WATCH = """
import os, socket, sys

def watch(event, arguments):
    inet = event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    if inet or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{event} {arguments!r}\\n")
        raise PermissionError("no connection is allowed here")

sys.addaudithook(watch)
"""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Calls Python with every connection noted and refused: returns the process and what was noted."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    noted = tmp_path / "connections"
    path = os.pathsep.join([str(tmp_path / "watch"), str(SOURCE.parent), os.environ.get("PYTHONPATH", "")])
    surroundings = os.environ | {"PYTHONPATH": path, "CONNECTIONS": str(noted)}

    def call(*words):
        ran = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=280
        )
        return ran, noted.read_text() if noted.exists() else ""

    return call


# Every verb in one process, for each takes seconds to start.
VERBS = """
import shlex, sys
from labelembed import cli
for line in {verbs!r}.splitlines():
    sys.argv = ["labelembed", *shlex.split(line)]
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, (line, ended.code)
    print("did", line.split()[0])
"""


def test_a_connection_would_be_noted(offline):
    ran, noted = offline("-c", "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert ran.returncode == 1
    assert "socket." in noted


def test_no_verb_opens_a_connection(offline, tmp_path):
    small = "--set epochs=1 --set data.train_rows=100 --set model.hidden_sizes=[4] --quiet"
    verbs = (
        f"train digits-mlp {small} --out run\n"
        f"compare digits-mlp --objectives one_hot,label_smoothing --seeds 1 {small} --out c\n"
        "evaluate run\nlabels run\nreport c\nexport run --format card"
    )
    ran, noted = offline("-c", VERBS.format(verbs=verbs))
    assert (ran.returncode, noted) == (0, ""), ran.stderr
    assert ran.stdout.count("did ") == 6
    assert (tmp_path / "c" / "report.html").is_file()


# ------------------------------------------------------------------------------------------------ no code

NEVER = ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.unsafe_load", "marshal.loads")


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_nothing_in_the_source_unpickles_or_evaluates():
    faults = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, given = called(node), {word.arg: ast.unparse(word.value) for word in node.keywords}
            never = name in NEVER
            never |= name == "yaml.load" and given.get("Loader") not in ("yaml.BaseLoader", "_PlainLoader")
            never |= name == "torch.load" and given.get("weights_only") != "True"
            never |= name == "np.load" and given.get("allow_pickle", "False") != "False"
            never |= given.get("shell") == "True" or given.get("trust_remote_code", "False") != "False"
            if never:
                faults.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {name}")
    assert faults == []
    assert issubclass(plain_yaml._PlainLoader, yaml.SafeLoader)


# ------------------------------------------------------------------------------------------------ no markup

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_texts_of_a_run_are_no_markup_in_its_report_and_card(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.2, 1: 0.3}, "label_embedding": {0: 0.1, 1: 0.1}})
    failed = run_path(tmp_path / "c", "label_embedding", 1)
    (failed / "result.json").unlink()
    fail_run(failed, f"the loss of {SCRIPT} is not finite", seed=1)
    data = ENVIRONMENT["data"] | {"source": SCRIPT, "notes": [SCRIPT], "names": [SCRIPT, "b"]}
    told = {"command": ["labelembed", SCRIPT], "processor": SCRIPT, "changes": [SCRIPT], "commit": SCRIPT, "data": data}
    run = make_run(tmp_path / "run", test=measures(0.1), journal=journal_lines([0.2, 0.1]))
    for folder in (run.path, *(run_path(tmp_path / "c", name, 0) for name in ("one_hot", "label_embedding"))):
        type(run)(folder).write_environment(ENVIRONMENT | told)
        leave_errors(folder, [(0, 1, 3)], labels=2)
    evidence = run.evidence("errors")
    if evidence["worst"]:
        worst = {key: value for key, value in evidence["worst"][0].items() if key != "png"} | {"text": SCRIPT}
        run.write_evidence("errors", evidence | {"worst": [worst]})
    for path in (tmp_path / "c", run.path):
        text = write_report(path).read_text()
        assert text.count("<script>") == 1  # the page's own
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
    card = write_card(run.path).read_text().split("\n---\n", 1)[1]  # behind its header, which is YAML
    outside = "".join(card.split("```")[::2])  # what is fenced is shown as it is
    assert "script" in outside
    assert re.findall(r"(?<!\\)<(?:script|img)", outside) == []
