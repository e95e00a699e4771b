"""What is trained: input scaling, encoder and objective as one module."""

from __future__ import annotations

from torch import Tensor, nn

from labelembed.objectives import Objective, Terms


class Network(nn.Module):
    """Inputs and labels in, terms out; one module, so that DDP sees every parameter.

    Args:
        scaling: Turns stored inputs into what the encoder reads.
        encoder: Returns hidden rows [N, H].
        objective: Owns the output layer.
    """

    def __init__(self, scaling: nn.Module, encoder: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.scaling = scaling
        self.encoder = encoder
        self.objective = objective

    def forward(self, inputs: Tensor, labels: Tensor, rows: Tensor | None = None) -> Terms:
        """Returns the objective's terms for a batch: inputs [N, ...], labels [N], rows [N]."""
        terms: Terms = self.objective(self.hidden(inputs), labels, rows)
        return terms

    def hidden(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, H]."""
        hidden: Tensor = self.encoder(self.scaling(inputs))
        return hidden

    def logits(self, inputs: Tensor) -> Tensor:
        """Returns scores [N, C]."""
        return self.objective.logits(self.hidden(inputs))

    def parameter_count(self) -> int:
        """Returns how many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
