"""Subcommands about recipes: list, init, check."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from labelembed.lab.cli.app import subcommand
from labelembed.lab.cli.options import DataOption, JsonOption, OverwriteOption, RecipeArgument, SetOption, out_option

PREPARE = "Look up and prepare"


@subcommand(PREPARE, "labelembed list recipes", "labelembed list objectives")
def list_(
    what: Annotated[
        Literal["recipes", "objectives", "all"], typer.Argument(metavar="recipes|objectives", help="What to list.")
    ] = "all",
) -> None:
    """List the recipes that ship and the objectives, one line each."""
    from labelembed.lab.recipes.components import summary
    from labelembed.lab.recipes.loading import recipe_heading, shipped_recipes
    from labelembed.objectives import OBJECTIVES

    listed = {
        "recipes": {name: recipe_heading(text)[0] for name, text in shipped_recipes().items()},
        "objectives": {name: summary(kind) for name, kind in OBJECTIVES.items()},
    }
    for heading, lines in listed.items():
        if what in ("all", heading):
            typer.echo("\n".join([f"{heading}:", *(f"  {name:<24} {line}" for name, line in lines.items())]))


@subcommand(PREPARE, "labelembed init digits-mlp -o my.yaml", "labelembed init text-bag -o reviews.yaml --overwrite")
def init(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe that ships (see `labelembed list`) or a YAML file.")
    ],
    out: Annotated[Path, out_option("FILE", "The file to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a recipe with every key and what it means, to start your own from."""
    from labelembed.lab.errors import RecipeError
    from labelembed.lab.recipes.writing import full_recipe
    from labelembed.lab.training.files import write_bytes

    text = full_recipe(recipe)
    if out.exists() and not overwrite:
        raise RecipeError(["exists already; --overwrite overwrites it"], source=str(out))
    if not out.parent.is_dir():
        raise RecipeError([f"there is no folder {out.parent}"], source=str(out))
    write_bytes(out, text.encode())
    typer.echo(f"{out}: written; next: labelembed check {shlex.quote(str(out))}")


@subcommand(
    PREPARE,
    "labelembed check mnist-mlp --data path/to/mnist",
    "labelembed check --data reviews.csv --set epochs=5",
)
def check(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe and its data, build the network, say how long a run takes; train nothing."""
    from labelembed.lab.data import LabelledData
    from labelembed.lab.recipes.choosing import choose_recipe
    from labelembed.lab.recipes.variants import seeds_of, variants_of
    from labelembed.lab.runs.build import build_data
    from labelembed.lab.runs.comparison import notes_of
    from labelembed.lab.runs.display import RunDisplay, duration, say
    from labelembed.lab.runs.pools import default_jobs
    from labelembed.lab.runs.run import seconds_of_a_run, try_network

    chosen, name = choose_recipe(recipe, settings=settings or [], data=data, say=say)
    variants, numbers = variants_of(chosen, None), seeds_of(chosen, None)
    with RunDisplay(quiet=as_json).watching() as display:
        read = build_data(chosen, progress=display.reading, dry_run=True)
    network = try_network(chosen, read)
    seconds = seconds_of_a_run(chosen, read)
    notes, features = notes_of(chosen, read), read.encoder.left_to_do if isinstance(read, LabelledData) else None
    facts: dict[str, Any] = {
        "recipe": name,
        "source": read.source,
        "examples": {part: len(split) for part, split in read.splits.items()},
        "labels": read.num_labels,
        "input_shape": list(getattr(read, "input_shape", [])),
        "notes": notes,
        "parameters": network.parameter_count(),
        "steps_per_epoch": read.train.number_of_batches(chosen.step_size(read.num_labels)),
        "epochs": chosen.number_of_epochs(read),
        "objective": chosen.objective["name"],
        "comparison": [variant.name for variant in variants],
        "seconds": round(seconds, 3),
    }
    facts |= {} if features is None else {"features_seconds": round(features[1], 1)}
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    examples = ", ".join(f"{part} {number:,}" for part, number in facts["examples"].items())
    lines = {"data": f"{read.source}: {examples}; {read.num_labels:,} labels"}
    if features is not None:
        lines["features"] = f"about {duration(features[1])} for {features[0]:,} pictures, then in the cache"
    lines["network"] = f"{facts['parameters']:,} parameters, objective {facts['objective']}"
    lines["training"] = f"{facts['epochs']} epoch{'s' * (facts['epochs'] != 1)} of {facts['steps_per_epoch']:,} steps"
    lines["one run"] = f"about {duration(seconds)} on one thread"
    jobs, runs = default_jobs(None), len(numbers) * len(variants)
    together = f"{len(numbers)} seeds; about {duration(seconds * runs / min(jobs, runs))} with {jobs} runs at once"
    lines["comparison"] = f"{', '.join(facts['comparison'])}; {together}"
    typer.echo(f"{name}: fine")
    for heading, line in [*lines.items(), *(("note", note) for note in notes)]:
        typer.echo(f"  {heading:<11} {line}")
