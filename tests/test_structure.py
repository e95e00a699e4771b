"""The rooms and their levels: a file imports only from lower levels, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "labelembed"
# A file imports only from packages of a lower level; the library knows nothing of the lab.
LEVELS = {
    "errors": 0,
    "files": 0.1,
    "seeds": 0,
    "distributed": 0,
    "losses": 1,
    "metrics": 1,
    "geometry": 1,
    "objectives": 2,
    "integrations": 3,
    "lab/errors": 0.5,
    "lab/special_tokens": 0.5,
    "lab/sparse_rows": 0.5,
    "lab/pretrained_images": 4.5,
    "lab/pretrained_text": 4.5,
    "lab/models": 5,
    "lab/data": 5,
    "lab/training": 6,
    "lab/recipes": 7,
    "lab/report": 8,
    "lab/runs": 9,
    "lab/cli": 10,
    "lab/__init__": 11,
    "__init__": 12,
    "__main__": 13,
}
# Packages that may know less than their level allows.
MAY_KNOW = {
    "objectives": {"errors", "seeds", "distributed", "losses", "geometry"},
    "integrations": {"errors", "seeds", "distributed", "losses", "geometry", "metrics", "objectives"},
    "lab/report": {
        "errors",
        "lab/errors",
        "lab/special_tokens",
        "metrics",
        "geometry",
        "lab/training.files",
        "lab/training.run_folder",
        "lab/training.comparison_folder",
    },
}
# Lines and files that a package may have, with its templates, styles and scripts.
BUDGETS = {
    "objectives": (1_800, 14),
    "losses": (450, 4),
    "geometry": (800, 8),
    "metrics": (800, 7),
    "integrations": (1_050, 9),
    "root": (400, 6),
    "lab/data": (4_000, 30),
    "lab/models": (1_300, 10),
    "lab/recipes": (1_100, 8),
    "lab/training": (1_850, 13),
    "lab/runs": (2_300, 15),
    "lab/report": (2_850, 24),
    "lab/cli": (1_250, 11),
}
# What reads tables, draws or runs pre-trained networks: a recipe is checked without.
HEAVY = ("matplotlib", "timm", "transformers", "pandas", "pyarrow", "datasets", "sklearn", "lightning", "sacrebleu")
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def room_of(module: str) -> str:
    """Returns the package of a module or name below `labelembed.`, for instance `objectives` or `lab/data`."""
    parts = module.split(".")
    return "/".join(parts[:2]) if parts[0] == "lab" and len(parts) > 1 else parts[0]


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
    """Returns what a file of a package must not import."""
    errors = []
    allowed = MAY_KNOW.get(room)
    for name in imports:
        other = room_of(name)
        if other == room or other not in LEVELS:  # a name of the package itself
            continue
        shown = name.replace("lab.", "lab/", 1) if name.startswith("lab.") else name
        known = allowed is None or any(f"{shown}.".startswith(f"{entry}.") for entry in allowed)
        if not known or LEVELS[other] >= LEVELS[room]:
            errors.append(name)
    return errors


def test_files_import_only_from_lower_levels():
    rooms = {module: room_of(module) for module in MODULES}
    assert set(rooms.values()) <= LEVELS.keys(), "a new package needs its level in this table"
    # `__init__` and `__main__` look the lab up when something of it is asked for.
    errors = {module: errors_of(room, imports_of(MODULES[module])) for module, room in rooms.items()}
    assert {name: wrong for name, wrong in errors.items() if wrong} == {}
    # An error would be found.
    assert errors_of("objectives", {"lab.training.trainer"}) == ["lab.training.trainer"]
    assert errors_of("lab/report", {"lab.training.trainer"}) == ["lab.training.trainer"]


def size_of(room: str) -> tuple[int, int]:
    """Returns the lines and files of a package, its templates, styles and scripts included."""
    folder = SOURCE if room == "root" else SOURCE / room
    found = folder.glob("*") if room == "root" else folder.rglob("*")
    files = [path for path in found if path.suffix in {".py", ".html", ".md", ".css", ".js"}]
    return sum(path.read_text().count("\n") for path in files), len(files)


@pytest.mark.parametrize("room", BUDGETS)
def test_packages_stay_within_their_budgets(room):
    lines, files = size_of(room)
    most_lines, most_files = BUDGETS[room]
    assert (lines <= most_lines, files <= most_files) == (True, True), f"{room}: {lines} lines in {files} files"


def test_the_whole_stays_within_its_budget():
    files = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".html", ".css", ".js", ".txt", ".md")]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 20_000
    assert len(files) <= 157


def test_no_files_import_each_other_in_a_circle():
    graph = {name: (imports_of(path) & MODULES.keys()) - {name} for name, path in MODULES.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == graph.keys()
    assert graph["objectives.baselines"] >= {"objectives.base", "errors"}


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
    code = (
        "import sys\n"
        "import labelembed, labelembed.integrations, labelembed.metrics\n"
        "from labelembed.lab.recipes.loading import load_recipe\n"
        "from labelembed.lab.cli import main\n"
        "load_recipe('text-bag', data='reviews.csv')\n"
        "sys.argv = ['labelembed', 'check', 'mnist-mlp', '--data', 'nowhere']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["2", "[]"]
