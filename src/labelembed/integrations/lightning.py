"""A callback for a LightningModule that owns an objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from labelembed.integrations.training_examples import training_examples
from labelembed.objectives import Objective

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ImportError as error:
        message = "labelembed.integrations.lightning needs lightning: pip install 'labelembed[lightning]'"
        raise ImportError(message) from error


class ObjectiveCallback(Callback):  # type: ignore[misc]
    """Announces epochs to the objectives of a LightningModule, and gives them the training examples after each.

    Where your module had an output layer and a loss it has an objective, and its training step returns
    ``terms.total``. `Retrospection`, `AdaptiveLabels`, the published online label smoothing and a warm-up over a
    fraction of the run need it. The training examples come after an epoch's last batch, before validation.

    Args:
        hidden_states: From your module and a batch to hidden states [N, H], labels [N] and indices [N] or None, for
            objectives that look at every training example once more; None: the module's own method
            `hidden_states(batch)` where it has one.

    Example:
        ``Trainer(callbacks=[ObjectiveCallback(lambda module, batch: (module.encoder(batch[0]), batch[1], None))])``
    """

    def __init__(self, hidden_states: Callable[[Any, Any], tuple[Tensor, Tensor, Tensor | None]] | None = None) -> None:
        self.hidden_states = hidden_states
        self._ended = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts the objectives' epoch before its first batch, or before the first of a fit resumed within it."""
        if batch_idx > 0 and not self._ended:
            return
        self._ended = False
        batches, epochs = trainer.num_training_batches, trainer.max_epochs  # a stream has infinitely many batches
        if epochs < 0:  # a run of so many steps, or without end
            steps = math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else math.inf
            epochs = max(math.ceil(trainer.max_steps / steps), trainer.current_epoch + 1)
        for objective in _objectives(pl_module):
            # To the objective each micro-batch is a step.
            objective.start_epoch(trainer.current_epoch, epochs, int(batches) if math.isfinite(batches) else 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the objectives' epoch after its last batch."""
        if trainer.is_last_batch:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends an epoch that stopped before its last batch."""
        if self._ended:
            return
        self._ended = True
        hidden_states = self.hidden_states or getattr(type(pl_module), "hidden_states", None)
        examples = None
        if hidden_states is not None:
            loader = trainer.train_dataloader

            def read(batch: Any) -> tuple[Tensor, Tensor, Tensor | None]:
                batch = pl_module._on_before_batch_transfer(trainer.precision_plugin.convert_input(batch))
                return hidden_states(pl_module, trainer.strategy.batch_to_device(batch))

            size = getattr(loader, "batch_size", None) or 256  # a loader with a sampler of batches has none
            examples = partial(training_examples, pl_module, loader, read, batch_size=size)
        with trainer.precision_plugin.forward_context():
            for objective in _objectives(pl_module):
                objective.end_epoch(examples)


def _objectives(module: LightningModule) -> list[Objective]:
    objectives = [each for each in module.modules() if isinstance(each, Objective)]
    if not objectives:
        raise ValueError(f"{type(module).__name__} owns no objective: put one where its output layer and loss are")
    return objectives
