"""The subcommand evaluate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.options import BestRunArgument, DeviceOption, JsonOption, load_run, use_device

if TYPE_CHECKING:
    from labelembed.lab.runs.saved_run import SavedRun

USE = "Use what was trained"
_CALIBRATED = ("nll", "calibration_error", "brier")
# What was evaluated, its metrics, and those after temperature scaling; None where there is no temperature.
_Evaluated = tuple[dict[str, Any], dict[str, float], dict[str, float] | None]


@subcommand(
    USE,
    "labelembed evaluate runs/digits",
    "labelembed evaluate runs/first --data path/to/mnist --split validation",
)
def evaluate(
    run: BestRunArgument,
    data: Annotated[
        str | None, typer.Option("--data", metavar="PATH", help="Evaluate on this file or folder instead.")
    ] = None,
    split: Annotated[
        Literal["test", "validation", "train"], typer.Option("--split", help="Which part of the data to use.")
    ] = "test",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run: error, NLL and calibration, before and after temperature scaling.

    Translations are scored by BLEU, chrF and ROUGE. Other data that name no splits are used whole.
    """
    from labelembed.lab.report.formatting import number
    from labelembed.lab.report.tables import METRICS

    saved = load_run(run, use_device(device))
    if saved.recipe.of_sentences:
        about, before, after = _evaluate_sentences(saved, data, split)
    else:
        about, before, after = _evaluate_examples(saved, data, split)
    temperature = saved.output_temperature if after else None
    if as_json:
        typer.echo(json.dumps(about | before | {"temperature": temperature, "calibrated": after}))
        return
    typer.echo(f"{about['source']}, {about['split']} examples: {about['examples']:,}")
    for name, form in ((name, METRICS[name]) for name in before if name in METRICS):
        both = [before[name], after[name]] if after and name in _CALIBRATED else [before[name]]
        shown = [f"{number(one, form.decimals, scale=form.scale)} {form.unit}".ljust(12) for one in both]
        typer.echo(f"  {form.heading:<24} {'after temperature scaling '.join(shown)}".rstrip())
    if after:
        typer.echo(f"after temperature scaling: at temperature {temperature:.3g}, as in `labelembed predict`")


def _evaluate_examples(saved: SavedRun, data: str | None, split: str) -> _Evaluated:
    from labelembed.errors import DataError

    read = saved.read_data(data)
    whole = len(read.train) == 0
    examples = read.splits.get(split)
    if examples is None or (whole and split != "test"):
        there = "no splits; leave --split out to use all of it" if whole else ", ".join(read.splits)
        raise DataError(f"{read.source}: has no {split} set; it has {there}")
    for note in read.notes:
        typer.echo(f"data: {note}", err=True)
    before, after = saved.evaluate_both(examples)
    about = {"split": "all" if whole else split, "examples": len(examples), "source": read.source}
    return about, before, after if saved.folder.result().get("temperature") is not None else None


def _evaluate_sentences(saved: SavedRun, data: str | None, split: str) -> _Evaluated:
    from labelembed.errors import DataError

    corpus = saved.read_corpus(data)
    kept = [name for name in corpus.splits if name != "train"]
    if split not in kept:
        raise DataError(f"{corpus.source}: has no {split} sentences to evaluate on, but {', '.join(kept) or 'none'}")
    about = {"split": split, "examples": len(corpus.splits[split]), "source": corpus.source}
    return about, saved.evaluate_corpus(corpus, split), None
