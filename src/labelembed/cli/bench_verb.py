"""The verb `bench`: what output layer and loss cost on this machine, at the user's own sizes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from labelembed.cli.options import DeviceOption, JsonOption, QuietOption
from labelembed.errors import LabelEmbedError, TrainingError

if TYPE_CHECKING:
    from labelembed.heads.measured_forms import HeadSize
    from labelembed.heads.measuring import Cost


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(epilog="Example: labelembed bench head --labels 32000 --hidden 512 --rows 4096")(bench)


def bench(
    what: Annotated[
        Literal["head"], typer.Argument(metavar="WHAT", help="`head`: output layer and loss over many labels.")
    ],
    labels: Annotated[int, typer.Option("--labels", min=2, metavar="C", help="Number of labels.")] = 8_000,
    hidden: Annotated[int, typer.Option("--hidden", min=1, metavar="H", help="Width of the hidden rows.")] = 512,
    rows: Annotated[int, typer.Option("--rows", min=2, metavar="N", help="Rows (tokens) of a step.")] = 2_048,
    rank: Annotated[int, typer.Option("--rank", min=1, metavar="K", help="Of the compressed embedding.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, metavar="N", help="How often each is timed.")] = 5,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="Of the processor; by default torch's own.")
    ] = None,
    device: DeviceOption = None,
    no_memory: Annotated[bool, typer.Option("--no-memory", help="Measure time alone.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure time and memory of the label-embedding head's forms, and say which setting fits these sizes.

    One step, forward and backward, of each form in turn, as a ratio to torch's own linear layer and cross entropy.
    """
    import torch

    from labelembed.heads.measured_forms import CHUNKED_ONE_HOT, HeadSize, names_that_fit
    from labelembed.heads.measuring import measured

    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = HeadSize(rows, hidden, labels, rank, kind, threads)
    memory = _memory(kind)
    names, left_out = names_that_fit(size, memory)
    if CHUNKED_ONE_HOT not in names:
        needed = size.bytes_needed(CHUNKED_ONE_HOT)
        raise LabelEmbedError(
            f"--labels {labels:,} --hidden {hidden:,} --rows {rows:,}: layers, gradients and one chunk of rows take "
            f"{needed / 1e9:,.1f} GB and there are {(memory or 0) / 1e9:,.1f} GB; give smaller sizes"
        )
    with _progress(quiet=quiet or as_json) as said:
        try:
            costs = measured(size, names, rounds=rounds, memory=not no_memory, said=said)
        except RuntimeError as error:
            raise TrainingError(f"bench {what}: {error}") from error
    advice = suggested(size, {cost.name: cost for cost in costs})
    if as_json:
        typer.echo(json.dumps(_as_json(size, rounds, costs, left_out, advice)))
    else:
        _print(size, costs, left_out, advice)


def _memory(device: str) -> int | None:
    """Returns the bytes of the device, None where nobody tells."""
    import torch

    from labelembed.objectives.label_embedding_arguments import machine_bytes

    return torch.cuda.get_device_properties(device).total_memory if device != "cpu" else machine_bytes()


def suggested(size: HeadSize, costs: dict[str, Cost]) -> dict[str, dict[str, Any]]:
    """Returns the keys of the objective that fit what was measured.

    Args:
        size: What was measured.
        costs: By name.

    Returns:
        Under `exact` those that leave the arithmetic as it is, under `sampled` those that save more: a quarter of the
        rows where that saves a tenth, o2 in bfloat16 where that saves a twentieth on top.
    """
    import torch

    from labelembed.heads import chosen
    from labelembed.heads.measured_forms import COMPRESSED, FULL, FULL_LABELS

    exact: dict[str, Any] = {"name": "label_embedding"}
    embedding = FULL if FULL in costs else COMPRESSED
    if size.labels > FULL_LABELS or FULL not in costs:
        exact["embedding"] = "compressed"
    naive, in_chunks = costs.get(f"{embedding}, naive"), costs[embedding]
    faster = naive is None or in_chunks.ratio_of_minima < naive.ratio_of_minima
    if faster != (chosen("auto", size.labels, torch.device(size.device)) != "closed_form"):
        exact["impl"] = "chunked" if faster else "closed_form"
    sampled = dict(exact)
    whole, quarter, low = (
        costs[name].ratio_of_minima
        for name in (COMPRESSED, f"{COMPRESSED}, 1/4 of the rows", f"{COMPRESSED}, 1/4 in bfloat16")
    )
    if quarter < 0.9 * whole:
        sampled["auxiliary_fraction"] = 0.25
        if low < 0.95 * quarter:
            sampled["auxiliary_dtype"] = "bfloat16"
    return {"exact": exact, "sampled": sampled}


def _as_json(
    size: HeadSize, rounds: int, costs: list[Cost], left_out: dict[str, int], advice: dict[str, Any]
) -> dict[str, Any]:
    import dataclasses

    variants = [
        {
            "name": cost.name,
            "seconds": {"minimum": min(cost.seconds), "median": statistics.median(cost.seconds)},
            "ratio": {"of_minima": cost.ratio_of_minima, "median": cost.ratio, "deviation": cost.spread},
            "n": len(cost.seconds),
            "work_bytes": cost.work_bytes,
        }
        for cost in costs
    ]
    found = dataclasses.asdict(size) | {"rounds": rounds, "ratio_to": costs[0].name, "variants": variants}
    return found | {"left_out_bytes": left_out, "suggested": advice}


def _print(size: HeadSize, costs: list[Cost], left_out: dict[str, int], advice: dict[str, Any]) -> None:
    where = size.device if size.device != "cpu" else f"{size.threads or 'all'} threads of the processor"
    typer.echo(f"{size.rows:,} rows [{size.hidden:,}] over {size.labels:,} labels, rank {size.rank}, on {where}")
    wide = max(len(cost.name) for cost in costs)
    typer.echo(
        f"{'forward and backward':<{wide}}  {'least ms':>9}  {'ratio':>6}  {'of rounds':>15}  {'memory MiB':>10}"
    )
    for cost in costs:
        memory = "-" if cost.work_bytes is None else f"{cost.work_bytes / 2**20:,.1f}"
        rounds = f"{cost.ratio:.3f} ± {cost.spread:.3f}"
        least = f"{min(cost.seconds) * 1e3:9,.2f}"
        typer.echo(f"{cost.name:<{wide}}  {least}  {cost.ratio_of_minima:6.3f}  {rounds:>15}  {memory:>10}")
    typer.echo(
        f"ratio: least time by that of '{costs[0].name}', and the same in each of {len(costs[0].seconds)} rounds; "
        "memory: beside parameters and gradients"
    )
    for name, count in left_out.items():
        typer.echo(f"left out: {name}, which takes about {count / 1e9:,.1f} GB")
    typer.echo(f"suggested, exact: objective: {_flow(advice['exact'])}")
    if advice["sampled"] != advice["exact"]:
        typer.echo(f"suggested, to save more: objective: {_flow(advice['sampled'])}")


def _flow(keys: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Gives a callback that shows on standard error what is being measured; on a terminal in one line."""
    live = sys.stderr.isatty()
    shown = ""

    def said(text: str) -> None:
        nonlocal shown
        if quiet:
            return
        if live:
            print(f"\r{text:<{len(shown)}}", end="", file=sys.stderr, flush=True)
            shown = text
        elif text.split(":")[0] != shown:  # a line a round
            shown = text.split(":")[0]
            print(shown, file=sys.stderr, flush=True)

    try:
        yield said
    finally:
        if live and shown:
            print(f"\r{' ' * len(shown)}\r", end="", file=sys.stderr, flush=True)
