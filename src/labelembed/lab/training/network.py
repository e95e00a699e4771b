"""What is trained: input scaling, encoder and objective as one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelembed.lab.data import PairInputs
from labelembed.lab.models import Mixing
from labelembed.lab.sparse_rows import SparseRows
from labelembed.objectives import AdaptiveLabels, Objective, Retrospection, Terms


class Network(nn.Module):
    """Inputs and labels in, terms out; one module, so that DDP sees every parameter.

    Args:
        scaling: Turns stored inputs into what the encoder reads.
        encoder: Returns hidden states [N, H]; of sentences [B, T, H].
        objective: Owns the output layer.
        augmentation: Changes scaled inputs in training mode; None for none.
        mixing: Mixes the examples of a batch in pairs in training mode; None for none.

    Attributes:
        autocast: Makes the precision that evaluation computes in; as the weights are, unless a trainer sets it.
    """

    def __init__(
        self,
        scaling: nn.Module,
        encoder: nn.Module,
        objective: Objective,
        augmentation: nn.Module | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.augmentation = nn.Identity() if augmentation is None else augmentation
        self.mixing = mixing
        self.encoder = encoder
        self.objective = objective
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        # DistributedDataParallel's own attribute: what every process keeps for itself need not be sent at every step.
        self._ddp_params_and_buffers_to_ignore = sorted(self._training_buffers())

    def forward(
        self,
        inputs: Tensor | SparseRows | PairInputs,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        num_items_in_step: Tensor | None = None,
    ) -> Terms:
        """Returns the objective's terms for a batch: inputs [N, ...], labels [N], indices [N]; of sentences [B, T].

        With mixing each example counts twice: for its own label by its share, and for its partner's by the rest.
        """
        if self.mixing is None or not self.training:
            terms: Terms = self.objective(self.hidden(inputs), labels, indices, num_items_in_step=num_items_in_step)
            return terms
        mixed = self.mixing(self.augmentation(self.scaling(inputs)))
        hidden = self.encoder(mixed.inputs)
        share = mixed.share.to(hidden.dtype).expand(len(labels))
        terms = self.objective(
            torch.cat([hidden, hidden]),
            torch.cat([labels, labels[mixed.partners]]),
            None if indices is None else torch.cat([indices, indices[mixed.partners]]),
            sample_weight=torch.cat([share, 1 - share]),
            num_items_in_step=num_items_in_step,
        )
        return terms

    def hidden(self, inputs: Tensor | SparseRows | PairInputs) -> Tensor:
        """Returns hidden states [N, H]."""
        hidden: Tensor = self.encoder(self.augmentation(self.scaling(inputs)))
        return hidden

    def logits(self, inputs: Tensor | SparseRows | PairInputs) -> Tensor:
        """Returns scores [N, C]."""
        return self.objective.logits(self.hidden(inputs))

    def _training_buffers(self) -> set[str]:
        """Returns the names of the buffers that only training needs: those of modules marked `training_only`."""
        return {
            f"{module_name}.{name}"
            for module_name, module in self.named_modules()
            if getattr(module, "training_only", False)
            for name, _ in module.named_buffers(recurse=False)
        }

    def prediction_state(self) -> dict[str, Tensor]:
        """Returns what prediction needs of the state, on the CPU: all but what only training needs."""
        state = self.state_dict()
        left_out = self._training_buffers()
        return {name: value.detach().cpu().clone() for name, value in state.items() if name not in left_out}

    def load_prediction_state(self, state: dict[str, Tensor]) -> None:
        """Takes what `prediction_state` returned; what only training needs stays as it is.

        Raises:
            RuntimeError: When a value is missing, is not known, or has another shape.
        """
        kept = {name: value for name, value in self.state_dict().items() if name in self._training_buffers()}
        self.load_state_dict({**kept, **state})

    def parameter_count(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def mixing_refusal(objective: Objective) -> str | None:
    """Returns why an objective cannot learn from mixed examples (mixup, CutMix); None where it can."""
    if isinstance(objective, AdaptiveLabels):
        return "a label's vector is the mean of the examples of that label, and a mixed example has two"
    if isinstance(objective, Retrospection) and objective.store_during == "steps":
        return "store: 'steps' stores what the network predicts in an example's own step, which is mixed; take 'pass'"
    return None


def coupling_notes(network: Network, count: int) -> list[str]:
    """Returns why so many micro-batches are not the same as one batch, a line for each reason."""
    notes = []
    reason = network.objective.accumulation_warning
    if reason is not None:
        name = type(network.objective).__name__
        notes.append(f"micro_batches: the {count} parts of a step are not the same as one batch for {name}: {reason}")
    if any(isinstance(module, _BatchNorm) for module in network.encoder.modules()):
        notes.append(
            f"micro_batches: batch normalisation takes its statistics from each of the {count} parts of a step"
        )
    return notes


@contextmanager
def evaluation_mode(network: Network) -> Iterator[None]:
    """Puts a network into evaluation mode and its precision for the time of a block; the mode is put back."""
    was_training = network.training
    network.eval()
    try:
        with network.autocast():
            yield
    finally:
        network.train(was_training)
