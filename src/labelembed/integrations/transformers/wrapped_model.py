"""What the models of this room have in common: how they are saved, found, begun, and what transformers may assume."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from labelembed.distributed import process_count
from labelembed.integrations.transformers import objective_module
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.objectives import Objective


class WrappedModel(PreTrainedModel):  # type: ignore[misc]
    """A network of transformers (`model`) with an objective (`objective`) in the place of its head and loss.

    Args:
        config: What it is made of.
        num_labels: C.

    Raises:
        ValueError: The configuration is of another model, or an argument of the objective is wrong.
    """

    config_class = ObjectiveConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True  # losses are scaled here, not by Trainer
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    objective: Objective

    def __init__(self, config: ObjectiveConfig, *, num_labels: int) -> None:
        super().__init__(config)
        self.model = AutoModel.from_config(config.required_backbone())
        width = config.backbone.get_text_config().hidden_size
        self.objective = objective_module.objective_of(config, hidden_size=width, num_labels=num_labels)
        self.told_of_epochs = False

    @classmethod
    def of_parts(cls, config: ObjectiveConfig, network: nn.Module, objective: Objective) -> Self:
        """Returns a model of a network and an objective that are there already."""
        with torch.device("meta"):
            model = cls(config)  # type: ignore[call-arg]
        model.model, model.objective = network, objective
        return model

    @classmethod
    def from_pretrained(cls, folder: Any, *arguments: Any, **named: Any) -> Any:
        """Loads what `save_pretrained` wrote; see transformers' `from_pretrained`.

        Raises:
            ValueError: The folder holds another kind of model, which must be wrapped first.
        """
        wants_info = named.pop("output_loading_info", False)
        model, info = super().from_pretrained(folder, *arguments, output_loading_info=True, **named)
        objective_module.refuse_other_weights(info["missing_keys"], info["unexpected_keys"], folder)
        objective_module.settle(model.objective)
        return (model, info) if wants_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """Leaves the objective as it begins by itself; the network has its own way."""

    def loss_is_wanted(self, labels: Any) -> bool:
        """Tells whether there are labels to learn.

        Raises:
            ValueError: The objective is trained and must be told of epochs, and nobody has.
        """
        if labels is None:
            return False
        if self.training:
            objective_module.require_epochs(self.objective, self.told_of_epochs)
        return True

    def objective_loss(
        self, hidden: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None, indices: Tensor | None = None
    ) -> Tensor:
        """Returns the loss as Trainer wants it: of a mean over all examples of the optimiser step.

        Args:
            hidden: [B, H] or [B, T, H].
            labels: [B] or [B, T]; -100: no part.
            num_items_in_batch: Examples that count in all micro-batches of the step; None: the batch is the step.
            indices: Where the examples stand in the training set; None where nobody remembers them.
        """
        if isinstance(num_items_in_batch, Tensor):
            num_items_in_batch = num_items_in_batch.to(hidden.device).float().mean()
        terms = self.objective(hidden, labels, indices, num_items_in_step=num_items_in_batch)
        total: Tensor = terms.total
        # With a number of items Trainer itself multiplies by the number of processes.
        return total if num_items_in_batch is None else total / process_count(self.objective.process_group)

    def skips_logits(self, skip: bool | None, labels: Any) -> bool:
        """Tells whether the logits are left out: as was said, else in training where there are labels."""
        return (self.training and labels is not None) if skip is None else skip
