"""The rooms and their levels: a file imports only from lower levels, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

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
    "geometry": 1,
    "objectives": 2,
    "integrations": 2.5,
    "training": 3,
    "recipes": 4,
    "runs": 4.5,
    "report": 5,
    "results": 5.5,
    "comparing": 5.6,
    "cli": 6,
    "__init__": 7,
    "__main__": 8,
}
# Rooms that may know less than their level allows.
MAY_KNOW = {
    "objectives": {"errors", "seeds", "special_tokens", "distributed", "losses", "geometry"},
    "integrations": {"errors", "seeds", "distributed", "losses", "geometry", "metrics", "objectives"},
    "report": {
        "errors",
        "special_tokens",
        "metrics",
        "geometry",
        "training.files",
        "training.run_folder",
        "runs.comparison_folder",
    },
}
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Returns the modules and names that a file imports of the package, below `labelembed.`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:  # relative ones are refused below
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name.removeprefix("labelembed.") for name in found if name.startswith("labelembed."))


def errors_of(room: str, imports: frozenset[str] | set[str]) -> list[str]:
    """Returns what a file of a room must not import."""
    errors = []
    allowed = MAY_KNOW.get(room)
    for name in imports:
        other = name.split(".")[0]
        if other == room or other not in LEVELS:  # a name of the package itself
            continue
        known = allowed is None or any(f"{name}.".startswith(f"{entry}.") for entry in allowed)
        if not known or LEVELS[other] >= LEVELS[room]:
            errors.append(name)
    return errors


def test_files_import_only_from_lower_levels():
    rooms = {path: path.relative_to(SOURCE).with_suffix("").parts[0] for path in FILES}
    assert set(rooms.values()) <= LEVELS.keys(), "a new room needs its level in this table"
    errors = {module_of(path): errors_of(room, imports_of(path)) for path, room in rooms.items()}
    assert {name: found for name, found in errors.items() if found} == {}
    # An error would be found.
    assert errors_of("objectives", {"training.trainer"}) == ["training.trainer"]
    assert errors_of("objectives", {"data"}) == ["data"]
    assert errors_of("report", {"training.trainer"}) == ["training.trainer"]
    assert errors_of("report", {"training.run_folder"}) == []
    assert errors_of("models", {"geometry"}) == ["geometry"]


def test_no_files_import_each_other_in_a_circle():
    graph = {name: (imports_of(path) & MODULES.keys()) - {name} for name, path in MODULES.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == graph.keys()
    assert graph["objectives.one_hot"] >= {"objectives.base", "errors"}


def test_files_stay_readable_are_named_for_something_and_import_by_full_names():
    texts = {name: path.read_text() for name, path in MODULES.items()}
    assert {name: text.count("\n") for name, text in texts.items() if text.count("\n") > 400} == {}
    assert [name for name in texts if any(word in name for word in ("utils", "helpers", "common", "misc"))] == []
    assert [name for name, text in texts.items() if "\nfrom ." in text] == []


def test_naive_forms_import_nothing_of_the_package():
    for path in (Path(__file__).parent / "naive").glob("*.py"):
        assert imports_of(path) == set()
        assert "import labelembed" not in path.read_text()


def test_imports_stay_light_until_something_is_needed():
    heavy = ("matplotlib", "timm", "transformers", "triton", "pandas", "sklearn", "typer", "accelerate", "pydantic")
    heavy += ("lightning", "pytorch_lightning", "sacrebleu")
    code = (
        "import sys\n"
        "def imported(*names):\n    print([name for name in names if name in sys.modules])\n"
        "import labelembed, labelembed.integrations, labelembed.metrics\n"
        "labelembed.LabelEmbedding, labelembed.LabelGeometry\n"
        f"imported(*{heavy!r})\n"
        "from labelembed.recipes.loading import load_recipe\n"
        "from labelembed.cli import main\n"
        "load_recipe('text-bag', data='reviews.csv')\n"
        "sys.argv = ['labelembed', 'check', 'mnist-mlp', '--data', 'nowhere']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code)\n"
        "imported('pandas', 'pyarrow', 'datasets', 'sklearn')"  # a recipe is checked without what reads tables
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:3] == ["[]", "2", "[]"]
