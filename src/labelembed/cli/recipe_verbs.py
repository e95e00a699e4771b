"""Verbs about recipes: objectives, recipes, init, check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.options import DataOption, FittingRecipeArgument, JsonOption, RecipeArgument, SetOption


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command(epilog="Example: labelembed objectives")(objectives)
    app.command(epilog="Example: labelembed recipes")(recipes)
    app.command(epilog="Example: labelembed init digits-mlp -o my.yaml")(init)
    app.command(epilog="Example: labelembed check mnist-mlp --data path/to/mnist")(check)


def objectives(as_json: JsonOption = False) -> None:
    """List the objectives there are, one line each."""
    from labelembed.objectives import OBJECTIVES
    from labelembed.recipes.signature import keys_of, summary
    from labelembed.runs.search_spaces import SEARCH_SPACES

    if as_json:
        listed = {
            name: {
                "summary": summary(kind),
                "keys": {key.name: None if key.required else key.default for key in keys_of(kind).values()},
                "search_space": SEARCH_SPACES[name],
                "required": [key.name for key in keys_of(kind).values() if key.required],
            }
            for name, kind in OBJECTIVES.items()
        }
        typer.echo(json.dumps(listed))
        return
    for name, kind in OBJECTIVES.items():
        typer.echo(f"{name:<22} {summary(kind)}")


def recipes(as_json: JsonOption = False) -> None:
    """List the recipes that ship, one line each."""
    from labelembed.recipes.loading import recipe_heading, shipped_recipes

    listed = {name: recipe_heading(text)[0] for name, text in shipped_recipes().items()}
    if as_json:
        typer.echo(json.dumps(listed, ensure_ascii=False))
        return
    for name, line in listed.items():
        typer.echo(f"{name:<20} {line}")


def init(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a recipe with every key, each with a comment, to begin one's own from."""
    from labelembed.errors import RecipeError
    from labelembed.recipes.writing import full_recipe
    from labelembed.training.files import write_bytes

    text = full_recipe(recipe)
    if out.is_dir():
        raise RecipeError(["is a folder; name a file"], source=str(out))
    if out.exists() and not force:
        raise RecipeError(["exists already; --force writes over it"], source=str(out))
    if not out.parent.is_dir():
        raise RecipeError([f"there is no folder {out.parent}"], source=str(out))
    write_bytes(out, text.encode())
    typer.echo(f"{out}: written; next: labelembed check {out}")


def check(
    recipe: FittingRecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a recipe and its data, build the network, and train nothing."""
    from labelembed.runs.build import build_data
    from labelembed.runs.comparison import default_jobs
    from labelembed.runs.comparison_plan import plan_comparison
    from labelembed.runs.display import reading_shown
    from labelembed.runs.estimate import estimate_run
    from labelembed.runs.memory import in_gib
    from labelembed.runs.progress_text import duration
    from labelembed.runs.training_network import network_for

    chosen, name = chosen_recipe(recipe, settings=settings, data=data)
    plan = plan_comparison(chosen, name, Path("comparisons") / f".check-{name}")
    with reading_shown(chosen.data["name"], quiet=as_json) as reading:
        found = build_data(chosen, progress=reading)
    network = network_for(chosen, found, to_try=True)
    notes = list(found.notes)
    facts: dict[str, Any] = {
        "recipe": name,
        "source": found.source,
        "rows": {part: len(split) for part, split in found.splits.items()},
        "labels": found.num_labels,
        "input_shape": list(getattr(found, "input_shape", [])),
        "notes": notes,
        "parameters": network.parameter_count(),
        "steps_per_epoch": found.train.number_of_batches(chosen.step_size(found.num_labels)),
        "epochs": chosen.number_of_epochs(found),
        "objective": chosen.objective["name"],
        "comparison": [variant.name for variant in plan.variants],
    }
    estimate = estimate_run(chosen, found)
    facts |= {"seconds": round(estimate.seconds, 1), "step_bytes": estimate.step_bytes}
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    typer.echo(f"{name}: fine")
    inputs = f", inputs {facts['input_shape']}" if facts["input_shape"] else ""
    rows = ", ".join(f"{part} {number:,}" for part, number in facts["rows"].items())
    typer.echo(f"  data        {found.source}: {rows}; {found.num_labels:,} labels{inputs}")
    for note in notes:
        typer.echo(f"  note        {note}")
    typer.echo(f"  network     {facts['parameters']:,} parameters, objective {facts['objective']}")
    typer.echo(f"  training    {facts['epochs']} epochs of {facts['steps_per_epoch']:,} steps")
    free = "" if estimate.free_bytes is None else f" ({in_gib(estimate.free_bytes)} are free)"
    typer.echo(
        f"  one run     about {duration(estimate.seconds)} on one thread; "
        f"memory {in_gib(estimate.step_bytes)} a step{free}"
    )
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) != 1 else ''}"
    jobs = default_jobs(None)
    together = duration(estimate.seconds * len(plan.runs) / min(jobs, len(plan.runs)))
    typer.echo(f"  comparison  {', '.join(facts['comparison'])}; {seeds}; about {together} with {jobs} runs at once")
