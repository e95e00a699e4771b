"""The subcommand evaluate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.options import BestRunArgument, DeviceOption, JsonOption, load_run, use_device

if TYPE_CHECKING:
    from labelembed.lab.runs.saved_run import SavedRun

USE = "Use what was trained"
_DISPLAY_NAMES = {
    "nll": "NLL",
    "brier": "Brier score",
    "macro_f1": "macro-F1",
    "aurc": "AURC",
    "excess_aurc": "excess AURC",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    **{f"error_at_{share}_coverage": f"error at {share} % coverage" for share in (80, 90, 95)},
}
_OF_TOKENS = {"error": "token error", "top5_error": "top-5 token error", "nll": "NLL of a token"}


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
    saved = load_run(run, use_device(device))
    if saved.recipe.of_sentences:
        _evaluate_sentences(saved, data, split, as_json=as_json)
    else:
        _evaluate_examples(saved, data, split, as_json=as_json)


def _evaluate_examples(saved: SavedRun, data: str | None, split: str, *, as_json: bool) -> None:
    from labelembed.errors import DataError

    read = saved.read_data(data)
    whole = len(read.train) == 0
    examples = read.splits.get(split)
    if whole and split != "test":
        raise DataError(f"{read.source}: names no {split} set; leave --split out to use all of it")
    if examples is None:
        raise DataError(f"{read.source}: has no {split} set; it has {', '.join(read.splits)}")
    before, after = saved.evaluate_both(examples)
    fitted = saved.folder.result().get("temperature") is not None
    if as_json:
        about = {"split": "all" if whole else split, "examples": len(examples), "source": read.source} | before
        fit = {"temperature": saved.output_temperature if fitted else None, "calibrated": after if fitted else None}
        typer.echo(json.dumps(about | fit))
        return
    for note in read.notes:
        typer.echo(f"data: {note}", err=True)
    of = f"all {len(examples):,} examples" if whole else f"{split} set, {len(examples):,} examples"
    typer.echo(f"{read.source}, {of}")
    for name, value in before.items():
        shown, calibrated = _metric_text(name, value), _metric_text(name, after[name])
        moved = fitted and name in ("nll", "calibration_error", "brier")
        display_name = _DISPLAY_NAMES.get(name, name.replace("_", " "))
        typer.echo(f"  {display_name:<22} {shown:<8} {f'calibrated {calibrated}' if moved else ''}".rstrip())
    if fitted:
        typer.echo(f"calibrated: at temperature {saved.output_temperature:.3g}, which is that of predict")


def _evaluate_sentences(saved: SavedRun, data: str | None, split: str, *, as_json: bool) -> None:
    from labelembed.errors import DataError

    corpus = saved.read_corpus(data)
    kept = [name for name in corpus.splits if name != "train"]
    if split not in kept:
        what = f"no {split} sentences to evaluate on; it has {', '.join(kept) or 'no others'}"
        raise DataError(f"{corpus.source}: {what}")
    metrics, sentences = saved.evaluate_corpus(corpus, split), len(corpus.splits[split])
    if as_json:
        typer.echo(json.dumps({"split": split, "examples": sentences, "source": corpus.source} | metrics))
        return
    typer.echo(f"{corpus.source}, {split} set, {sentences:,} sentences, beam {saved.decoding.beam}")
    for name, value in metrics.items():
        of_text = name in ("bleu", "chrf") or name.startswith("rouge")
        display_name = (_DISPLAY_NAMES | _OF_TOKENS).get(name, name)
        typer.echo(f"  {display_name:<18} {f'{100 * value:.2f}' if of_text else _metric_text(name, value)}")


def _metric_text(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("nll", "brier", "perplexity") else f"{value:.2%}"
