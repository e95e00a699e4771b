"""Verbs that read finished runs: evaluate, predict, neighbours."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labelembed.cli.options import JsonOption, RunArgument, without_set

if TYPE_CHECKING:
    from labelembed.runs.saved_run import SavedRun

MeasuredOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="Other data to measure: a file or a folder.")
]

_MEASURE_WORDS = {"nll": "NLL", "brier": "Brier score", "macro_f1": "macro-F1"}
_IN_WORDS = {
    "error": "token error",
    "top5_error": "top-5 token error",
    "nll": "NLL of a token",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}
# Without a label asked for nobody reads more, and of tens of thousands of words the list takes minutes.
_MOST_LISTED = 200
# Characters of a text that was given as an argument.
_MOST_SHOWN = 80


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(epilog="Example: labelembed evaluate runs/first --data path/to/mnist")(evaluate)
    app.command(epilog="Example: labelembed predict runs/first picture.png --json")(predict)
    app.command(epilog="Example: labelembed neighbours runs/first 4 --count 3")(neighbours)


def evaluate(
    run: RunArgument,
    data: MeasuredOption = None,
    split: Annotated[
        Literal["test", "validation", "train"], typer.Option("--split", help="Which part of the data to measure.")
    ] = "test",
    as_json: JsonOption = False,
) -> None:
    """Measure a finished run: error, NLL, calibration before and after; of translations BLEU, chrF and ROUGE.

    Without --data on the data it was trained on. Other data are measured whole, or by the part they name for the test.
    """
    from labelembed.errors import DataError
    from labelembed.runs.recipe_diff import stored_recipe
    from labelembed.runs.saved_run import SavedRun
    from labelembed.training.run_folder import RunFolder

    if stored_recipe(RunFolder(run)).of_sentences:
        _evaluate_translations(run, data, split, as_json=as_json)
        return
    saved = SavedRun.load(run)
    found = saved.read_data(data)
    whole = len(found.train) == 0
    rows = found.splits.get(split)
    if whole and split != "test":
        raise DataError(f"{found.source}: names no {split} part; leave --split out to measure all of it")
    if rows is None:
        raise DataError(f"{found.source}: has no {split} examples; it has {', '.join(found.splits)}")
    before, after = saved.evaluate_both(rows)
    fitted = saved.folder.result().get("temperature") is not None
    if as_json:
        about = {"split": "all" if whole else split, "rows": len(rows), "source": found.source} | before
        fit = {"temperature": saved.temperature if fitted else None, "calibrated": after if fitted else None}
        typer.echo(json.dumps(about | fit))
        return
    for note in found.notes:
        typer.echo(f"data: {without_set(note)}", err=True)
    typer.echo(f"{found.source}, {f'all {len(rows):,} examples' if whole else f'{split}, {len(rows):,} rows'}")
    for name, value in before.items():
        in_words = _MEASURE_WORDS.get(name, name.replace("_", " "))
        shown, calibrated = _measure_text(name, value), _measure_text(name, after[name])
        moved = fitted and name in ("nll", "calibration_error", "brier")
        typer.echo(f"  {in_words:<18} {shown:<8} {f'calibrated {calibrated}' if moved else ''}".rstrip())
    typer.echo(
        f"calibrated: at temperature {saved.temperature:.3g}, which is that of predict"
        if fitted
        else "no temperature was fitted: these are the numbers of predict"
    )


def _evaluate_translations(run: Path, data: str | None, split: str, *, as_json: bool) -> None:
    from labelembed.errors import DataError
    from labelembed.runs.saved_translator import SavedTranslator

    saved = SavedTranslator.load(run)
    corpus = saved.read_corpus(data)
    kept = [name for name in corpus.splits if name != "train"]
    if split not in kept:
        raise DataError(
            f"{corpus.source}: {split} sentences cannot be measured; it has {', '.join(kept) or 'no others'}"
        )
    measures = saved.evaluate(corpus, split)
    if as_json:
        about = {"split": split, "rows": len(corpus.splits[split]), "source": corpus.source}
        typer.echo(json.dumps(about | measures))
        return
    typer.echo(f"{corpus.source}, {split}, {len(corpus.splits[split]):,} sentences, beam {saved.decoding.beam}")
    for name, value in measures.items():
        in_words = _IN_WORDS.get(name, name)
        shown = (
            f"{100 * value:.2f}" if name in ("bleu", "chrf") or name.startswith("rouge") else _measure_text(name, value)
        )
        typer.echo(f"  {in_words:<18} {shown}")


def _measure_text(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("nll", "brier", "perplexity") else f"{value:.2%}"


def predict(
    run: RunArgument,
    inputs: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="An image, a .npy array, an idx file or a file of rows. Texts also: a .txt file with one text a line, "
            "the same from standard input (-), or the text itself.",
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels to show a row.")] = 3,
    invert: Annotated[
        bool, typer.Option("--invert", help="Exchange dark and light: for dark digits on white paper.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which label each input has, and with what probability."""
    from labelembed.runs.saved_run import SavedRun

    saved = SavedRun.load(run)
    is_text = inputs != "-" and saved.reads_texts and _is_text(inputs)
    if inputs == "-":
        texts, names = _standard_input(saved)
        values, notes = saved.encode_texts(texts)
    elif is_text:
        names = [inputs]
        values, notes = saved.encode_texts(names)
    else:
        values, names, notes = saved.read_inputs(Path(inputs), invert=invert)
    for note in notes:
        typer.echo(f"note: {without_set(note)}", err=True)
    rows = saved.predict(values, names)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        best = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:top]
        name = _beginning(row["input"]) if is_text else row["input"]
        typer.echo(f"{name}: " + ", ".join(f"{label} ({share:.1%})" for label, share in best))


def _standard_input(saved: SavedRun) -> tuple[list[str], list[str]]:
    """Returns the texts of standard input, one a line, and where each stands."""
    from labelembed.data.files.text import decoded
    from labelembed.data.readers.texts import text_lines
    from labelembed.errors import DataError

    if not saved.reads_texts:
        raise DataError(f"-: only texts are read from standard input, and {saved.folder.path} reads none; name a file")
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()  # None: closed
    return text_lines(decoded(content, "standard input", encoding=saved.recipe.data["encoding"]))


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN].rstrip()} ..."


def _is_text(word: str) -> bool:
    """Tells whether an argument is a text: it names no file that there is, and looks like no file's name."""
    from labelembed.data.files.parts import is_readable

    with contextlib.suppress(OSError, ValueError):  # too long for a name, or with a zero byte
        if Path(word).expanduser().exists():
            return False
    return not is_readable(Path(word)) and not word.startswith(("/", "./", "../", "~/"))


def neighbours(
    run: RunArgument,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="Names; none: all, up to 200.")] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="How many neighbours a label.")] = 5,
    everything: Annotated[bool, typer.Option("--all", help="Every label, where there are more than 200.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the labels that are most like a label, as the run learned it."""
    from labelembed.errors import LabelEmbedError
    from labelembed.training.run_folder import RunFolder

    folder = RunFolder(run)
    folder.require_finished()
    geometry = folder.label_geometry()
    asked = labels or list(geometry.names)
    if not labels and not everything and len(asked) > _MOST_LISTED:
        asked = asked[:_MOST_LISTED]
        typer.echo(f"note: the first {_MOST_LISTED} of {len(geometry):,} labels; --all shows every label", err=True)
    try:
        found = geometry.neighbours_of(asked, k=count)
    except KeyError as error:
        raise LabelEmbedError(f"{folder.geometry_file}: {error.args[0]}") from error
    if as_json:
        typer.echo(
            json.dumps({label: [n._asdict() for n in near] for label, near in found.items()}, ensure_ascii=False)
        )
        return
    typer.echo(f"(in brackets: {geometry.score_unit})")
    for label, near in found.items():
        typer.echo(f"{label}: " + ", ".join(f"{n.name} ({n.score:.3g})" for n in near))
