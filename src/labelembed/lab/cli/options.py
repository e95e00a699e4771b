"""Options and arguments that several verbs share, each declared once."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from labelembed.errors import LabelEmbedError, nearest

_DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")


def out_option(metavar: str, text: str) -> Any:
    """Returns `--out`, which is called and shortened alike in every verb that writes something."""
    return typer.Option("--out", "-o", metavar=metavar, help=text)


@contextlib.contextmanager
def written(out: Path | None) -> Iterator[IO[str]]:
    """Gives what a verb writes its lines to: the file of `--out`, or standard output."""
    if out is None:
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        yield file


def device_for_runs(device: str | None) -> str | None:
    """Returns what runs are told of a device: `cpu`, or None for the GPU that there is.

    `cuda:1` hides the other GPUs from this process and those it starts, so that runs find this one alone.

    Raises:
        LabelEmbedError: There is no such device.
    """
    if device in (None, "auto", "cpu"):
        return None if device == "auto" else device
    kind, _, number = str(device).partition(":")
    if not re.fullmatch(r"mps|cuda(:\d+)?", str(device)):
        hint = nearest(str(device), _DEVICES)
        raise LabelEmbedError(f"--device: must be auto, cpu, cuda, cuda:NUMBER or mps, got {device!r}{hint}")
    if number:
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        if visible and int(number) >= len(visible):
            raise LabelEmbedError(f"--device {device}: CUDA_VISIBLE_DEVICES names {len(visible)} GPUs; see nvidia-smi")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)] if visible else number
    import torch

    if not (torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()):
        raise LabelEmbedError(f"--device {device}: torch finds no such GPU here; `auto` takes what there is, or `cpu`")
    return None


def torch_device(device: str | None) -> str:
    """Returns the device that a verb computes on itself, by what `device_for_runs` made of `--device`."""
    import torch

    if device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "mps"


RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe that ships (see `labelembed recipes`) or a YAML file; without one, the recipe that fits --data.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="File or folder of the data; short for --set data.path.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the recipe, e.g. objective.temperature=3; repeat it for more keys. "
        "--seed 3, --epochs 20, --lr 0.01 and --batch-size 64 are short for four of them.",
    ),
]
ObjectivesOption = Annotated[
    str | None,
    typer.Option(
        "--objectives", metavar="NAME[:KEY=VALUE...],...", help="The objectives; by default those of the recipe."
    ),
]
SeedsOption = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N|A-B|A,B,...", help="How many seeds (8), or which ones (0-7, or 3,5)."),
]
BaselineOption = Annotated[
    str | None,
    typer.Option("--baseline", metavar="NAME", help="The objective that the others are compared with."),
]
GroupsOption = Annotated[
    str | None,
    typer.Option("--groups", metavar="FILE", help='Groups of labels: a JSON file, {"group": [labels]}, or `cifar100`.'),
]
WordnetOption = Annotated[bool, typer.Option("--wordnet", help="Compare the labels with WordNet, by their names.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Overwrite what is there.")]
TrackOption = Annotated[
    str | None,
    typer.Option(
        "--track", metavar="NAME,...", help="Log each epoch to tensorboard, wandb or mlflow too (extra `track`)."
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        callback=device_for_runs,
        help="Where to compute; by default on the GPU if there is one.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, metavar="N", help="Runs at once; by default one a GPU, else one a core."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="ADDRESS", help="Train on the workers of this dask scheduler, tcp://HOST:PORT."),
]
SpaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="KEY=LOW:HIGH[:log]|KEY=A,B,...|objective",
        help="Tune this key too, or over this range, e.g. optimizer.learning_rate=1e-4:1e-1:log; may be repeated. "
        "`objective` tunes the objectives' own arguments only.",
    ),
]


def without_set(message: str) -> str:
    """Returns a message for a verb that has no `--set`: it names the keys of the recipe alone."""
    return message.replace("--set ", "")
