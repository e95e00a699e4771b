"""A model card: what a run is, what it was trained on and reached, and what is not known of it, as Markdown.

The header is YAML as Hugging Face's model cards have it. No folder of the machine is named: a card is read by others,
whom they do not concern.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from labelembed.errors import DataError
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.columns import COST_METRICS, METRICS
from labelembed.lab.report.comparison import RunRecord, load_comparison
from labelembed.lab.report.formatting import NOTHING, counted, number, shortened
from labelembed.lab.report.run_checks import number_in
from labelembed.lab.report.table import RESULT_METRICS, comparison_rows
from labelembed.lab.report.table_texts import markdown_text
from labelembed.lab.report.tuning import tuning_rows
from labelembed.lab.report.verdict import verdict
from labelembed.lab.report.writing import write_text
from labelembed.lab.training.run_folder import RunFolder
from labelembed.metrics import is_extreme_temperature

# An absolute path without spaces, up to its last part; not what follows the colon of an address.
_FOLDERS = re.compile(r"(?<![\w/:.~])~?/(?:[^\s/]+/)+")
# The same in an argument: behind `key=` or a variant's colon, relative too.
_FOLDERS_OF_ARGUMENT = re.compile(r"[^=,:\[\]]*/(?=[^/=,:\[\]])")
# Whose methods the objectives are.
_PAPERS = {
    "label_smoothing": "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016: *Rethinking the Inception Architecture for "
    "Computer Vision.*",
    "label_embedding": "Sun, Wei, Ren, Ma 2017: *Label Embedding Network: Learning Label Representation for Soft "
    "Training of Deep Networks.*",
    "adaptive_labels": "Yu, Verma 2022: *Improving model training via self-learned label representations.*",
    "retrospection": "Deng, Zhang 2021: *Learning with retrospection.*",
    "online_label_smoothing": "Zhang et al. 2021: *Delving deep into label smoothing.* (`preset: published`; the "
    "default form is labelembed's)",
    "confidence_penalty": "Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017: *Regularizing Neural Networks by "
    "Penalizing Confident Output Distributions.*",
    "teacher_free": "Yuan, Tay, Li, Wang, Feng 2020: *Revisiting Knowledge Distillation via Label Smoothing "
    "Regularization.*",
    "distillation": "Hinton, Vinyals, Dean 2015: *Distilling the Knowledge in a Neural Network.*",
    "static_labels": "Chen, Li, Raghupathi, Lipson 2021: *Beyond Categorical Label Representations for Image "
    "Classification.*",
}
LISTED_LABELS = 20
_NEIGHBOURS = 3
_LONGEST_TEXT = 1_000
_TASKS = {
    "image-classification": "classifier of pictures",
    "text-classification": "classifier of texts",
    "tabular-classification": "classifier of vectors",
    "translation": "network that writes sentences",
}
_BY_NAME = {metric.attribute: metric for metric in METRICS}
#: How each metric of a result is shown, by its name there.
_METRICS = {"error": _BY_NAME["test_error"]} | {source: _BY_NAME[name] for name, source in RESULT_METRICS.items()}


def write_card(run: str | Path, path: str | Path | None = None) -> Path:
    """Writes the model card of a finished run; of one of a comparison with the metrics over its seeds.

    Args:
        run: The run folder; ``runs/<variant>/seed-<n>`` of a comparison too.
        path: The file; None: ``README.md`` in the run folder.

    Returns:
        The file.

    Raises:
        RunFolderError: There is no finished run, it is damaged, or the card cannot be written.
    """
    folder = Path(run)
    place = folder / "README.md" if path is None else Path(path)
    if place.is_dir():
        raise RunFolderError(f"{place}: is a folder; name a file with --out")
    return write_text(place, model_card(folder))


def model_card(run: str | Path) -> str:
    """Returns the model card of a finished run as Markdown; see `write_card`."""
    from jinja2 import Environment, StrictUndefined

    folder = Path(run)
    if (folder / "comparison.json").is_file():
        example = next((one.parent for one in sorted(folder.glob("runs/*/seed-*/result.json"))), folder / "runs")
        raise RunFolderError(f"{folder}: is a comparison; a card is of one run, for instance {example}")
    single = load_comparison(folder)
    (record,), (row,) = single.runs, comparison_rows(single)
    environment, recipe = record.environment(), RunFolder(folder).recipe()
    for block in ("data", "model", "objective"):
        if not isinstance(recipe.get(block), dict):
            raise RunFolderError(f"{folder / 'recipe.yaml'}: damaged, {block!r} is no mapping")
    names = {block: str(recipe[block].get("name")) for block in ("data", "model", "objective")}
    title = f"{' '.join(names.values())}, seed {record.seed}"
    folders = _folders_of(recipe)
    data = _data_of(environment, folders)
    task = _task(recipe, data)
    template = files("labelembed.lab.report").joinpath("templates", "card.md").read_text(encoding="utf-8")
    surroundings = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    surroundings.filters.update(text=markdown_text, code=markdown_code)
    card = surroundings.from_string(template).render(
        header=_header(record, data, task, names, title),
        title=title,
        task=_TASKS[task],
        writes=task == "translation",
        **names,
        statement=verdict(single)[0],
        data_lines=_data_lines(data),
        notes=data["notes"],
        metrics=_metrics(record),
        calibration=_calibration(record),
        labels=_labels(folder),
        cost=[(one.heading_and_unit, one.text(row)) for one in COST_METRICS if one.attribute in row.metrics],
        comparison=_of_comparison(folder),
        recipe=_fenced(_as_yaml(_recipe_without_folders(recipe)), "yaml"),
        command=_fenced(_command_of(environment), "sh"),
        environment=_environment_lines(environment, folders),
        selected=str(record.result.get("selected_by", "nothing known")),
        citations=citations_of(names["objective"]),
        has_test=record.result.get("test") is not None,
    )
    return card.strip() + "\n"


def markdown_code(value: object) -> str:
    """Returns a text in one line as code, between more backquotes than stand together in it."""
    text = shortened(str(value), _LONGEST_TEXT)
    fence = "`" * (1 + _longest_run(text))
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def _fenced(text: str, language: str) -> str:
    """Returns text as a block of code, whose fence is longer than any in the text."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _task(recipe: dict[str, Any], data: dict[str, Any]) -> str:
    if not data.get("input_shape") or recipe.get("decoding"):
        return "translation"
    if "text" in str(recipe["data"].get("name")):
        return "text-classification"
    return "image-classification" if len(data["input_shape"]) == 3 else "tabular-classification"


def _header(record: RunRecord, data: dict[str, Any], task: str, names: dict[str, str], title: str) -> str:
    """Returns the YAML header of the card."""
    split = "test" if record.result.get("test") else "validation"
    measured = record.result[split]
    metrics = [{"type": "accuracy", "name": f"{split} accuracy", "value": round(1 - measured["error"], 4)}]
    for name in ("bleu", "chrf", "nll", "calibration_error"):
        value, column = number_in(measured.get(name)), _METRICS[name]
        if value is not None:  # with the digits of the tables below
            digits = column.decimals + (2 if column.scale == 100 else 0)
            metrics.append({"type": name, "name": f"{split} {column.heading}", "value": round(value, digits)})
    dataset = {"name": shortened(str(data.get("source")), _LONGEST_TEXT), "type": names["data"]}
    return _as_yaml(
        {
            "library_name": "labelembed",
            "pipeline_tag": task,
            "tags": ["labelembed", names["objective"]],
            "metrics": [metric["type"] for metric in metrics],
            "model-index": [
                {"name": title, "results": [{"task": {"type": task}, "dataset": dataset, "metrics": metrics}]}
            ],
        }
    )


def _data_lines(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns (what, how much) of the data; what is missing or damaged is left out."""
    names, examples = data.get("names"), data.get("examples")
    lines = [("source", str(data.get("source", "not known")))]
    if isinstance(examples, dict):
        sizes = [f"{part} {size:,}" for part, size in examples.items() if isinstance(size, int)]
        lines.append(("examples", ", ".join(sizes)))
    if isinstance(names, list):
        more = ", ..." if len(names) > LISTED_LABELS else ""
        lines.append(("labels", f"{len(names):,}: {', '.join(map(str, names[:LISTED_LABELS]))}{more}"))
    shape, ends = data.get("input_shape"), data.get("input_range")
    if shape and isinstance(shape, list) and isinstance(ends, list) and len(ends) == 2:
        low, high = (f"{end:g}" if isinstance(end, int | float) else str(end) for end in ends)
        lines.append(("one input", f"{' x '.join(map(str, shape))}, values from {low} to {high}"))
    return [*lines, ("fingerprint of the content", str(data.get("fingerprint", "not known")))]


def _metrics(record: RunRecord) -> list[tuple[str, ...]]:
    """Returns a line a metric: on validation and test examples, and on the latter after temperature scaling."""
    found = []
    for name, column in _METRICS.items():
        values = [record.metric("validation", name), record.metric("test", name)]
        values.append(record.metric("test", name, calibrated=True))
        cells = [NOTHING if value is None else number(column.scale * value, column.decimals) for value in values]
        if any(cell != NOTHING for cell in cells):
            found.append(("error (%)" if name == "error" else column.heading_and_unit, *cells))
    return found


def _calibration(record: RunRecord) -> str:
    if record.temperature is None:
        why = str(record.result.get("calibration", "the run is older")).removeprefix("not fitted, ")
        return f"No temperature was fitted ({markdown_text(why)}): the probabilities are as the network gives them."
    split = "test" if record.result.get("test") else "validation"
    ends = [record.metric(split, "calibration_error", calibrated=after) for after in (False, True)]  # type: ignore[arg-type]
    before, after = (NOTHING if end is None else f"{number(100 * end, 1)} %" for end in ends)
    extreme = " and is extreme (outside 0.05 to 20)" if is_extreme_temperature(record.temperature) else ""
    return (
        f"Divide the logits by the temperature {number(record.temperature, 4)}, fitted on validation examples after "
        f"training{extreme}: it takes the ECE on the {split} examples from {before} to {after}. "
        "`labelembed predict` and `labelembed export --probabilities` do so."
    )


def _labels(folder: Path) -> dict[str, Any] | None:
    try:
        geometry = RunFolder(folder).label_geometry()
        if len(geometry) < 2:
            return None
        listed = geometry.names[:LISTED_LABELS]
        near = geometry.neighbours_of(listed, k=min(_NEIGHBOURS, len(geometry) - 1))
    except (DataError, OSError, KeyError, ValueError):
        return None
    return {
        "lines": [(name, ", ".join(f"{one.name} ({one.score:.3g})" for one in near[name])) for name in listed],
        "count": len(geometry),
        "kind": geometry.score_unit,
        "source": geometry.source,
    }


def _of_comparison(folder: Path) -> dict[str, Any] | None:
    """Returns what the comparison that the run is one of shows; None where it is none of any."""
    whole = folder.resolve()
    root = whole.parents[2] if len(whole.parents) > 2 else whole
    if whole.parent.parent.name != "runs" or not (root / "comparison.json").is_file():
        return None
    try:
        comparison = load_comparison(root)
    except RunFolderError:
        return None
    rows = comparison_rows(comparison)
    for row, variant in zip(rows, comparison.variants, strict=True):
        if any(run.folder.resolve() == whole for run in variant.runs.values()):
            tuned = [one for one in tuning_rows(comparison) if one.name == row.name and one.space]
            return {
                "name": row.name,
                "n": counted(row.n, "seed"),
                "seeds": ", ".join(map(str, sorted(variant.runs))),
                "metrics": [(one.heading_and_unit, one.text(row)) for one in METRICS if one.attribute in row.metrics],
                "verdict": verdict(comparison, rows),
                "tuned": f"{tuned[0].trials} trials over {'; '.join(tuned[0].space)}" if tuned else "",
            }
    return None


# ------------------------------------------------------------- where a run comes from; of each path the last part


def _without_folders(text: str, folders: Sequence[str] = ()) -> str:
    """Returns a text with the last part of each absolute path in it.

    Args:
        text: The text.
        folders: Folders that paths in it may lie in, with spaces in their names too.
    """
    for folder in sorted(folders, key=len, reverse=True):
        inside = rf"(?<![\w.]){re.escape(folder)}"
        text = re.sub(f"{inside}/", "", text)
        text = re.sub(rf"{inside}(?![^\s,;:)'\"])", Path(folder).name.replace("\\", r"\\"), text)
    return _FOLDERS.sub("", text)


def _argument_without_folders(word: str) -> str:
    """Returns an argument of a command with the last part of each path in it; an address stays.

    Example:
        >>> _argument_without_folders("data.path=/home/me/data/mnist/")
        'data.path=mnist'
    """
    return word if "://" in word else _FOLDERS_OF_ARGUMENT.sub("", word.rstrip("/"))


def _recipe_without_folders(values: Any) -> Any:
    """Returns a recipe's values with the last part of each absolute path."""
    if isinstance(values, dict):
        return {key: _recipe_without_folders(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_recipe_without_folders(value) for value in values]
    return Path(values).name if isinstance(values, str) and values.startswith(("/", "~/")) else values


def _folders_of(recipe: Any) -> list[str]:
    """Returns the folders in which the absolute paths in a recipe's values lie."""
    if isinstance(recipe, str):
        folder = Path(recipe).parent
        return [str(folder)] if recipe.startswith("/") and folder.name else []
    parts = recipe.values() if isinstance(recipe, dict) else recipe if isinstance(recipe, list) else []
    return [folder for part in parts for folder in _folders_of(part)]


def _as_yaml(values: dict[str, Any]) -> str:
    """Returns values as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).strip()


def _data_of(environment: dict[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    """Returns what ``environment.json`` says of the data; `notes` is a list of texts.

    Args:
        environment: What the file holds.
        folders: See `_without_folders`.
    """
    found = environment.get("data")
    data: dict[str, Any] = dict(found) if isinstance(found, dict) else {}
    notes = data.get("notes")
    if "source" in data:
        data["source"] = _without_folders(str(data["source"]), folders)
    return data | {"notes": [_without_folders(str(note), folders) for note in notes] if isinstance(notes, list) else []}


def _command_of(environment: dict[str, Any]) -> str:
    """Returns the command that made the run."""
    words = environment.get("command")
    if not isinstance(words, list):
        return "labelembed train recipe.yaml"
    return shlex.join(_argument_without_folders(str(word)) for word in words)


def _environment_lines(environment: dict[str, Any], folders: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (name, value) of what is known of the machine and the versions; for `folders` see `_without_folders`."""
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    lines = [
        (key, "; ".join(map(str, told)) if isinstance(told := environment[key], list) else str(told))
        for key in ("changes", "device", "processor", "python", "commit")
        if environment.get(key)
    ]
    lines.append(("packages", ", ".join(f"{name} {version}" for name, version in versions if version)))
    return [(name, _without_folders(value, folders)) for name, value in lines]


def citations_of(objective: str) -> list[str]:
    """Returns what to cite for a run with an objective, as Markdown: its paper, where it has one, and this package."""
    paper = _PAPERS.get(objective)
    return [*([paper] if paper else []), "The labelembed developers: *labelembed* (software), Apache-2.0."]
