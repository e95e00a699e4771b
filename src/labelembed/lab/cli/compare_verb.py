"""The verb `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelembed.lab.cli.launched import say
from labelembed.lab.cli.options import (
    BaselineOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    ObjectivesOption,
    OverwriteOption,
    QuietOption,
    RecipeArgument,
    SeedsOption,
    SetOption,
    SpaceOption,
    TrackOption,
    out_option,
)
from labelembed.lab.cli.program import verb
from labelembed.lab.runs.fork_server import start_fork_server

if TYPE_CHECKING:
    from labelembed.lab.results import Comparison


@verb(
    "Train",
    "labelembed compare digits-mlp",
    "labelembed compare digits-mlp --objectives one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper "
    "--seeds 0-7 --epochs 10",
    "labelembed compare --data reviews.csv --tuned --trials 10 --jobs 2",
)
def compare(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objectives: ObjectivesOption = None,
    seeds: SeedsOption = None,
    baseline: BaselineOption = None,
    out: Annotated[
        Path | None,
        out_option(
            "DIR", "The comparison folder; by default comparisons/DATA-RECIPE, of --tuned with -tuned at its end."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="First tune learning rate, weight decay and arguments of each objective by --trials.",
        ),
    ] = False,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="With --tuned: trials of each objective; by default 10.")
    ] = None,
    space: SpaceOption = None,
    track: TrackOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train several objectives with several seeds and say which is better, and how sure that is."""
    if cluster is None:
        start_fork_server()  # it imports torch while this process does
    from labelembed.lab.comparing import comparison_folder, make_comparison
    from labelembed.lab.errors import RecipeError
    from labelembed.lab.recipes.choosing import choose_recipe
    from labelembed.lab.runs.machines import Machines, until_stopped
    from labelembed.lab.training.reporter import tracker_names

    asked = [option for option, value in {"--trials": trials, "--space": space}.items() if value is not None]
    if asked and not tuned:
        raise RecipeError([f"goes with --tuned; tune alone is `labelembed tune {recipe or 'RECIPE'}`"], source=asked[0])
    trackers = tracker_names(track)
    chosen, name = choose_recipe(recipe, settings=settings or [], data=data, say=say)
    out = out or comparison_folder(chosen, name, tuned=tuned)
    machines = Machines(jobs=jobs, cluster=cluster, device=device)
    with until_stopped(f"{recipe or name}, --out {out}"):
        found, failed = make_comparison(
            chosen,
            name,
            out,
            objectives=objectives,
            seeds=seeds,
            baseline=baseline,
            trials=(10 if trials is None else trials) if tuned else None,
            space=space or [],
            machines=machines,
            track=trackers,
            overwrite=overwrite,
            quiet=quiet,
        )
    say_comparison(found, failed, as_json=as_json)


def say_comparison(found: Comparison, failed: dict[str, str], *, as_json: bool) -> None:
    """Prints what a comparison shows; raises TrainingError where runs have failed."""
    from labelembed.lab import report
    from labelembed.lab.errors import TrainingError

    if as_json:
        typer.echo(json.dumps(found.rows(), allow_nan=False))
    else:
        report.print_comparison(found.read)
    # A run that could not even begin has left no word in its folder.
    failed = failed | {
        f"{one.name} seed {seed}": why for one in found.read.variants for seed, why in one.failed.items()
    }
    if failed:
        heading = f"{len(failed)} run{'s' if len(failed) != 1 else ''} failed; the same command tries again"
        reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in failed.items()]
        raise TrainingError("\n".join([heading, *reasons]))
