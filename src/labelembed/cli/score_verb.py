"""The verb `score`: BLEU, chrF and ROUGE of a file of sentences."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labelembed.cli.options import JsonOption

if TYPE_CHECKING:
    from labelembed.metrics import PairedBootstrap, TextScore

_METRICS = ("bleu", "chrf", "rouge")
_CALLED = {"bleu": "BLEU", "chrf": "chrF", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_STANDARD_INPUT = "-"


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed score hypotheses.txt references.txt --metric bleu,chrf,rouge")(score)


def score(
    hypotheses: Annotated[
        str, typer.Argument(metavar="HYP", help="A sentence a line, plain or gzipped; - for standard input.")
    ],
    references: Annotated[
        list[Path],
        typer.Argument(metavar="REF...", help="References, line by line; several files: several a sentence."),
    ],
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME,...", help=f"Of {', '.join(_METRICS)}.")
    ] = "bleu,chrf",
    level: Annotated[
        Literal["word", "character"], typer.Option("--level", help="What ROUGE counts; characters for Chinese.")
    ] = "word",
    tokenize: Annotated[
        Literal["13a", "none", "zh", "char", "intl"],
        typer.Option("--tokenize", help="How BLEU cuts text into words; none: it is cut already."),
    ] = "13a",
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Take capitals for small letters.")] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="HYP", help="Another system's sentences, for a paired bootstrap."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, metavar="N", help="Samples of the bootstrap.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Score sentences by references: BLEU and chrF with sacrebleu's signature, ROUGE for words or characters."""
    from labelembed.errors import LabelEmbedError
    from labelembed.metrics import bleu, chrf, paired_bootstrap, rouge

    metrics = _chosen(metric)
    paired = [name for name in metrics if name != "rouge"]
    if against is not None and not paired:
        raise LabelEmbedError("--against compares by BLEU and chrF: add --metric bleu,chrf")
    if _STANDARD_INPUT in map(str, (*references, against)):
        raise LabelEmbedError("only HYP can be -, standard input")
    names = [hypotheses, *map(str, references), *([str(against)] if against else [])]
    texts = [_lines(name) for name in names]
    _check_counts(names, texts)
    said, wanted = texts[0], texts[1 : 1 + len(references)]
    found: dict[str, TextScore] = {}
    compared: dict[str, PairedBootstrap] = {}
    if "bleu" in metrics:
        found["bleu"] = bleu(said, wanted, tokenize=tokenize, lowercase=lowercase)
    if "chrf" in metrics:
        found["chrf"] = chrf(said, wanted, lowercase=lowercase)
    if "rouge" in metrics:
        found |= rouge(said, wanted, level=level, lowercase=lowercase)
    try:
        if against is not None:
            arguments: dict[str, Any] = {"metrics": paired, "tokenize": tokenize, "lowercase": lowercase}
            compared = paired_bootstrap(texts[-1], said, wanted, samples=samples, **arguments)
    except ValueError as error:
        raise LabelEmbedError(re.sub(r"`(\w+)`", r"--\1", str(error))) from error
    notes = list(dict.fromkeys(_as_options(note) for one in found.values() for note in one.notes))
    if as_json:
        about: dict[str, Any] = {"hypotheses": hypotheses, "references": names[1 : 1 + len(wanted)]}
        about |= {"sentences": len(said), "scores": {name: _as_json(one) for name, one in found.items()}}
        if against is not None:
            about["against"] = {"hypotheses": str(against)} | {name: _as_json(one) for name, one in compared.items()}
        typer.echo(json.dumps(about | {"notes": notes}, ensure_ascii=False))
        return
    for line in (*_score_lines(found), *_comparison_lines(compared, str(against))):
        typer.echo(line)
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _chosen(metric: str) -> list[str]:
    """Returns the metrics asked for, each once and in their own order."""
    from labelembed.errors import LabelEmbedError, unknown_name

    names = [name.strip().lower() for name in metric.split(",")]
    for name in names:
        if name not in _METRICS:
            raise LabelEmbedError(f"--metric: {unknown_name('metric', name, _METRICS)}")
    return [name for name in _METRICS if name in names]


def _lines(name: str) -> list[str]:
    """Returns the lines of a file, or of standard input.

    Raises:
        DataError: When it is missing, empty or no UTF-8 text.
    """
    from labelembed.data.corpus.lines import line_blocks
    from labelembed.errors import DataError

    if name == _STANDARD_INPUT:
        lines = _standard_input()
    else:
        lines = [line for block in line_blocks(Path(name)) for line in block]
    if not lines:
        raise DataError(f"{_shown(name)}: empty; a text has a sentence a line")
    return lines


def _standard_input() -> list[str]:
    from labelembed.errors import DataError

    content = sys.stdin.buffer.read()
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"standard input: line {line:,} is not UTF-8") from None
    return text.removesuffix("\n").split("\n") if text else []


def _check_counts(names: list[str], texts: list[list[str]]) -> None:
    from labelembed.errors import DataError

    for name, lines in zip(names[1:], texts[1:], strict=True):
        if len(lines) != len(texts[0]):
            counts = f"{_shown(names[0])} has {_number(texts[0])}, {name} has {_number(lines)}"
            raise DataError(f"{counts}; line by line they must belong together, empty lines included")


def _number(lines: list[str]) -> str:
    return f"{len(lines):,} line{'s' if len(lines) != 1 else ''}"


def _shown(name: str) -> str:
    return "standard input" if name == _STANDARD_INPUT else name


def _as_options(note: str) -> str:
    """Returns a note in the words of the command: ``--level character`` for ``level='character'``."""
    return re.sub(r"(\w+)='(\w+)'", r"--\1 \2", note)


def _as_json(one: TextScore | PairedBootstrap) -> dict[str, Any]:
    return {
        name: value._asdict() if hasattr(value, "_asdict") else value
        for name, value in one._asdict().items()
        if name != "notes"
    }


def _score_lines(found: dict[str, TextScore]) -> Iterable[str]:
    for name, one in found.items():
        parts = ""
        if name.startswith("rouge"):
            parts = "F1, precision {precision:.2f}, recall {recall:.2f}  ".format(
                **{part: 100 * value for part, value in one.details.items()}
            )
        yield f"{_CALLED[name]:<8} {100 * one.value:6.2f}  {parts}{one.signature}"


def _comparison_lines(compared: dict[str, PairedBootstrap], against: str) -> Iterable[str]:
    for name, one in compared.items():
        yield (
            f"{_CALLED[name]:<8} {100 * one.difference:+6.2f}  against {against}, p = {one.p_value:.4f}; "
            f"{_interval(one.system)} against {_interval(one.baseline)}  {one.signature}"
        )


def _interval(one: Any) -> str:
    return f"{100 * one.value:.2f} [{100 * one.interval_low:.2f}, {100 * one.interval_high:.2f}]"
