"""The subcommand predict."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from labelembed.errors import DataError
from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.evaluate import USE
from labelembed.lab.cli.options import LINES, BestRunArgument, DeviceOption, JsonOption, is_file, load_run, use_device

if TYPE_CHECKING:
    from torch import Tensor

    from labelembed.lab.runs.saved_run import SavedRun
    from labelembed.lab.sparse_rows import SparseRows

# Characters of a text that was given as an argument, and labels of a line.
_MOST_SHOWN, _SHOWN_LABELS = 80, 3


class _Inputs(NamedTuple):
    """What one argument or file holds: inputs, what each is called, its columns in its file, and notes."""

    values: Tensor | SparseRows
    names: list[str]
    columns: list[dict[str, Any]]
    notes: list[str]


@subcommand(
    USE,
    "labelembed predict runs/first picture.png",
    "labelembed predict runs/first pictures/ --format csv -o predictions.csv",
)
def predict(
    run: BestRunArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files and folders: pictures, .npy arrays, tables. For a run on texts also .txt files with "
            "a text a line, the same from standard input (-), or a text itself.",
        ),
    ],
    format: Annotated[
        Literal["text", "csv"], typer.Option("--format", help="`csv`: the input's columns, with label and probability.")
    ] = "text",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", metavar="", help="In CSV: the probability of each label, too.")
    ] = False,
    out: typer.FileTextWrite = LINES,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the label of each input, with its probability: one line for each."""
    if (probabilities and format != "csv") or (as_json and format == "csv"):
        raise typer.BadParameter("--probabilities goes with --format csv, which --json excludes; --json has them all")
    to_file = is_file(out, inputs)
    saved = load_run(run, use_device(device))
    errors: list[str] = []
    notes: Counter[str] = Counter()
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = []
    count = 0
    for read in _read(saved, inputs, errors, with_columns=format == "csv"):
        notes.update(read.notes)
        for one, columns in zip(saved.predict(read.values, read.names), read.columns, strict=True):
            count += 1
            if as_json:
                print(json.dumps(one, ensure_ascii=False), file=out)
            elif format == "csv":
                rows.append((columns or {"input": one["input"]}, one))
            else:
                print(_line(one), file=out)
    if rows:
        out.write(_csv(rows, probabilities=probabilities))
    out.flush()  # a full disk is said here
    for note, times in notes.items():
        typer.echo(f"note: {note}{f' ({times:,} inputs)' if times > 1 else ''}", err=True)
    if errors:
        raise DataError("\n".join(errors if len(errors) == 1 else [f"{len(errors):,} inputs cannot be used", *errors]))
    if to_file:
        typer.echo(f"{out.name}: {count:,} lines written")


def _line(one: dict[str, Any]) -> str:
    from labelembed.lab.runs.results import is_file_name

    best = sorted(one["probabilities"].items(), key=lambda pair: -pair[1])[:_SHOWN_LABELS]
    name = one["input"]
    if not is_file_name(name):
        name = textwrap.shorten(name, _MOST_SHOWN, placeholder=" ...")
    return f"{name}: {', '.join(f'{label} ({probability:.1%})' for label, probability in best)}"


def _csv(rows: list[tuple[dict[str, Any], dict[str, Any]]], *, probabilities: bool) -> str:
    """Returns a table of the columns of each input's file, else its name, then what is predicted for it."""
    import pandas

    prefix = ""
    while any({f"{prefix}label", f"{prefix}probability"} & columns.keys() for columns, _ in rows):
        prefix += "predicted_"
    lines = []
    for columns, one in rows:
        line = columns | {f"{prefix}label": one["label"], f"{prefix}probability": one["probability"]}
        of_all = one["probabilities"].items() if probabilities else ()
        lines.append(line | {f"{prefix}probability_{label}": value for label, value in of_all})
    text: str = pandas.DataFrame(lines).to_csv(index=False, lineterminator="\n")
    return text


def _read(saved: SavedRun, words: list[str], errors: list[str], *, with_columns: bool) -> Iterator[_Inputs]:
    """Yields what is read of each input; what cannot be read is listed, and the others are predicted all the same."""
    from labelembed.lab.runs.results import is_file_name

    for word in words:
        if word == "-" and not saved.reads_texts:
            raise DataError("-: only texts are read from standard input; name a file")
        if word == "-" or (word.strip() and saved.reads_texts and not is_file_name(word)):
            texts = list(filter(str.strip, sys.stdin.read().split("\n"))) if word == "-" else [word]
            values, notes = saved.encode_texts(texts)
            yield _Inputs(values, texts, [{} for _ in texts], notes)
            continue
        for file in _files(saved, word):
            try:
                values, names, notes = saved.read_inputs(file)
                columns = _columns(saved, file) if with_columns else []
            except DataError as error:
                errors.append(str(error))
                continue
            names = [f"{file}{name.removeprefix(file.name)}" for name in names]
            yield _Inputs(values, names, columns if len(columns) == len(names) else [{} for _ in names], notes)


def _columns(saved: SavedRun, file: Path) -> list[dict[str, Any]]:
    """Returns the examples of a table as the file has them; nothing of other files."""
    from labelembed.lab.data.table_files import holds_lines, is_readable, read_file
    from labelembed.lab.runs.build import build_reader

    reading = getattr(build_reader(saved.recipe), "reading", None)
    if reading is None or not is_readable(file) or (saved.reads_texts and holds_lines(file)):
        return []
    records: list[dict[str, Any]] = read_file(file, reading=reading).frame.to_dict("records")
    return records


def _files(saved: SavedRun, word: str) -> list[Path]:
    """Returns a file, or what in a folder and those in it can be an input of the run."""
    from labelembed.lab.data.image_files import IMAGE_SUFFIXES
    from labelembed.lab.data.table_files import is_readable

    path = Path(word)
    if not word.strip():
        raise DataError("INPUT: is empty; name a file or a folder")
    if not path.is_dir():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
    if saved.reads_texts or saved.recipe.data["name"] == "table":
        kinds = "file of texts or a table"
        files = [file for file in files if is_readable(file)]
    else:
        kinds = "picture or .npy array"
        wanted = IMAGE_SUFFIXES if saved.recipe.data["name"] == "images" else {*IMAGE_SUFFIXES, ".npy"}
        files = [file for file in files if file.suffix.lower() in wanted]
    if not files:
        raise DataError(f"{path}: holds no {kinds} to predict for")
    return sorted(files)
