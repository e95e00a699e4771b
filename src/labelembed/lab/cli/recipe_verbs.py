"""Verbs about recipes: objectives, recipes, init, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labelembed.lab.cli.launched import say
from labelembed.lab.cli.options import DataOption, JsonOption, OverwriteOption, RecipeArgument, SetOption, out_option
from labelembed.lab.cli.program import verb


@verb("Look up and prepare", "labelembed objectives")
def objectives(as_json: JsonOption = False) -> None:
    """List the objectives, one line each; with --json their arguments too."""
    from labelembed.lab.recipes.components import keys_of, summary
    from labelembed.lab.runs.search_spaces import SEARCH_SPACES
    from labelembed.objectives import OBJECTIVES

    if as_json:
        listed = {
            name: {
                "summary": summary(kind),
                "keys": {key: None if field.is_required() else field.default for key, field in keys_of(kind).items()},
                "search_space": SEARCH_SPACES[name],
                "required": [key for key, field in keys_of(kind).items() if field.is_required()],
            }
            for name, kind in OBJECTIVES.items()
        }
        typer.echo(json.dumps(listed))
        return
    for name, kind in OBJECTIVES.items():
        typer.echo(f"{name:<22} {summary(kind)}")


@verb("Look up and prepare", "labelembed recipes")
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that ship, one line each."""
    from labelembed.lab.recipes.loading import recipe_heading, shipped_recipes

    listed = {name: recipe_heading(text)[0] for name, text in shipped_recipes().items()}
    if as_json:
        typer.echo(json.dumps(listed, ensure_ascii=False))
        return
    for name, line in listed.items():
        typer.echo(f"{name:<20} {line}")


@verb("Look up and prepare", "labelembed init digits-mlp -o my.yaml")
def init(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe that ships (see `labelembed recipes`) or a YAML file.")
    ],
    out: Annotated[Path, out_option("FILE", "The file to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a recipe with every key and what it means, to start your own from."""
    from labelembed.lab.errors import RecipeError
    from labelembed.lab.recipes.writing import full_recipe
    from labelembed.lab.training.files import write_bytes

    text = full_recipe(recipe)
    if out.is_dir():
        raise RecipeError(["is a folder; name a file"], source=str(out))
    if out.exists() and not overwrite:
        raise RecipeError(["exists already; --overwrite overwrites it"], source=str(out))
    if not out.parent.is_dir():
        raise RecipeError([f"there is no folder {out.parent}"], source=str(out))
    write_bytes(out, text.encode())
    typer.echo(f"{out}: written; next: labelembed check {out}")


@verb(
    "Look up and prepare",
    "labelembed check mnist-mlp --data path/to/mnist",
    "labelembed check --data reviews.csv --epochs 5",
)
def check(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe and its data, build the network, say how long a run takes; train nothing."""
    from labelembed.lab.recipes.choosing import choose_recipe
    from labelembed.lab.runs.build import build_data
    from labelembed.lab.runs.comparison_plan import plan_comparison
    from labelembed.lab.runs.display import reading_progress
    from labelembed.lab.runs.machines import default_jobs
    from labelembed.lab.runs.progress_text import duration
    from labelembed.lab.runs.run import seconds_of_a_run, try_network

    chosen, name = choose_recipe(recipe, settings=settings or [], data=data, say=say)
    plan = plan_comparison(chosen, name, Path("comparisons") / f".check-{name}")
    with reading_progress(chosen.data["name"], quiet=as_json) as reading:
        found = build_data(chosen, progress=reading)
    network = try_network(chosen, found)
    notes = list(found.notes)
    facts: dict[str, Any] = {
        "recipe": name,
        "source": found.source,
        "examples": {part: len(split) for part, split in found.splits.items()},
        "labels": found.num_labels,
        "input_shape": list(getattr(found, "input_shape", [])),
        "notes": notes,
        "parameters": network.parameter_count(),
        "steps_per_epoch": found.train.number_of_batches(chosen.step_size(found.num_labels)),
        "epochs": chosen.number_of_epochs(found),
        "objective": chosen.objective["name"],
        "comparison": [variant.name for variant in plan.variants],
    }
    seconds = seconds_of_a_run(chosen, found)
    facts |= {"seconds": round(seconds, 1)}
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    typer.echo(f"{name}: fine")
    inputs = f", inputs {facts['input_shape']}" if facts["input_shape"] else ""
    rows = ", ".join(f"{part} {number:,}" for part, number in facts["examples"].items())
    typer.echo(f"  data        {found.source}: {rows}; {found.num_labels:,} labels{inputs}")
    for note in notes:
        typer.echo(f"  note        {note}")
    typer.echo(f"  network     {facts['parameters']:,} parameters, objective {facts['objective']}")
    typer.echo(f"  training    {facts['epochs']} epochs of {facts['steps_per_epoch']:,} steps")
    typer.echo(f"  one run     about {duration(seconds)} on one thread")
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) != 1 else ''}"
    jobs = default_jobs(None)
    together = duration(seconds * len(plan.runs) / min(jobs, len(plan.runs)))
    typer.echo(f"  comparison  {', '.join(facts['comparison'])}; {seeds}; about {together} with {jobs} runs at once")
