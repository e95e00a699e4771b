"""A model card: what a run is, what it was trained on and reached, and what is not known of it, as Markdown.

No folder of the machine is named: a card is read by others, whom they do not concern.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from labelembed.errors import DataError
from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import RunRecord, load_comparison, number_in
from labelembed.lab.report.formatting import number, shortened, templates, without_folders
from labelembed.lab.report.several import load_several
from labelembed.lab.report.table import RESULT_METRICS, comparison_rows, write_text
from labelembed.lab.report.tables import cost_line
from labelembed.lab.report.verdict import verdict
from labelembed.lab.training.run_folder import RunFolder

_LISTED_LABELS, _NEAREST = 20, 3


def write_card(run: str | Path, path: str | Path | None = None) -> Path:
    """Writes the model card of a finished run; of one of a comparison with what the comparison shows.

    Args:
        run: The run folder; ``runs/<variant>/seed-<n>`` of a comparison too.
        path: The file; None: ``README.md`` in the run folder.

    Raises:
        RunFolderError: There is no finished run, it is damaged, or the card cannot be written.
        LabelEmbedError: The package huggingface_hub is missing.
    """
    file = Path(run) / "README.md" if path is None else Path(path)
    if file.is_dir():
        raise RunFolderError(f"{file}: is a folder; name a file with --out")
    return write_text(file, model_card(run))


def model_card(run: str | Path) -> str:
    """Returns the model card of a finished run as Markdown; see `write_card`."""
    try:
        from huggingface_hub import EvalResult, ModelCard, ModelCardData
    except ImportError as error:
        raise RunFolderError("a model card needs the package huggingface_hub: pip install 'labelembed[hub]'") from error
    folder = Path(run)
    if (folder / "comparison.json").is_file():
        example = next((one.parent for one in sorted(folder.glob("runs/*/seed-*/result.json"))), folder / "runs")
        raise RunFolderError(f"{folder}: is a comparison; a card is of one run, for instance {example}")
    single = load_several([folder])
    (record,), recipe = single.runs, RunFolder(folder).recipe()
    blocks = {block: recipe.get(block) for block in ("data", "model", "objective")}
    if wrong := [block for block, value in blocks.items() if not isinstance(value, dict)]:
        raise RunFolderError(f"{folder / 'recipe.yaml'}: damaged, {wrong[0]!r} is no mapping")
    names = {block: str(value.get("name")) for block, value in blocks.items() if isinstance(value, dict)}
    split, task = single.split, _task(record, names["data"])
    values = {name: record.metric(split, name) for name in ("error", "bleu", "chrf", "nll", "calibration_error")}
    values = {"accuracy": 1 - (values.pop("error") or 0.0)} | values
    results = [
        EvalResult(task, names["data"], shortened(single.data_name, 200), name, round(value, 4), dataset_split=split)
        for name, value in values.items()
        if value is not None
    ]
    title = f"{' '.join(names.values())}, seed {record.seed}"
    data = ModelCardData(
        library_name="labelembed",
        pipeline_tag=task,
        tags=["labelembed", names["objective"]],
        model_name=title,
        eval_results=results,
    )
    rows = comparison_rows(single)
    text = (
        templates()
        .get_template("card.md")
        .render(
            **names,
            title=title,
            task=task,
            statement=verdict(single)[0],
            data_lines=_data_lines(record, single.data_name),
            notes=[without_folders(str(note)) for note in record.data.get("notes") or []],
            metrics=_metrics(record),
            temperature=number_in(record.result.get("temperature")),
            labels=_nearest_labels(folder),
            cost=cost_line(single.variants[0], single, rows),
            comparison=_of_comparison(folder),
            command=shlex.join(re.sub(r"[^=,:\[\]]*/(?=[^/=,:\[\]])", "", word.rstrip("/")) for word in record.command),
            recipe=without_folders((folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace")).replace(
                "`", "'"
            ),
            environment=without_folders(str(record.environment.get("packages") or "not known")),
        )
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text.strip()}\n"))


def _task(run: RunRecord, data: str) -> str:
    shape = run.data.get("input_shape")
    if not shape or not isinstance(shape, list):
        return "translation"
    if "text" in data:
        return "text-classification"
    return "image-classification" if len(shape) == 3 else "tabular-classification"


def _data_lines(run: RunRecord, source: str) -> dict[str, str]:
    """Returns what is known of the data, by what it is."""
    names, examples = run.data.get("names"), run.data.get("examples")
    lines = {"source": source}
    if isinstance(examples, dict):
        lines["examples"] = ", ".join(f"{split} {size}" for split, size in examples.items())
    if isinstance(names, list):
        more = ", ..." if len(names) > _LISTED_LABELS else ""
        lines["labels"] = f"{len(names):,}: {', '.join(map(str, names[:_LISTED_LABELS]))}{more}"
    return lines | {"fingerprint": str(run.data.get("fingerprint", "not known"))}


def _metrics(run: RunRecord) -> list[list[str]]:
    """Returns a line a metric: on validation and test examples, and on the latter after temperature scaling."""
    lines = []
    for name, form in RESULT_METRICS.items():
        values = [run.metric("validation", name), run.metric("test", name), run.metric("test", name, calibrated=True)]
        if any(value is not None for value in values):
            cells = [number(value, form.decimals, scale=form.scale) for value in values]
            lines.append([form.heading_and_unit, *cells])
    return lines


def _nearest_labels(folder: Path) -> dict[str, str]:
    try:
        geometry = RunFolder(folder).label_geometry()
        near = geometry.neighbours_of(geometry.names[:_LISTED_LABELS], k=_NEAREST)
    except (DataError, RunFolderError, OSError, KeyError, ValueError):
        return {}
    return {name: ", ".join(f"{one.name} ({one.score:.3g})" for one in others) for name, others in near.items()}


def _of_comparison(folder: Path) -> list[str]:
    """Returns the verdict of the comparison that the run is one of; nothing where it is none of any."""
    whole = folder.resolve()
    try:
        return verdict(load_comparison(whole.parents[2])) if whole.parent.parent.name == "runs" else []
    except RunFolderError:
        return []
