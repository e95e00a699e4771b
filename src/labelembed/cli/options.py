"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe that ships (see `labelembed recipes`) or a YAML file.")
]
FittingRecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe that ships (see `labelembed recipes`) or a YAML file; without one the recipe that fits --data.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="PATH", help="Where the data are; the same as --set data.path=PATH.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. objective.temperature=3; may be repeated."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
CalibrationOption = Annotated[
    bool, typer.Option("--no-calibration", help="Fit no temperature on the validation examples after training.")
]
TrackOption = Annotated[
    str | None,
    typer.Option(
        "--track", metavar="NAME,...", help="Log each epoch to tensorboard, wandb or mlflow too (extra `track`)."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say how many runs and how long; run and write nothing.")]
DeviceOption = Annotated[
    Literal["cpu"] | None, typer.Option("--device", help="`cpu` keeps off a GPU; by default what there is.")
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Runs at once, one thread each; by default one a GPU, else one a core."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Make the runs on the workers of this dask scheduler (tcp://HOST:PORT) instead.",
    ),
]
SpaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="KEY=LOW:HIGH[:log]|KEY=A,B,...|objective",
        help="Tune this key too, or otherwise, e.g. optimizer.learning_rate=1e-4:1e-1:log; may be repeated. "
        "`objective`: the objective's own arguments only, not learning rate and weight decay.",
    ),
]
PruneOption = Annotated[
    Literal["none", "median"],
    typer.Option("--prune", help="`median`: give up runs that are worse than the median of the trials before."),
]


def without_set(message: str) -> str:
    """Returns a message for a verb that has no `--set`: it names the keys of the recipe alone."""
    return message.replace("--set ", "")
