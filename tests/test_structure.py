"""The rooms and their levels: a file imports only from lower levels, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "labelembed"
LEVELS = {
    "errors": 0,
    "json_files": 0,
    "seeds": 0,
    "tensor_files": 0.25,
    "special_tokens": 0,
    "distributed": 0,
    "stable_topk": 0,
    "pretrained_text": 0.5,
    "losses": 1,
    "models": 1,
    "data": 1,
    "metrics": 1,
    "measures": 2,
    "geometry": 1,
    "objectives": 2,
    "training": 3,
    "recipes": 4,
    "runs": 4.5,
    "report": 5,
    "integrations": 5,
    "results": 5.5,
    "cli": 6,
    "__init__": 7,
    "__main__": 8,
}
# Rooms that may know less than their level allows.
MAY_KNOW = {
    "objectives": {"errors", "seeds", "special_tokens", "distributed", "losses", "geometry"},
    "report": {"errors", "special_tokens", "metrics", "geometry", "training.run_folder", "runs.comparison_folder"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imported_modules(path: Path) -> set[str]:
    """Returns what a file imports of the package, below `labelembed.`; submodules by their full path."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # only within tests/naive
                continue
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "labelembed"}
    return {name.removeprefix("labelembed.") for name in found if name.startswith("labelembed.")}


def faults_of(room: str, imports: set[str]) -> list[str]:
    faults = []
    for name in imports:
        other = name.split(".")[0]
        if other == room or name == "__version__":
            continue
        allowed = MAY_KNOW.get(room)
        forbidden = allowed is not None and not any(name == entry or name.startswith(f"{entry}.") for entry in allowed)
        if forbidden or LEVELS[other] >= LEVELS[room]:
            faults.append(name)
    return faults


def test_files_import_only_from_lower_levels():
    assert {room_of(path) for path in FILES} <= LEVELS.keys(), "a new room needs its level in this table"
    faults = {str(path.relative_to(SOURCE)): faults_of(room_of(path), imported_modules(path)) for path in FILES}
    assert {path: names for path, names in faults.items() if names} == {}


def test_source_uses_no_relative_imports():
    assert [path for path in FILES if "\nfrom ." in path.read_text()] == []


def test_layer_check_finds_a_fault():
    assert faults_of("objectives", {"training.trainer"}) == ["training.trainer"]
    assert faults_of("objectives", {"data"}) == ["data"]
    assert faults_of("report", {"training.trainer"}) == ["training.trainer"]
    assert faults_of("report", {"training.run_folder"}) == []
    assert faults_of("models", {"geometry"}) == ["geometry"]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def order_of(graph: dict[str, set[str]]) -> list[str]:
    """Returns modules in an order in which each imports earlier ones only."""
    known = {name: imports & graph.keys() for name, imports in graph.items()}
    return list(graphlib.TopologicalSorter(known).static_order())


def test_no_files_of_a_room_import_each_other_in_a_circle():
    graph = {module_of(path): imported_modules(path) - {module_of(path)} for path in FILES}
    for path in FILES:  # `from labelembed.room import file` names the file too
        for name in list(graph[module_of(path)]):
            graph[module_of(path)] |= {other for other in graph if other.rpartition(".")[0] == name} & names_of(
                path, name
            )
    assert set(order_of(graph)) == graph.keys()
    with pytest.raises(graphlib.CycleError):
        order_of({"data.one": {"data.two"}, "data.two": {"data.one"}})


def names_of(path: Path, module: str) -> set[str]:
    """Returns what a file takes from a module of the package, as paths below `labelembed.`."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {f"{module}.{alias.name}" for node in nodes if node.module == f"labelembed.{module}" for alias in node.names}


def test_files_fit_a_page():
    long = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in long.items() if lines > 350} == {}


def test_no_file_is_named_for_nothing():
    for word in ("utils", "helpers", "common", "misc"):
        assert [path for path in FILES if word in path.stem] == []


def test_naive_forms_import_nothing_of_the_package():
    for path in (Path(__file__).parent / "naive").glob("*.py"):
        assert imported_modules(path) == set()
        assert "import labelembed" not in path.read_text()


def test_public_import_stays_light():
    heavy = ("matplotlib", "timm", "transformers", "triton", "pandas", "sklearn", "typer", "accelerate", "pydantic")
    heavy += ("lightning", "pytorch_lightning", "sacrebleu")
    code = (
        "import labelembed, labelembed.integrations, labelembed.metrics, sys\n"
        "labelembed.LabelEmbedding, labelembed.LabelGeometry\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_recipe_is_checked_without_what_reads_tables():
    code = (
        "import sys\n"
        "from labelembed.recipes.loading import load_recipe\n"
        "from labelembed.cli import main\n"
        "load_recipe('text-bag', data='reviews.csv')\n"
        "sys.argv = ['labelembed', 'check', 'mnist-mlp', '--data', 'nowhere']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code)\n"
        "print([name for name in ('pandas', 'pyarrow', 'datasets', 'sklearn') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["2", "[]"]
