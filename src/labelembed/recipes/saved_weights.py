"""The network of a finished run, built anew and given the weights that the run kept."""

from __future__ import annotations

from collections.abc import Callable

from safetensors import SafetensorError
from safetensors.torch import load_file

from labelembed.errors import RecipeError, RunFolderError
from labelembed.training.network import Network
from labelembed.training.run_folder import RunFolder


def with_saved_weights(folder: RunFolder, build: Callable[[], Network]) -> Network:
    """Returns a network with a run's weights, in evaluation mode; nothing in the folder is unpickled.

    Args:
        folder: Of the finished run.
        build: Makes the network of the run's recipe.

    Raises:
        RunFolderError: When the weights are damaged, or not of that network.
    """
    try:
        network = build()
        network.load_prediction_state(load_file(folder.model_file))
        wrong = next((name for name, value in network.state_dict().items() if not value.isfinite().all()), None)
        if wrong is not None:
            raise RuntimeError(f"{wrong} holds a value that is not finite")
    except (SafetensorError, OSError, RuntimeError, RecipeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFolderError(f"{folder.model_file}: damaged, or not of this run's recipe ({reason})") from error
    return network.eval()
