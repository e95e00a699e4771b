"""A model card: what a run is, what it was trained on and reached, and what is not known of it, as Markdown.

The header is YAML as Hugging Face's model cards have it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from labelembed.errors import DataError, RunFolderError
from labelembed.metrics import is_extreme_temperature
from labelembed.report.card_origin import (
    as_yaml,
    citations_of,
    command_of,
    data_of,
    environment_lines,
    folders_of,
    recipe_without_folders,
)
from labelembed.report.columns import COST_MEASURES, MEASURES
from labelembed.report.comparison import RunRecord, load_comparison
from labelembed.report.formatting import NOTHING, counted, number, shortened
from labelembed.report.run_checks import number_in
from labelembed.report.table import RESULT_METRICS, comparison_rows
from labelembed.report.table_export import markdown_text
from labelembed.report.tuning_shown import tuning_rows
from labelembed.report.verdict import verdict
from labelembed.report.writing import write_text
from labelembed.training.run_folder import RunFolder

LISTED_LABELS = 20
_NEIGHBOURS = 3
_LONGEST_TEXT = 1_000
_TASKS = {
    "image-classification": "classifier of pictures",
    "text-classification": "classifier of texts",
    "tabular-classification": "classifier of vectors",
    "translation": "network that writes sentences",
}
_BY_NAME = {measure.attribute: measure for measure in MEASURES}
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
    folders = folders_of(recipe)
    data = data_of(environment, folders)
    task = _task(recipe, data)
    template = files("labelembed.report").joinpath("templates", "card.md").read_text(encoding="utf-8")
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
        cost=[(one.heading_and_unit, one.text(row)) for one in COST_MEASURES if one.attribute in row.measures],
        comparison=_of_comparison(folder),
        recipe=_fenced(as_yaml(recipe_without_folders(recipe)), "yaml"),
        command=_fenced(command_of(environment), "sh"),
        environment=environment_lines(environment, folders),
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
    return as_yaml(
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
    names, examples = data.get("names"), data.get("rows")
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
        values = [record.measure("validation", name), record.measure("test", name)]
        values.append(record.measure("test", name, calibrated=True))
        cells = [NOTHING if value is None else number(column.scale * value, column.decimals) for value in values]
        if any(cell != NOTHING for cell in cells):
            found.append(("error (%)" if name == "error" else column.heading_and_unit, *cells))
    return found


def _calibration(record: RunRecord) -> str:
    if record.temperature is None:
        why = str(record.result.get("calibration", "the run is older")).removeprefix("not fitted, ")
        return f"No temperature was fitted ({markdown_text(why)}): the probabilities are as the network gives them."
    split = "test" if record.result.get("test") else "validation"
    ends = [record.measure(split, "calibration_error", calibrated=after) for after in (False, True)]  # type: ignore[arg-type]
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
                "seeds": ", ".join(map(str, row.seeds)),
                "metrics": [(one.heading_and_unit, one.text(row)) for one in MEASURES if one.attribute in row.measures],
                "verdict": verdict(comparison, rows),
                "tuned": f"{tuned[0].trials} trials over {'; '.join(tuned[0].space)}" if tuned else "",
            }
    return None
