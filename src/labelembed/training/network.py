"""What is trained: input scaling, encoder and objective as one module."""

from __future__ import annotations

from torch import Tensor, nn

from labelembed.data import PairInputs
from labelembed.models import Mixing
from labelembed.objectives import Objective, Terms


class Network(nn.Module):
    """Inputs and labels in, terms out; one module, so that DDP sees every parameter.

    Args:
        scaling: Turns stored inputs into what the encoder reads.
        encoder: Returns hidden rows [N, H]; of sentences [B, T, H].
        objective: Owns the output layer.
        augmentation: Changes scaled inputs in training mode; None for none.
        mixing: Mixes the rows of a batch in pairs in training mode; None for none.
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
        # DistributedDataParallel's own attribute: what every process keeps for itself need not be sent at every step.
        self._ddp_params_and_buffers_to_ignore = sorted(self._training_buffers())

    def forward(self, inputs: Tensor | PairInputs, labels: Tensor, rows: Tensor | None = None) -> Terms:
        """Returns the objective's terms for a batch: inputs [N, ...], labels [N], rows [N]; of sentences [B, T]."""
        if self.mixing is None or not self.training:
            terms: Terms = self.objective(self.hidden(inputs), labels, rows)
            return terms
        mixed = self.mixing(self.augmentation(self.scaling(inputs)))
        partners = mixed.partners
        return self.objective.mixed(
            self.encoder(mixed.inputs),
            labels,
            labels[partners],
            mixed.share,
            rows=rows,
            other_rows=None if rows is None else rows[partners],
        )

    def hidden(self, inputs: Tensor | PairInputs) -> Tensor:
        """Returns hidden rows [N, H]."""
        hidden: Tensor = self.encoder(self.augmentation(self.scaling(inputs)))
        return hidden

    def logits(self, inputs: Tensor | PairInputs) -> Tensor:
        """Returns scores [N, C]."""
        return self.objective.logits(self.hidden(inputs))

    def _training_buffers(self) -> set[str]:
        return {f"objective.{name}" for name in self.objective.training_buffers}

    def prediction_state(self) -> dict[str, Tensor]:
        """Returns what prediction needs of the state, on the CPU: all but what only training remembers by."""
        state = self.state_dict()
        left_out = self._training_buffers()
        return {name: value.detach().cpu().clone() for name, value in state.items() if name not in left_out}

    def load_prediction_state(self, state: dict[str, Tensor]) -> None:
        """Takes what `prediction_state` returned; what only training remembers by stays as it is.

        Raises:
            RuntimeError: When a value is missing, is not known, or has another shape.
        """
        kept = {name: value for name, value in self.state_dict().items() if name in self._training_buffers()}
        self.load_state_dict({**kept, **state})

    def parameter_count(self) -> int:
        """Returns how many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
