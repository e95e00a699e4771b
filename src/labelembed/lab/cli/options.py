"""Options and arguments that several subcommands share, each declared once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from labelembed.errors import LabelEmbedError


def out_option(metavar: str, text: str) -> Any:
    """Returns `--out`, which is called and shortened alike in every subcommand that writes something."""
    return typer.Option("--out", "-o", metavar=metavar, help=text, parser=_path)


def _path(text: str) -> Path:
    if not text:  # a variable of the shell that is not set
        raise typer.BadParameter("is empty")
    return Path(text)


def is_file(out: IO[str], inputs: Iterable[str]) -> bool:
    """Tells whether lines are written to a file of `--out`, and not to standard output.

    LabelEmbedError: it would replace an input, or a file in a folder that is one.
    """
    name = getattr(out, "name", "<stdout>")
    path, is_stdout = Path(name).resolve(), name == "<stdout>"
    if not is_stdout and path.exists() and any(path.is_relative_to(Path(each).resolve()) for each in inputs):
        raise LabelEmbedError(f"--out: {name} is read, too; name another file")
    return not is_stdout


def use_device(device: str | None) -> str | None:
    """Returns the device to train on, `cpu` or None for any GPU; raises LabelEmbedError where there is no such device.

    `cuda:1` hides the other GPUs from this process.
    """
    if device in (None, "auto", "cpu"):
        return None if device == "auto" else device
    if not re.fullmatch(r"mps|cuda(:\d+)?", str(device)):
        raise LabelEmbedError(f"--device: must be auto, cpu, cuda, cuda:NUMBER or mps, got {device!r}")
    kind, _, number = str(device).partition(":")
    if number:
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        if visible and int(number) >= len(visible):
            raise LabelEmbedError(f"--device {device}: CUDA_VISIBLE_DEVICES names {len(visible)} GPUs; see nvidia-smi")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if visible else number
    import torch

    if not (torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()):
        raise LabelEmbedError(f"--device {device}: torch finds no such GPU here; `auto` takes what there is, or `cpu`")
    return None


def load_run(run: Path, device: str | None) -> Any:
    """Returns the finished run of a folder, of a comparison the best one, on the device that `use_device` left."""
    import torch

    from labelembed.lab.runs.saved_run import SavedRun

    saved = SavedRun.load(best_run_of(run))
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    saved.network.to("cpu" if device == "cpu" else gpu)
    return saved


def best_run_of(run: Path) -> Path:
    """Returns a run folder as it is, and of a comparison folder its best run by validation, which is said."""
    from labelembed.lab.runs.results import best_run

    best = best_run(run)
    if best != run:
        typer.echo(f"note: {run} is a comparison; its best run on the validation set is {best}", err=True)
    return best


def recipe_settings(
    settings: list[str] | None,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
) -> list[str]:
    """Returns the settings of `--set` with those that have an option of their own."""
    named = {"seed": seed, "epochs": epochs, "optimizer.learning_rate": lr, "batch_size": batch_size}
    return [*(settings or []), *(f"{key}={value!r}" for key, value in named.items() if value is not None)]


RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe that ships (see `labelembed list`) or a YAML file; without one, the recipe that fits --data.",
    ),
]
#: Of what writes lines: a file, or `-`, standard output.
LINES: Any = typer.Option(
    "-", "--out", "-o", metavar="FILE", encoding="utf-8", help="Write here; - is standard output."
)
BestRunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, or a comparison folder, of which the best run is taken.")
]
DataOption = Annotated[str | None, typer.Option("--data", metavar="PATH", help="File or folder of the data.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe: epochs=5; may be repeated."),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", metavar="N", help="Passes over the training set.")]
LearningRateOption = Annotated[float | None, typer.Option("--lr", metavar="RATE", help="The learning rate.")]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Examples in a step.")]
BaselineOption = Annotated[
    str | None, typer.Option("--baseline", metavar="NAME", help="The objective that the others are compared with.")
]
JsonOption = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Show no progress.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", metavar="", help="Overwrite what is there.")]
TrackOption = Annotated[
    str | None,
    typer.Option("--track", metavar="NAME,...", help="Log each epoch to tensorboard, wandb or mlflow (extra track)."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto (default): a GPU if there is one."),
]
