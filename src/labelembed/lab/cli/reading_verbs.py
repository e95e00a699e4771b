"""Verbs that use a finished run: evaluate, predict."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from labelembed.errors import DataError, nearest
from labelembed.lab.cli.options import (
    DeviceOption,
    JsonOption,
    RunArgument,
    out_option,
    torch_device,
    without_set,
    written,
)
from labelembed.lab.cli.program import verb

if TYPE_CHECKING:
    from torch import Tensor

    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.sparse_rows import SparseRows

_IN_WORDS = {"nll": "NLL", "brier": "Brier score", "macro_f1": "macro-F1", "aurc": "AURC", "excess_aurc": "excess AURC"}
_IN_WORDS |= {f"error_at_{percent}_coverage": f"error at {percent} % coverage" for percent in (80, 90, 95)}
_OF_SENTENCES = {
    "error": "token error",
    "top5_error": "top-5 token error",
    "nll": "NLL of a token",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}
_SPLITS = ("test", "validation", "train")
# Characters of a text that was given as an argument.
_MOST_SHOWN = 80
# Inputs that the network sees at once.
_AT_ONCE = 256


def _checked_split(split: str) -> str:
    if split not in _SPLITS:
        raise DataError(f"--split: must be test, validation or train, got {split!r}{nearest(split, _SPLITS)}")
    return split


@verb(
    "Use what was trained",
    "labelembed evaluate runs/digits",
    "labelembed evaluate runs/first --data path/to/mnist --split validation",
)
def evaluate(
    run: RunArgument,
    data: Annotated[
        str | None, typer.Option("--data", metavar="PATH", help="Evaluate on this file or folder instead.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split", metavar="test|validation|train", callback=_checked_split, help="Which part of the data to use."
        ),
    ] = "test",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run: error, NLL and calibration, before and after temperature scaling.

    Translations are scored by BLEU, chrF and ROUGE. Other data that name no splits are used whole.
    """
    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.runs.stored import stored_recipe
    from labelembed.lab.training.run_folder import RunFolder

    if stored_recipe(RunFolder(run)).of_sentences:
        _evaluate_translations(run, data, split, device=device, as_json=as_json)
        return
    saved = SavedRun.load(run)
    saved.network.to(torch_device(device))
    found = saved.read_data(data)
    whole = len(found.train) == 0
    rows = found.splits.get(split)
    if whole and split != "test":
        raise DataError(f"{found.source}: names no {split} set; leave --split out to use all of it")
    if rows is None:
        raise DataError(f"{found.source}: has no {split} set; it has {', '.join(found.splits)}")
    before, after = saved.evaluate_both(rows)
    fitted = saved.folder.result().get("temperature") is not None
    if as_json:
        about = {"split": "all" if whole else split, "examples": len(rows), "source": found.source} | before
        fit = {"temperature": saved.output_temperature if fitted else None, "calibrated": after if fitted else None}
        typer.echo(json.dumps(about | fit))
        return
    for note in found.notes:
        typer.echo(f"data: {without_set(note)}", err=True)
    typer.echo(f"{found.source}, {f'all {len(rows):,} examples' if whole else f'{split} set, {len(rows):,} examples'}")
    for name, value in before.items():
        in_words = _IN_WORDS.get(name, name.replace("_", " "))
        shown, calibrated = _metric_text(name, value), _metric_text(name, after[name])
        moved = fitted and name in ("nll", "calibration_error", "brier")
        typer.echo(f"  {in_words:<22} {shown:<8} {f'calibrated {calibrated}' if moved else ''}".rstrip())
    typer.echo(
        f"calibrated: at temperature {saved.output_temperature:.3g}, which is that of predict"
        if fitted
        else "no temperature was fitted: these are the numbers of predict"
    )


def _evaluate_translations(run: Path, data: str | None, split: str, *, device: str | None, as_json: bool) -> None:
    from labelembed.lab.runs.saved_translator import SavedTranslator

    saved = SavedTranslator.load(run)
    saved.network.to(torch_device(device))
    corpus = saved.read_corpus(data)
    kept = [name for name in corpus.splits if name != "train"]
    if split not in kept:
        raise DataError(
            f"{corpus.source}: no {split} sentences to evaluate on; it has {', '.join(kept) or 'no others'}"
        )
    metrics = saved.evaluate(corpus, split)
    sentences = len(corpus.splits[split])
    if as_json:
        typer.echo(json.dumps({"split": split, "examples": sentences, "source": corpus.source} | metrics))
        return
    typer.echo(f"{corpus.source}, {split} set, {sentences:,} sentences, beam {saved.decoding.beam}")
    for name, value in metrics.items():
        of_text = name in ("bleu", "chrf") or name.startswith("rouge")
        shown = f"{100 * value:.2f}" if of_text else _metric_text(name, value)
        typer.echo(f"  {_OF_SENTENCES.get(name, name):<18} {shown}")


def _metric_text(name: str, value: float) -> str:
    return f"{value:.4f}" if name in ("nll", "brier", "perplexity") else f"{value:.2%}"


class _Inputs(NamedTuple):
    """What is read at once: inputs, what each is called, and what the user should know of them."""

    values: Tensor | SparseRows
    names: list[str]
    notes: list[str]


@verb(
    "Use what was trained",
    "labelembed predict runs/first picture.png",
    "labelembed predict runs/first pictures/ --format csv -o predictions.csv",
)
def predict(
    run: RunArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files and folders: pictures, .npy arrays, idx files, tables. For a run on texts also .txt files with "
            "a text a line, the same from standard input (-), or a text itself.",
        ),
    ],
    format: Annotated[
        Literal["text", "csv", "json"], typer.Option("--format", help="`json` has the probability of every label.")
    ] = "text",
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="Labels to show; by default 3, in CSV 1.")
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Exchange dark and light, for dark digits on white paper.")
    ] = False,
    out: Annotated[Path | None, out_option("FILE", "Write here instead of standard output.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the label of each input, with its probability: one line for each."""
    from labelembed.lab.runs.saved_run import SavedRun

    format = "json" if as_json else format
    saved = SavedRun.load(run)
    saved.network.to(torch_device(device))
    errors: list[str] = []
    notes: Counter[str] = Counter()
    count = 0
    with written(out) as target:
        texts = [word for word in inputs if saved.reads_texts and _is_text(word)]
        write = _writer(target, format, top=(top or (3 if format == "text" else 1)), texts=texts)
        for read in _together(_read(saved, inputs, errors, invert=invert)):
            notes.update(read.notes)
            for found in saved.predict(read.values, read.names):
                write(found)
                count += 1
    for note, times in notes.items():
        typer.echo(f"note: {without_set(note)}{f' ({times:,} inputs)' if times > 1 else ''}", err=True)
    if errors:
        raise DataError("\n".join(errors if len(errors) == 1 else [f"{len(errors):,} inputs cannot be used", *errors]))
    if out is not None:
        typer.echo(f"{out}: {count:,} lines written")


def _read(saved: SavedRun, words: list[str], errors: list[str], *, invert: bool) -> Iterator[_Inputs]:
    """Yields what is read of each input; what cannot be read is listed, and the others are predicted all the same."""
    for word in words:
        if word == "-":
            texts, names = _standard_input(saved)
            values, notes = saved.encode_texts(texts)
            yield _Inputs(values, names, notes)
        elif saved.reads_texts and _is_text(word):
            values, notes = saved.encode_texts([word])
            yield _Inputs(values, [word], notes)
        else:
            for file in _files(saved, word):
                try:
                    values, names, notes = saved.read_inputs(file, invert=invert)
                except DataError as error:
                    errors.append(str(error))
                    continue
                yield _Inputs(values, [f"{file}{name.removeprefix(file.name)}" for name in names], notes)


def _files(saved: SavedRun, word: str) -> list[Path]:
    """Returns a file, or what in a folder and those in it can be an input of the run."""
    from labelembed.lab.data.files.picture import PICTURE_SUFFIXES
    from labelembed.lab.data.table_files import is_readable

    path = Path(word)
    if not word:
        raise DataError("INPUT: is empty; name a file or a folder")
    if not path.is_dir():
        return [path]
    if saved.reads_texts or saved.recipe.data["name"] == "table":
        kinds, found = "file of texts or a table", [file for file in path.rglob("*") if is_readable(file)]
        found += [file for file in path.rglob("*.txt") if saved.reads_texts]
    else:
        kinds, found = "picture or .npy array", [*path.rglob("*.npy")]
        found += [file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES]
    found = sorted({file for file in found if file.is_file() and not file.name.startswith(".")})
    if not found:
        raise DataError(f"{path}: holds no {kinds} to predict for")
    return found


def _together(found: Iterable[_Inputs]) -> Iterator[_Inputs]:
    """Yields inputs of the same shape together, so that a folder of pictures costs no step for each."""
    waiting: list[_Inputs] = []

    def all_of_them() -> _Inputs:
        together = _Inputs(
            _joined([one.values for one in waiting]),
            [name for one in waiting for name in one.names],
            [note for one in waiting for note in one.notes],
        )
        waiting.clear()
        return together

    for one in found:
        kind = one.values.shape[1:], one.values.dtype
        if waiting and (kind != (waiting[0].values.shape[1:], waiting[0].values.dtype)):
            yield all_of_them()
        waiting.append(one)
        if sum(len(read.names) for read in waiting) >= _AT_ONCE:
            yield all_of_them()
    if waiting:
        yield all_of_them()


def _joined(values: list[Any]) -> Any:
    import torch

    return torch.cat(values) if isinstance(values[0], torch.Tensor) else type(values[0]).cat(values)


def _writer(target: IO[str], format: str, *, top: int, texts: Container[str]) -> Any:
    """Returns what writes one prediction: in words, as a line of CSV, or as an object of JSON.

    Args:
        target: Where to.
        format: `text`, `csv` or `json`.
        top: How many labels to write; JSON has all.
        texts: Inputs that are texts themselves, of which words show the beginning.
    """
    if format == "json":
        return lambda found: print(json.dumps(found, ensure_ascii=False), file=target)
    table = csv.writer(target, lineterminator="\n")
    if format == "csv":
        more = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
        table.writerow(["input", "label", "probability", *more])

    def write(found: dict[str, Any]) -> None:
        best = sorted(found["probabilities"].items(), key=lambda pair: -pair[1])[:top]
        if format == "csv":
            table.writerow([found["input"], *(cell for pair in best for cell in pair)])
        else:
            shown = ", ".join(f"{label} ({probability:.1%})" for label, probability in best)
            print(f"{_beginning(found['input']) if found['input'] in texts else found['input']}: {shown}", file=target)

    return write


def _standard_input(saved: SavedRun) -> tuple[list[str], list[str]]:
    """Returns the texts of standard input, one a line, and where each stands."""
    from labelembed.lab.data.table_files import decoded
    from labelembed.lab.data.tabular import text_lines

    if not saved.reads_texts:
        raise DataError(f"-: only texts are read from standard input, and {saved.folder.path} reads none; name a file")
    content = b"" if sys.stdin is None else sys.stdin.buffer.read()  # None: closed
    return text_lines(decoded(content, "standard input", encoding=saved.recipe.data["encoding"]))


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN].rstrip()} ..."


def _is_text(word: str) -> bool:
    """Tells whether an argument is a text: it names no file that there is, and looks like no file's name."""
    from labelembed.lab.data.table_files import is_readable

    with contextlib.suppress(OSError, ValueError):  # too long for a name, or with a zero byte
        if Path(word).expanduser().exists():
            return False
    return not is_readable(Path(word)) and not word.startswith(("/", "./", "../", "~/"))
