"""What a run folder keeps, read again: the recipe, what makes inputs of examples, and the network with its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from safetensors import safe_open

from labelembed.errors import DataError
from labelembed.lab.errors import RecipeError, RunFolderError
from labelembed.lab.recipes.loading import put_settings, with_whole_paths
from labelembed.lab.recipes.schema import Recipe, parse_recipe
from labelembed.lab.training.network import Network
from labelembed.lab.training.run_folder import RunFolder
from labelembed.tensor_files import require_header


def stored_recipe(folder: RunFolder) -> Recipe:
    """Returns the recipe of a run folder.

    Raises:
        RunFolderError: When there is no run, or its recipe is damaged.
    """
    values = folder.recipe()
    try:
        return parse_recipe(values, source=str(folder.path / "recipe.yaml"))
    except Exception as error:
        raise RunFolderError(f"{folder.path}: its recipe.yaml is damaged: {error}") from error


def changed_recipe(folder: RunFolder, settings: Sequence[str]) -> Recipe:
    """Returns the recipe of a run folder with `key.key=value` settings put into it.

    Raises:
        RecipeError: When a setting is none, or the recipe with it is none.
        RunFolderError: When there is no run, or its recipe is damaged.
    """
    stored_recipe(folder)
    values = folder.recipe()
    source = f"{folder.path / 'recipe.yaml'} with --set"
    errors = put_settings(values, settings)
    if errors:
        raise RecipeError(errors, source=source)
    return with_whole_paths(parse_recipe(values, source=source), folder.path)


def with_saved_weights(folder: RunFolder, build: Callable[[], Network]) -> Network:
    """Returns a network with a run's weights, in evaluation mode; nothing in the folder is unpickled.

    Args:
        folder: Of the finished run.
        build: Makes the network of the run's recipe.

    Raises:
        RunFolderError: When the weights are damaged, not those that the run wrote, or not of that network.
    """
    try:
        folder.require_unchanged(folder.model_file)
        _refuse_larger_network(folder, build)
        network = build()
        network.load_prediction_state(_weights(folder, network))
        wrong = next((name for name, value in network.state_dict().items() if not value.isfinite().all()), None)
        if wrong is not None:
            raise RuntimeError(f"{wrong} holds a value that is not finite")
    except (DataError, RunFolderError):
        raise
    except Exception as error:  # whatever a file or a recipe that is not of this run makes torch raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunFolderError(f"{folder.model_file}: damaged, or not of this run's recipe ({reason})") from error
    return network.eval()


def _refuse_larger_network(folder: RunFolder, build: Callable[[], Network]) -> None:
    """Raises RuntimeError where the recipe's network has more numbers than the file has bytes.

    It is built without memory first: a folder that somebody else made may say that its network fills any.
    """
    held = folder.model_file.stat().st_size
    try:
        with torch.device("meta"):
            sketch = build()
    except RecipeError as error:
        if not isinstance(error.__cause__, NotImplementedError):
            raise
        return  # torch has no form without memory of something that a part does while it is built
    numbers = sum(value.numel() for value in sketch.parameters())
    if numbers > held:
        raise RuntimeError(f"the network has {numbers:,} numbers and the file {held:,} bytes")


def _weights(folder: RunFolder, network: Network) -> dict[str, torch.Tensor]:
    require_header(folder.model_file)
    with safe_open(folder.model_file, framework="pt") as file:
        names = set(file.keys())
        other = sorted(names - network.state_dict().keys())
        if other:  # before any of thousands is made
            raise RuntimeError(f"unknown weights {', '.join(other[:3])}")
        return {name: file.get_tensor(name) for name in names}
