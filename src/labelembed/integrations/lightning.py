"""A LightningModule over any encoder and objective. Needs `lightning` (or `pytorch-lightning`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed.errors import ArgumentFaults
from labelembed.integrations.training_examples import training_examples
from labelembed.objectives import Objective
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS
from labelembed.training.schedules import SCHEDULES

try:
    from lightning.pytorch import LightningModule
except ImportError:
    try:
        from pytorch_lightning import LightningModule
    except ImportError as error:
        raise ImportError("labelembed.integrations.lightning needs lightning: pip install lightning") from error


class ObjectiveModule(LightningModule):  # type: ignore[misc]
    """Trains an encoder and an objective in Lightning's Trainer, and tells the objective of steps and epochs.

    A batch is ``(inputs, labels)``, ``(inputs, labels, indices)`` or a mapping with these names; `indices` are the
    positions of the inputs in the training set, for objectives that remember them. Logged are the mean of every term as
    ``train/NAME``, and ``val/`` and ``test/`` `error` (a fraction) and `nll`. An
    objective that needs the training examples once more gets them before the epoch's validation. With
    ``accumulate_grad_batches`` the loss is Lightning's mean of the micro-batches' means.

    Args:
        encoder: From inputs to hidden states [N, H].
        objective: Owns the output layer.
        optimizer: `adam`, `adamw`, `sgd`, or a function from parameter groups to an optimiser of yours.
        learning_rate: Step size before the schedule's factor.
        weight_decay: Label embeddings are left out of it.
        schedule: Of the learning rate, over the whole run: `constant`, `cosine`, `linear`, ...

    Raises:
        ValueError: There is no such optimiser or schedule.
    """

    def __init__(
        self,
        encoder: nn.Module,
        objective: Objective,
        *,
        optimizer: str | Callable[[list[dict[str, Any]]], Optimizer] = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "constant",
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        if isinstance(optimizer, str):
            faults.choice("optimizer", optimizer, tuple(OPTIMIZERS))
        faults.choice("schedule", schedule, tuple(SCHEDULES))
        faults.require(learning_rate > 0, "learning_rate", learning_rate, "must be > 0")
        faults.require(weight_decay >= 0, "weight_decay", weight_decay, "must be >= 0")
        faults.raise_if_any()
        self.encoder = encoder
        self.objective = objective
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule

    def forward(self, inputs: Any) -> Tensor:
        """Returns logits [N, C]."""
        return self.objective.logits(self.encoder(inputs))

    @staticmethod
    def parts(batch: Any) -> tuple[Any, Tensor, Tensor | None]:
        """Returns inputs, labels and indices (None where there are none) of a batch; override it for other batches."""
        if isinstance(batch, Mapping):
            return batch["inputs"], batch["labels"], batch.get("indices")
        inputs, labels, *indices = batch
        return inputs, labels, indices[0] if indices else None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of a batch, and logs its terms."""
        inputs, labels, indices = self.parts(batch)
        terms = self.objective(self.encoder(inputs), labels, indices)
        named = {f"train/{name}": term.detach() for name, term in terms._asdict().items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(labels))
        total: Tensor = terms.total
        return total

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs `val/error` and `val/nll`."""
        self._measure(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Logs `test/error` and `test/nll`."""
        self._measure(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the logits of a batch, of inputs alone or with labels beside them."""
        of_parts = isinstance(batch, (tuple, list, Mapping))
        return self(self.parts(batch)[0] if of_parts else batch)  # type: ignore[no-any-return]

    def _measure(self, batch: Any, split: str) -> None:
        inputs, labels, _ = self.parts(batch)
        logits = self(inputs).float()
        found = {
            f"{split}/error": (logits.argmax(dim=-1) != labels).float().mean(),
            f"{split}/nll": F.cross_entropy(logits, labels),
        }
        self.log_dict(found, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """Returns the optimiser over encoder and objective, and the schedule of the learning rate."""
        if isinstance(self.optimizer, str):
            network = cast(Network, self)  # `encoder` and `objective` are all that is asked for
            make = OPTIMIZERS[self.optimizer]
            optimizer = make(network, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        else:
            optimizer = self.optimizer(self.parameter_groups())
        steps = int(self.trainer.estimated_stepping_batches)
        factor = SCHEDULES[self.schedule]()
        each = max(1, steps // max(1, self._epochs()))
        scheduler = LambdaLR(optimizer, lambda step: factor(min(step, steps - 1), each, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the encoder's group and those the objective asks for, with their rates and decay."""
        of_objective = {id(parameter) for parameter in self.objective.parameters()}
        own = [parameter for parameter in self.encoder.parameters() if id(parameter) not in of_objective]
        groups: list[dict[str, Any]] = [{"params": own, "weight_decay": self.weight_decay}]
        groups += self.objective.parameter_groups(self.weight_decay)
        for group in groups:
            group["lr"] = self.learning_rate * group.pop("learning_rate_factor", 1.0)
        return [group for group in groups if group["params"]]

    def _epochs(self) -> int:
        most: int | None = self.trainer.max_epochs
        if most is not None and most > 0:
            return most
        # A run of so many steps: as many epochs as they take, once it is known how many batches an epoch has.
        batches = float(self.trainer.num_training_batches)
        steps = int(self.trainer.max_steps) * int(self.trainer.accumulate_grad_batches)
        return math.ceil(steps / batches) if 0 < batches < math.inf and steps > 0 else int(self.current_epoch) + 1

    def on_train_epoch_start(self) -> None:
        """Starts the objective's epoch."""
        epochs = self._epochs()
        # Each micro-batch is a step to the objective.
        steps = int(self.trainer.estimated_stepping_batches) * self.trainer.accumulate_grad_batches
        self.objective.start_epoch(self.current_epoch, epochs, max(1, steps // epochs))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends the objective's epoch after its last batch, before validation and checkpoints of it."""
        if not self.trainer.is_last_batch:
            return
        loader = self.trainer.train_dataloader
        size = getattr(loader, "batch_size", None) or len(self.parts(batch)[1])
        self.objective.end_epoch(partial(training_examples, self, loader, self._read, batch_size=size))

    def _read(self, batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        inputs, labels, indices = self.parts(self.transfer_batch_to_device(batch, self.device, 0))
        return self.encoder(inputs), labels, indices
