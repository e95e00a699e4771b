"""The verb `distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelembed.lab.cli.compare_verb import say_comparison
from labelembed.lab.cli.options import ClusterOption, DeviceOption, JobsOption, JsonOption, QuietOption, SetOption
from labelembed.lab.cli.program import verb


@verb(
    "Train",
    "labelembed distill comparisons/digits-mlp",
    "labelembed distill comparisons/digits-mlp --variant label_smoothing --set objective.teacher_weight=0.6",
)
def distill(
    comparison: Annotated[Path, typer.Argument(metavar="COMPARISON", help="The folder of a comparison.")],
    variant: Annotated[
        str | None,
        typer.Option("--variant", metavar="NAME", help="Whose runs teach; by default the lowest validation error."),
    ] = None,
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Leave out runs that have failed or not finished.")
    ] = False,
    settings: SetOption = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one network on what the runs of a comparison predict together, and add it to the comparison.

    The runs of a variant are an ensemble that is trained already. A student learns from their mean prediction, the
    label and a uniform component; it costs as much to train and to predict with as one of them.
    """
    from labelembed.lab.comparing import make_students
    from labelembed.lab.runs.machines import Machines, until_stopped

    with until_stopped(str(comparison)):
        found, failed = make_students(
            comparison,
            variant=variant,
            finished_only=finished_only,
            settings=settings or [],
            machines=Machines(jobs=jobs, cluster=cluster, device=device),
            quiet=quiet,
        )
    say_comparison(found, failed, as_json=as_json)
