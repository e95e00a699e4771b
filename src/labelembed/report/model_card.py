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
from labelembed.report.comparison import Comparison, RunRecord, Split, VariantRuns, environment_of, load_comparison
from labelembed.report.cost import cost_rows, memory_text
from labelembed.report.formatting import MEASURES, NOTHING, counted, number, shortened
from labelembed.report.run_checks import number_in
from labelembed.report.table import Row, comparison_rows
from labelembed.report.table_export import markdown_text
from labelembed.report.tuning_shown import tuning_rows
from labelembed.report.verdict import verdict
from labelembed.report.writing import write_text
from labelembed.training.run_folder import RunFolder

LISTED_LABELS = 20
_NEIGHBOURS = 3
_LONGEST_TEXT = 1_000
_NATS = ("nll", "brier", "perplexity")
_IN_WORDS = {
    "error": "error",
    "top5_error": "top-5 error",
    "top2_error": "top-2 error",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "nll": "negative log-likelihood, nats",
    "calibration_error": "expected calibration error (ECE)",
    "brier": "Brier score",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "perplexity": "perplexity",
}


def write_card(run: str | Path, path: str | Path | None = None) -> Path:
    """Writes the model card of a finished run; of one of a comparison with the measures over its seeds.

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
    variant = single.variants[0]
    record = next(iter(variant.runs.values()))
    environment, recipe = environment_of(record), RunFolder(folder).recipe()
    for block in ("data", "model", "objective"):
        if not isinstance(recipe.get(block), dict):
            raise RunFolderError(f"{folder / 'recipe.yaml'}: damaged, {block!r} is no mapping")
    folders = folders_of(recipe)
    data = data_of(environment, folders)
    template = files("labelembed.report").joinpath("templates", "card.md").read_text(encoding="utf-8")
    surroundings = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    surroundings.filters.update(text=markdown_text, code=markdown_code)
    return (
        surroundings.from_string(template)
        .render(
            header=_header(record, recipe, data, title=_title(recipe, record)),
            title=_title(recipe, record),
            task=_TASKS[_task(recipe, data)],
            writes=_task(recipe, data) == "translation",
            objective=str(variant.objective.get("name")),
            network=str((recipe.get("model") or {}).get("name")),
            statement=verdict(single)[0],
            data=_data_lines(data),
            notes=data["notes"],
            measures=_measures(record),
            calibration=_calibration(record),
            labels=_labels(folder),
            cost=_cost(single),
            comparison=_of_comparison(folder),
            recipe=_fenced(as_yaml(recipe_without_folders(recipe)), "yaml"),
            command=_fenced(command_of(environment), "sh"),
            environment=environment_lines(environment, folders),
            selected=str(record.result.get("selected_by", "nothing known")),
            citations=citations_of(str(variant.objective.get("name"))),
            has_test=record.result.get("test") is not None,
        )
        .strip()
        + "\n"
    )


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


_TASKS = {
    "image-classification": "classifier of pictures",
    "text-classification": "classifier of texts",
    "tabular-classification": "classifier of vectors",
    "translation": "network that writes sentences",
}


def _task(recipe: dict[str, Any], data: dict[str, Any]) -> str:
    name = str((recipe.get("data") or {}).get("name"))
    if not data.get("input_shape") or recipe.get("decoding"):
        return "translation"
    if "text" in name:
        return "text-classification"
    return "image-classification" if len(data["input_shape"]) == 3 else "tabular-classification"


def _title(recipe: dict[str, Any], record: RunRecord) -> str:
    objective, data = recipe.get("objective") or {}, recipe.get("data") or {}
    model = recipe.get("model") or {}
    return f"{data.get('name')} {model.get('name')} {objective.get('name')}, seed {record.seed}"


def _header(record: RunRecord, recipe: dict[str, Any], data: dict[str, Any], *, title: str) -> str:
    """Returns the YAML header of the card."""
    test = record.result.get("test")
    split = "test" if test else "validation"
    measured: dict[str, Any] = test or record.result.get("validation") or {}
    metrics = [{"type": "accuracy", "name": f"{split} accuracy", "value": round(1 - measured["error"], 4)}]
    for name in ("bleu", "chrf", "nll", "calibration_error"):
        value = number_in(measured.get(name))
        if value is not None:
            rounded = round(value, 3 if name in _NATS else 4)  # the digits of the tables below
            metrics.append({"type": name, "name": f"{split} {_IN_WORDS[name]}", "value": rounded})
    dataset = {"name": shortened(str(data.get("source")), _LONGEST_TEXT), "type": str(recipe["data"].get("name"))}
    task = {"type": _task(recipe, data)}
    objective = str((recipe.get("objective") or {}).get("name"))
    values = {
        "library_name": "labelembed",
        "pipeline_tag": task["type"],
        "tags": ["labelembed", objective],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": title, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}],
    }
    return as_yaml(values)


def _list(value: object) -> list[Any]:
    """Returns a list as it is, and for anything else, in a damaged file, none."""
    return value if isinstance(value, list) else []


def _data_lines(data: dict[str, Any]) -> list[tuple[str, str]]:
    names = data.get("names")
    rows = data.get("rows")
    lines = [("source", str(data.get("source", "not known")))]
    if isinstance(rows, dict):
        lines.append(
            (
                "examples",
                ", ".join(f"{part} {size:,}" for part, size in rows.items() if isinstance(size, int)),
            )
        )
    if isinstance(names, list):
        lines.append(("labels", f"{len(names):,}: {', '.join(map(str, names[:LISTED_LABELS]))}"))
        if len(names) > LISTED_LABELS:
            lines[-1] = ("labels", lines[-1][1] + ", ...")
    shape, ends = _list(data.get("input_shape")), _list(data.get("input_range"))
    if shape and len(ends) == 2:
        lines.append(("one input", f"{' x '.join(map(str, shape))}, values from {_end(ends[0])} to {_end(ends[1])}"))
    lines.append(("fingerprint of the content", str(data.get("fingerprint", "not known"))))
    return lines


def _end(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _measures(record: RunRecord) -> list[tuple[str, str, str, str]]:
    """Returns a line a metric: on validation and test examples, and on the latter after temperature scaling."""
    found = []
    for name, words in _IN_WORDS.items():
        cells = [
            _value(name, record.measure("validation", name)),
            _value(name, record.measure("test", name)),
            _value(name, record.measure("test", name, calibrated=True)),
        ]
        if any(cell != NOTHING for cell in cells):
            found.append((words, *cells))
    return found  # type: ignore[return-value]


def _value(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    return number(value, 3) if name in _NATS else f"{number(100 * value, 2)} %"


def _calibration(record: RunRecord) -> str:
    if record.temperature is None:
        why = str(record.result.get("calibration", "the run is older")).removeprefix("not fitted, ")
        return f"No temperature was fitted ({markdown_text(why)}): the probabilities are as the network gives them."
    split: Split = "test" if record.result.get("test") else "validation"
    before = record.measure(split, "calibration_error")
    after = record.measure(split, "calibration_error", calibrated=True)
    moved = f"from {_value('error', before)} to {_value('error', after)}"
    extreme = " and is extreme (outside 0.05 to 20)" if is_extreme_temperature(record.temperature) else ""
    return (
        f"Divide the logits by the temperature {number(record.temperature, 4)}, fitted on validation examples after "
        f"training{extreme}: it takes the ECE on the {split} examples {moved}. "
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


def _cost(single: Comparison) -> list[tuple[str, str]]:
    _, (row,) = cost_rows(single, comparison_rows(single))
    lines = [("trainable parameters", NOTHING if row.parameters is None else f"{row.parameters:,}")]
    if row.epoch_seconds is not None:
        lines.append(("seconds an epoch", number(row.epoch_seconds.mean, 2)))
    if row.seconds is not None:
        lines.append(("seconds of the run", number(row.seconds.mean, 1)))
    return [*lines, ("peak memory", memory_text(row))]


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
    place = next((at for at, one in enumerate(comparison.variants) if _holds(one, whole)), None)
    if place is None:
        return None
    tuned = [one for one in tuning_rows(comparison) if one.name == rows[place].name and one.space]
    return {
        "name": rows[place].name,
        "n": counted(rows[place].n, "seed"),
        "seeds": ", ".join(map(str, rows[place].seeds)),
        "measures": _over_seeds(rows[place]),
        "verdict": verdict(comparison, rows),
        "tuned": f"{tuned[0].trials} trials over {'; '.join(tuned[0].space)}" if tuned else "",
    }


def _holds(variant: VariantRuns, folder: Path) -> bool:
    return any(run.folder.resolve() == folder for run in variant.runs.values())


def _over_seeds(row: Row) -> list[tuple[str, str]]:
    shown = [measure for measure in MEASURES if measure.summary(row) is not None]
    return [(f"{one.heading}{', ' + one.unit if one.unit else ''}", one.text(row)) for one in shown]
