"""A model card: what a run is, what it was trained on and reached, and what is not known of it, as Markdown.

No folder of the machine is named: a card is read by others, whom they do not concern.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.comparison import load_comparison, number_in, readable
from labelembed.lab.report.formatting import shortened, templates, without_folders
from labelembed.lab.report.labels import label_similarities
from labelembed.lab.report.tables import comparison_rows, cost_line, report_tables, write_text
from labelembed.lab.report.verdict import verdict
from labelembed.lab.training.run_folder import RunFolder

_LISTED_LABELS = 20
# By the data; of all others it is image-classification.
_TASKS = {"corpus": "translation", "texts": "text-classification", "table": "tabular-classification"}


def write_card(run: str | Path, path: str | Path | None = None) -> Path:
    """Writes the model card of a finished run, by default ``README.md`` in its folder, and returns where it is.

    Raises RunFolderError where there is no finished run, or huggingface_hub is missing.
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
        raise RunFolderError(f"{folder}: is a comparison; a card is of one run, {folder}/runs/VARIANT/seed-N")
    if RunFolder(folder).geometry_file.exists():
        RunFolder(folder).label_geometry()  # raises where it has changed since the run
    single = load_comparison(folder)
    (record,), (variant,), split = single.runs, single.variants, single.split
    blocks = [record.recipe.get(block) for block in ("data", "model", "objective")]
    names = [str(block.get("name")) if isinstance(block, dict) else "unknown" for block in blocks]
    shape, title = record.data.get("input_shape") or [], f"{' '.join(names)}, seed {record.seed}"
    task = _TASKS.get("table" if names[0] == "vectors" and len(shape) != 3 else names[0], "image-classification")
    measured = {  # as `predict` gives probabilities: after temperature scaling, where there is any
        name: record.metrics.get(f"{split}_calibrated_{name}", record.metrics.get(f"{split}_{name}"))
        for name in ("error", "bleu", "chrf", "nll", "calibration_error")
    }
    values = {"accuracy": 1 - (measured.pop("error") or 0.0)} | measured
    data = shortened(single.data_name, 200)
    results = [
        EvalResult(task, names[0], data, name, round(value, 4), dataset_split=split)
        for name, value in values.items()
        if value is not None
    ]
    tags = ["labelembed", names[2]]
    header = ModelCardData(
        library_name="labelembed", pipeline_tag=task, tags=tags, model_name=title, eval_results=results
    )
    rows, learned = comparison_rows(single), label_similarities(variant)
    tables = [*report_tables(single, rows).values(), *([learned.table(_LISTED_LABELS)] if learned else [])]
    above = folder.resolve().parents[2:3]
    is_one_of_many = above and (above[0] / "comparison.json").is_file()
    whole = readable(lambda: verdict(load_comparison(*above))) if is_one_of_many else []
    card, changes = templates().get_template("card.md"), record.environment.get("changes")
    text = card.render(
        names=names,
        title=title,
        task=task.replace("-", " "),
        statement=verdict(single)[0],
        data=single.data_name,
        about=record.data,
        tables=[table.markdown() for table in tables],
        temperature=number_in(record.result.get("temperature")),
        cost=cost_line(variant, single, rows),
        comparison=whole or [],
        command=shlex.join(re.sub(r"[^=,:\[\]]*/(?=[^/=,:\[\]])", "", word.rstrip("/")) for word in record.command),
        changes=[shortened(str(line), 500) for line in changes] if isinstance(changes, list) else [],
        recipe=without_folders((folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace")).strip(),
    )
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text.strip()}\n"))
