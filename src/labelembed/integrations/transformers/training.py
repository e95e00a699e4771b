"""What `Trainer` can be given besides: word of epochs for objectives that need it, and the optimiser's groups."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_parameter_names

from labelembed.integrations.training_examples import ReadBatch, training_examples
from labelembed.objectives import Objective

# What `Trainer` leaves out of weight decay as well.
_NOT_DECAYED = ("bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")


class ObjectiveCallback(TrainerCallback):  # type: ignore[misc]
    """Tells a model's objective of the run: its length, its epochs, and the training examples where it needs them.

    `retrospection`, `online_label_smoothing` as published, `adaptive_labels` that predict by (or learn from) means over
    the training set, and a `target_warmup_steps` that is a share of the run need it; for the others it does nothing
    but say what is wrong with the settings.

    Example:
        ``Trainer(model, arguments, train_dataset=rows, callbacks=[ObjectiveCallback()])``
    """

    def __init__(self) -> None:
        self._ended = True

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Says how long the run will be, and refuses settings under which the objective would not be trained.

        Raises:
            ValueError: `label_smoothing_factor` is set: Trainer then makes a loss of its own.
        """
        if args.label_smoothing_factor:
            raise ValueError(
                f"`label_smoothing_factor` must be 0, got {args.label_smoothing_factor}: Trainer would make a loss of "
                "its own and not train the objective; for smoothing take the objective 'label_smoothing'"
            )
        module = _unwrapped(model)
        module.told_of_epochs = True
        _warn_of_decay(module.objective, parts.get("optimizer"))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Starts the objective's epoch."""
        epochs = math.ceil(state.num_train_epochs)
        self._ended = False
        epoch, steps = min(int(state.epoch or 0), epochs - 1), max(1, state.max_steps // epochs)
        _unwrapped(model).objective.start_epoch(epoch, epochs, steps)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Ends the objective's epoch after its last step: a checkpoint of that step, made next, must know of it."""
        if float(state.epoch).is_integer():
            self._end_epoch(args, model, parts["train_dataloader"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any) -> None:
        """Ends an epoch that stopped before its last step."""
        self._end_epoch(args, model, parts["train_dataloader"])

    def _end_epoch(self, args: Any, model: Any, batches: Any) -> None:
        if self._ended:
            return
        self._ended = True
        module = _unwrapped(model)
        size = args.per_device_eval_batch_size
        module.objective.end_epoch(partial(training_examples, module, batches, _reader(module), batch_size=size))


def _reader(model: Any) -> ReadBatch:
    """Returns how a batch of Trainer becomes hidden states, its `labels`, and its `indices` where given."""

    def read(batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        given = {name: value.to(model.device) for name, value in batch.items() if torch.is_tensor(value)}
        labels, indices = given.pop("labels"), given.pop("indices", None)
        return model.hidden_states_of(**given)[0], labels, indices

    return read


def parameter_groups(model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Returns optimiser groups with the decay and the learning rates that the objective asks for.

    Trainer by itself gives every weight the same decay and rate, label embeddings too, and decay pulls those towards
    a uniform distribution. Norms and biases of the network are not decayed, as in Trainer.

    Args:
        model: One of the `ObjectiveFor...` models.
        learning_rate: Step size before the schedule's factor.
        weight_decay: For what is decayed.

    Example:
        ``Trainer(..., optimizers=(AdamW(parameter_groups(model, learning_rate=5e-5, weight_decay=0.01)), None))``
    """
    of_objective = {id(parameter) for parameter in model.objective.parameters()}
    decayed = set(get_parameter_names(model, [nn.LayerNorm], list(_NOT_DECAYED)))
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in model.named_parameters():
        if id(parameter) not in of_objective:
            groups[name not in decayed]["params"].append(parameter)
    groups += model.objective.parameter_groups(weight_decay)
    for group in groups:
        group["lr"] = learning_rate * group.pop("learning_rate_factor", 1.0)
    return [group for group in groups if group["params"]]


def _unwrapped(model: Any) -> Any:
    """Returns the model inside of DistributedDataParallel and of compiled modules."""
    while not hasattr(model, "objective"):
        inner = getattr(model, "module", getattr(model, "_orig_mod", None))
        if inner is None:
            raise TypeError(f"ObjectiveCallback is for labelembed's models, got {type(model).__name__}")
        model = inner
    return model


def _warn_of_decay(objective: Objective, optimizer: Any) -> None:
    """Warns where the optimiser decays what the objective wants left alone."""
    spared = {
        id(parameter)
        for group in objective.parameter_groups(1.0)
        if group["weight_decay"] == 0
        for parameter in group["params"]
    }
    groups = getattr(optimizer, "param_groups", ())
    if any(group.get("weight_decay") and spared & {id(each) for each in group["params"]} for group in groups):
        warnings.warn(
            "weight decay reaches the label embedding and pulls it towards a uniform distribution; give Trainer "
            "optimizers=(AdamW(parameter_groups(model, ...)), None)",
            stacklevel=2,
        )
