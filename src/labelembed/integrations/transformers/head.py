"""The layer that `attach` puts in the place of a model's last one, and the hooks of the model that use it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.distributed import process_count
from labelembed.objectives import Objective


class _Targets(NamedTuple):
    """What a forward pass is to learn: labels as the hidden states have them, indices, labels in the whole step."""

    labels: Tensor
    indices: Tensor | None
    num_items: Tensor | int | None


class _SharedLinear(nn.Linear):
    """A linear layer with the parameters of another module, which owns them."""

    owner: nn.Linear

    def __init__(self, owner: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = owner.in_features, owner.out_features
        self.__dict__["owner"] = owner  # not registered: the owner holds this layer

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The owner's weight."""
        return self.owner.weight

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """The owner's bias."""
        return self.owner.bias


class Head(nn.Linear):
    """A model's last linear layer with an objective around it; see `attach`.

    Its weight and bias are the layer's own under their old names: tied weights stay tied, and what is saved loads as
    the plain model too. Without labels it returns the objective's logits. With labels it hands on hidden states, which
    the model treats as it would its logits (takes the last token's, say), and `after` makes loss and logits of them.
    """

    def __init__(self, layer: nn.Linear, objective: Objective, *, shifts: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)
        objective.output = _SharedLinear(self)
        self.objective = objective
        self.shifts = shifts
        self.collects = self.has_learned = False
        self._targets: _Targets | None = None
        self._was_called = False
        self._precision: dict[str, Any] = {}

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns logits [..., C], or where there are labels the hidden states [..., H]."""
        if self._targets is None:
            return self.objective.logits(hidden)
        device = hidden.device.type
        self._precision = {"enabled": torch.is_autocast_enabled(device), "dtype": torch.get_autocast_dtype(device)}
        self._was_called = True
        return hidden

    def before(self, model: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Keeps the labels back, so that the model makes no loss of its own: a forward pre-hook of the model."""
        labels, shifted = inputs.pop("labels", None), inputs.pop("shift_labels", None)
        indices, num_items = inputs.pop("indices", None), inputs.pop("num_items_in_batch", None)
        self._targets, self._was_called = None, False
        if labels is None and shifted is None:
            return args, inputs
        reads = inputs.get("decoder_input_ids") is not None or inputs.get("decoder_inputs_embeds") is not None
        if not reads and hasattr(model, "prepare_decoder_input_ids_from_labels"):
            inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
        if shifted is None:
            shifted = F.pad(labels[..., 1:], (0, 1), value=-100) if self.shifts else labels
        self._targets = _Targets(shifted, indices, num_items)
        return args, inputs

    def after(self, model: Any, args: Any, outputs: Any) -> Any:
        """Puts the loss, and in evaluation mode the logits, into the outputs: a forward hook of the model."""
        if self._targets is None:
            return outputs
        targets, self._targets = self._targets, None
        if not self._was_called:
            raise RuntimeError(
                f"the output layer of {type(model).__name__} was replaced after `attach`, as resize_token_embeddings "
                "does; attach the objective after that"
            )
        hidden = outputs[0] if isinstance(outputs, tuple) else outputs.logits
        labels = targets.labels.to(hidden.device)
        if self.collects:
            return hidden, labels, targets.indices
        self.has_learned |= self.training
        # Accelerate's own autocast ends before a hook of the model begins.
        with torch.autocast(hidden.device.type, **self._precision):
            loss = self._loss(hidden, labels, targets)
            logits = None if self.training else self.objective.logits(hidden).to(hidden.dtype)
        if isinstance(outputs, tuple):
            return (loss, *([] if logits is None else [logits]), *outputs[1:])
        return type(outputs)(**{**outputs, "loss": loss, "logits": logits})

    def _loss(self, hidden: Tensor, labels: Tensor, targets: _Targets) -> Tensor:
        """Returns the mean over the whole optimiser step where the number of its labels is given, else the batch's."""
        if targets.num_items is None:
            return self.objective(hidden, labels, targets.indices).total  # type: ignore[no-any-return]
        # DataParallel's is one number for each device.
        count = torch.as_tensor(targets.num_items, device=hidden.device).float().mean()
        total: Tensor = self.objective(hidden, labels, targets.indices, num_items_in_step=count).total
        # Trainer multiplies by the number of processes, as the objective has done in training.
        return total / process_count(self.objective.process_group) if self.training else total
