"""An objective in a model, and what `Trainer` calls to tell it of epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_parameter_names

from labelembed.geometry import LabelGeometry
from labelembed.integrations.training_examples import training_examples
from labelembed.integrations.transformers.head import Head
from labelembed.objectives import Objective

# `Trainer` does not decay these either.
_NOT_DECAYED = ("bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class Attachment(TrainerCallback):  # type: ignore[misc]
    """An objective in a model, and what `Trainer` calls to tell it of epochs.

    Attributes:
        model: The model, changed in place.
        objective: The objective in it.
    """

    def __init__(self, model: Any, head: Head) -> None:
        self.model = model
        self.head = head
        self.objective: Objective = head.objective
        self._ended = True

    def label_geometry(self) -> LabelGeometry:
        """Returns what the objective has learned about the labels, by the names of `config.id2label` where they fit."""
        names = [str(name) for name in (self.model.config.id2label or {}).values()]
        return self.objective.label_geometry(names if len(names) == self.objective.num_labels else None)

    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups with the decay and the learning rates that the objective asks for.

        Trainer by itself decays label embeddings too, which pulls them towards a uniform distribution. Norms and biases
        of the network are not decayed, as in Trainer.

        Args:
            learning_rate: Step size before the schedule's factor.
            weight_decay: For what is decayed.

        Example:
            ``Trainer(..., optimizers=(AdamW(attached.parameter_groups(learning_rate=5e-5, weight_decay=0.01)), None))``
        """
        of_objective = {id(parameter) for parameter in self.objective.parameters()}
        decayed = set(get_parameter_names(self.model, [nn.LayerNorm], list(_NOT_DECAYED)))
        groups: list[dict[str, Any]] = [
            {"params": [], "weight_decay": weight_decay},
            {"params": [], "weight_decay": 0.0},
        ]
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in of_objective:
                groups[name not in decayed]["params"].append(parameter)
        groups += self.objective.parameter_groups(weight_decay)
        for group in groups:
            group["lr"] = learning_rate * group.pop("learning_rate_factor", 1.0)
        return [group for group in groups if group["params"]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Warns where weight decay reaches label embeddings."""
        groups = self.objective.parameter_groups(1.0)
        spared = {id(each) for group in groups if group["weight_decay"] == 0 for each in group["params"]}
        for group in getattr(parts.get("optimizer"), "param_groups", ()):
            if group.get("weight_decay") and spared & {id(each) for each in group["params"]}:
                warnings.warn(
                    "weight decay reaches the label embedding and pulls it towards a uniform distribution; give "
                    "Trainer optimizers=(AdamW(attached.parameter_groups(...)), None)",
                    stacklevel=2,
                )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Starts the objective's epoch."""
        epochs = math.ceil(state.num_train_epochs)
        self._ended = False
        epoch, steps = min(int(state.epoch or 0), epochs - 1), max(1, state.max_steps // epochs)
        self.objective.start_epoch(epoch, epochs, steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Ends the objective's epoch after its last step: a checkpoint of that step, made next, must know of it.

        Raises:
            ValueError: Trainer made a loss of its own.
        """
        if not self.head.has_learned:
            raise ValueError(
                "Trainer kept the labels from the model and made a loss of its own, so that the objective learned "
                "nothing: leave out `label_smoothing_factor` (attach the objective 'label_smoothing' for it) and "
                "`compute_loss_func`"
            )
        if float(state.epoch).is_integer():
            self._end_epoch(args, parts["train_dataloader"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Ends an epoch that stopped before its last step."""
        self._end_epoch(args, parts["train_dataloader"])

    def _end_epoch(self, args: Any, batches: Any) -> None:
        if self._ended:
            return
        self._ended = True
        size = args.per_device_eval_batch_size
        read = self.hidden_states
        self.objective.end_epoch(partial(training_examples, self.model, batches, read, batch_size=size))

    def hidden_states(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns what the objective reads of a batch with labels, in the mode that the model is in.

        Args:
            batch: The model's inputs and `labels`, as a collator makes them.

        Returns:
            Hidden states [N, H] or [B, T, H], labels [N] or [B, T], and the batch's `indices` or None.
        """
        given = {name: value.to(self.model.device) for name, value in batch.items() if torch.is_tensor(value)}
        self.head.collects = True
        try:
            return self.model(**given)  # type: ignore[no-any-return]
        finally:
            self.head.collects = False
