"""What docs/security.md says is never done: no connection, no pickle, no evaluation, no markup from a run."""

from __future__ import annotations

import ast
import re
import socket
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from labelembed import files as own_files
from labelembed.lab.data import table_files
from labelembed.lab.report import write_card, write_report
from labelembed.lab.training import files
from tests.made_cli import succeed
from tests.made_evidence import leave_errors
from tests.made_in_process import make_runs_here
from tests.made_runs import ENVIRONMENT, fail_run, history_lines, make_comparison, make_run, metrics, run_path

SOURCE = Path(__file__).parents[1] / "src" / "labelembed"
VERBS = """
train digits-mlp --set epochs=1 --set data.train_examples=100 --set model.hidden_sizes=[4] --quiet --out run
compare digits-mlp --objectives one_hot --seeds 1 --set epochs=1 --set data.train_examples=100 --quiet --out c
evaluate run
labels run
report c
export run --format card
"""
NOTED: list[str] | None = None  # None while nobody watches; a hook stays for the life of a process


def watch(event, arguments):
    """Notes and refuses connections, by whatever module of Python."""
    inet = event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    if NOTED is not None and (inet or event in ("socket.getaddrinfo", "socket.gethostbyname")):
        NOTED.append(f"{event} {arguments!r}")
        raise PermissionError("no connection is allowed here")


@pytest.fixture
def connections(monkeypatch):
    """The connections that are tried; all are refused."""
    sys.addaudithook(watch)
    noted = []
    monkeypatch.setattr(sys.modules[__name__], "NOTED", noted)
    return noted


def test_no_verb_opens_a_connection(connections, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_runs_here(monkeypatch)
    for line in VERBS.strip().splitlines():
        succeed(*line.split())
    assert connections == []
    assert (tmp_path / "c" / "report.html").is_file()
    with pytest.raises(PermissionError):  # or none would be noted
        socket.create_connection(("127.0.0.1", 9))
    assert len(connections) == 1


NEVER = ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.unsafe_load", "marshal.loads")


def test_nothing_in_the_source_unpickles_or_evaluates():
    errors = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            never = name in NEVER
            never |= name == "yaml.load" and given.get("Loader") not in ("yaml.BaseLoader", "_PlainLoader")
            never |= name == "torch.load" and given.get("weights_only") != "True"
            never |= name == "np.load" and given.get("allow_pickle", "False") != "False"
            never |= given.get("shell") == "True" or given.get("trust_remote_code", "False") != "False"
            if never:
                errors.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {name}")
    assert errors == []
    assert issubclass(files._PlainLoader, yaml.SafeLoader)


def test_limits_of_the_page_are_those_of_the_code():
    mebi = 2**20
    json, header = own_files.MAXIMUM_BYTES // mebi, own_files.HEADER_BYTES // mebi
    tensors = own_files.HEADER_TENSORS
    columns = table_files.MOST_BYTES // 2**30
    limits = {
        "a JSON file of a run": f"{json} MiB, {own_files.MAXIMUM_VALUES // 10**6} million values",
        "header of a safetensors file": f"{header} MiB (a geometry's {json} MiB), {tensors:,} tensors",
        "the columns of parquet files by their footers": f"{columns} GiB, or ten times the files",
        "a cell of a CSV file": f"{table_files.MAXIMUM_CELL:,} characters",
        "a picture": f"{Image.MAX_IMAGE_PIXELS:,} pixels",
    }
    page = (SOURCE.parents[1] / "docs" / "security.md").read_text()
    table = page.split("| limit | value |\n|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == [f"| {what} | {value} |" for what, value in limits.items()]
    assert f"at most {files.MAXIMUM_YAML_BYTES:,} bytes" in page


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_texts_of_a_run_are_no_markup_in_its_report_and_card(tmp_path):
    make_comparison(tmp_path / "c", {"one_hot": {0: 0.2, 1: 0.3}, "label_embedding": {0: 0.1, 1: 0.1}})
    failed = run_path(tmp_path / "c", "label_embedding", 1)
    (failed / "result.json").unlink()
    fail_run(failed, f"the loss of {SCRIPT} is not finite", seed=1)
    data = ENVIRONMENT["data"] | {"source": SCRIPT, "notes": [SCRIPT], "names": [SCRIPT, "b"]}
    told = {"command": ["labelembed", SCRIPT], "processor": SCRIPT, "changes": [SCRIPT], "commit": SCRIPT, "data": data}
    run = make_run(tmp_path / "run", test=metrics(0.1), history=history_lines([0.2, 0.1]))
    for folder in (run.path, *(run_path(tmp_path / "c", name, 0) for name in ("one_hot", "label_embedding"))):
        type(run)(folder).write("environment.json", ENVIRONMENT | told)
        leave_errors(folder, [(0, 1, 3)], labels=2)
    evidence = run.read("diagnostics/errors.json")
    worst = {key: value for key, value in evidence["worst"][0].items() if key != "png"} | {"text": SCRIPT}
    run.write("diagnostics/errors.json", evidence | {"worst": [worst]})
    for path in (tmp_path / "c", run.path):
        text = write_report(path).read_text()
        assert text.count("<script>") == 1  # the page's own
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
    card = write_card(run.path).read_text().split("\n---\n", 1)[1]  # behind its header, which is YAML
    outside = "".join(card.split("```")[::2])  # what is fenced is shown as it is
    assert "script" in outside
    assert re.findall(r"(?<!\\)<(?:script|img)", outside) == []
