"""A run's whole state as a checkpoint, and back: what it takes to end with the same numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed import seeds
from labelembed.objectives import own_state, whole_state
from labelembed.objectives.split_state import own_moments, whole_moments
from labelembed.training.checkpoints import Checkpoint
from labelembed.training.network import Network
from labelembed.training.optimizers import load_state, state_tensors
from labelembed.training.settings import Position


@dataclasses.dataclass
class RunState:
    """Everything that a run changes while it trains.

    Args:
        network: With the objective's buffers.
        optimizer: With its moments.
        scheduler: Counts the steps.
        scaler: Of fp16; None otherwise.
        position: Where the run stands, and its best epoch.
        term_sums: Sums of the terms over the rows of the epoch in progress.
        best_weights: State of the selected epoch's network, on the CPU; empty while there is none.
    """

    network: Network
    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: GradScaler | None
    position: Position = dataclasses.field(default_factory=Position)
    term_sums: dict[str, float] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def checkpoint(self) -> Checkpoint:
        """Returns it all, with all random states; where labels are split, whole in the first process.

        Then all processes must call it together.
        """
        random_tensors, random_values = seeds.capture()
        optimizer_tensors, optimizer_values = state_tensors(self.optimizer)
        values: dict[str, Any] = {
            "position": dataclasses.asdict(self.position),
            "term_sums": dict(self.term_sums),
            "optimizer": optimizer_values,
            "scheduler": {key: value for key, value in self.scheduler.state_dict().items() if key != "lr_lambdas"},
            "scaler": self.scaler.state_dict() if self.scaler is not None else {},
            "random": random_values,
        }
        tensors = {
            "network": whole_state(self.network),
            "optimizer": whole_moments(self.network, self.optimizer, optimizer_tensors),
            "random": random_tensors,
        }
        if self.best_weights:
            tensors["best"] = whole_state(self.network, self.best_weights)
        return Checkpoint(self.position.step, tensors, values)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts everything back to where a checkpoint was saved.

        Args:
            checkpoint: What `checkpoint` returned, read back.
        """
        values = checkpoint.values
        self.network.load_state_dict(own_state(self.network, checkpoint.tensors["network"]))
        moments = own_moments(self.network, self.optimizer, checkpoint.tensors["optimizer"])
        load_state(self.optimizer, moments, values["optimizer"])
        self.scheduler.load_state_dict(values["scheduler"] | {"lr_lambdas": [None] * len(self.scheduler.lr_lambdas)})
        if self.scaler is not None and values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        seeds.restore(checkpoint.tensors["random"], values["random"])
        self.position = Position(**values["position"])
        self.term_sums = dict(values["term_sums"])
        self.best_weights = own_state(self.network, checkpoint.tensors.get("best", {}))
