"""Any network of timm as an encoder, with weights from a local file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors, DataError, nearest
from labelembed.tensor_files import require_header

INSTALL = "pip install 'labelembed[pictures]'"


class Backbone(nn.Module):
    """A network of timm without its classifier, e.g. a ResNet-50 that begins with ImageNet's weights.

    Nothing is downloaded. Grey pictures are given to all three colours, so that weights for colours fit.

    Args:
        input_shape: (channels, height, width).
        backbone: timm's name of the architecture: `resnet50`, `efficientnet_b0`, `densenet121`, ...
        weights: A local file of weights, safetensors or PyTorch's (read with `weights_only`, so that nothing in it is
            run); those of the classifier are left out, all others must fit. None: start at random. A run that has
            saved a checkpoint needs the file no more.
        enlarge: Smallest side in pixels that the network is given: pictures with a smaller side are doubled until
            they have it (Yu, Verma 2022 double those under 32 pixels). 1: as they are.
        dropout: Probability of dropping a hidden unit.

    Shapes: inputs [N, channels, height, width], output [N, hidden_size].

    Raises:
        DataError: timm is missing, or the file of weights cannot be read or is of another architecture.
        ValueError: An argument is out of its range.
    """

    output_std: float | None = None

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        backbone: str = "resnet18",
        weights: str | None = None,
        enlarge: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.check_arguments(
            input_shape=input_shape, backbone=backbone, weights=weights, enlarge=enlarge, dropout=dropout
        )
        timm = _timm()
        channels, height, width = input_shape
        self.factor = 1
        while min(height, width) * self.factor < enlarge:
            self.factor *= 2
        size = (height * self.factor, width * self.factor)
        config = timm.models.get_pretrained_cfg(backbone)
        arguments = {"img_size": size} if config is not None and config.fixed_input_size else {}
        colours = 3 if channels == 1 else channels
        self.repeats = colours // channels
        # `pretrained` would fetch the weights.
        self.layers: nn.Module = timm.create_model(
            backbone, pretrained=False, num_classes=0, in_chans=colours, **arguments
        )
        if weights is not None:
            _load(self.layers, Path(weights).expanduser(), backbone)
        self.dropout = nn.Dropout(dropout)
        self.hidden_size = _width(self.layers, colours, size, backbone)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def check_arguments(
        *, input_shape: Sequence[int], backbone: str, weights: str | None, enlarge: int, dropout: float
    ) -> None:
        """Raises what is wrong with the arguments, without building anything.

        Raises:
            DataError: timm is missing.
            ValueError: An argument is out of its range.
        """
        errors = ArgumentErrors()
        pictures = len(input_shape) == 3 and min(input_shape) >= 1
        errors.require(pictures, "input_shape", list(input_shape), "must be (channels, height, width)")
        errors.require(enlarge >= 1, "enlarge", enlarge, "must be >= 1")
        errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        known = _timm().list_models()
        rule = f"must be a name of timm.list_models(){nearest(backbone, known)}"
        errors.require(backbone.split(".")[0] in known, "backbone", backbone, rule)
        errors.raise_if_any()

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        if self.factor > 1:
            inputs = F.interpolate(inputs, scale_factor=self.factor, mode="nearest")
        if self.repeats > 1:
            inputs = inputs.expand(-1, self.repeats, -1, -1)
        # The last batch of an epoch may be one example, and where that is one pixel in the end it has no deviation to
        # be normalised by: then by the running one.
        alone = self.training and inputs.shape[0] == 1
        if alone:
            self.layers.eval()
        hidden: Tensor = self.dropout(self.layers(inputs.contiguous(memory_format=torch.channels_last)))
        if alone:
            self.layers.train()
        return hidden


def _timm() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision made for another torch
        message = f"the model 'timm' needs the packages timm and torchvision: {INSTALL} ({_reason(error)})"
        raise DataError(message) from error
    return timm


@torch.no_grad()
def _width(layers: nn.Module, channels: int, size: tuple[int, int], backbone: str) -> int:
    """Returns the width of the hidden states; timm's own number is not that of every architecture."""
    layers.eval()
    try:
        hidden = layers(torch.zeros(1, channels, *size))
    except (RuntimeError, AssertionError) as error:
        message = f"model: {backbone!r} cannot read pictures of {size[0]}x{size[1]} ({_reason(error)})"
        raise DataError(message) from error
    layers.train()
    if hidden.ndim != 2:
        raise DataError(f"model: {backbone!r} returns {list(hidden.shape)} for a picture, not one hidden state")
    return int(hidden.shape[1])


def _load(layers: Any, path: Path, backbone: str) -> None:
    """Loads weights; those of the classifier, which is not there, are left out."""
    names = layers.pretrained_cfg.get("classifier") or ()
    classifiers = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
    given = {name: value for name, value in read_weights(path).items() if not f"{name}.".startswith(classifiers)}
    try:
        layers.load_state_dict(given)
    except RuntimeError as error:
        errors = (textwrap.shorten(line, 400, placeholder=" ...") for line in str(error).splitlines()[1:5])
        raise DataError("\n  ".join([f"{path}: are not the weights of timm's {backbone!r}", *errors])) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file of weights by name: safetensors, or PyTorch's format with nothing but tensors.

    Raises:
        DataError: The file is missing, damaged, or holds something that would have to be run.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights; model.weights must name a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            require_header(path)
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise DataError(f"{path}: cannot be read as weights ({_reason(error)}); save them as .safetensors") from error
    for name in ("state_dict", "model"):  # a file of a training run often holds the weights beside other things
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{path}: holds no weights; expected tensors by name, by themselves or below 'state_dict'")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
