"""The trained module (input scaling, encoder and objective) and the cutting of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelembed.lab.data import Batch, LabelledData, PairBatch, PairInputs, SentencePairs, Split, TextCorpus
from labelembed.lab.models import Mixing
from labelembed.lab.sparse_rows import SparseRows
from labelembed.objectives import AdaptiveLabels, Objective, Retrospection, Terms

TrainingData = LabelledData | TextCorpus
Examples = Split | SentencePairs
AnyBatch = Batch | PairBatch
Inputs = Tensor | SparseRows | PairInputs


class Network(nn.Module):
    """Inputs and labels in, terms out; one module, so that DDP sees every parameter.

    Args:
        scaling: Turns stored inputs into what the encoder reads.
        encoder: Returns hidden states [N, H]; of sentences [B, T, H].
        objective: Owns the output layer.
        augmentation, mixing: Change inputs, or mix the examples of a batch in pairs, in training mode.
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
        self.scaling, self.encoder, self.objective = scaling, encoder, objective
        self.augmentation, self.mixing = augmentation or nn.Identity(), mixing
        # For DistributedDataParallel: every process computes the same state of an objective, and need not send it.
        self._ddp_params_and_buffers_to_ignore = [f"objective.{name}" for name, _ in objective.named_buffers()]

    def forward(
        self, inputs: Inputs, labels: Tensor, indices: Tensor | None = None, *, num_items_in_step: Tensor | None = None
    ) -> Terms:
        """Returns the objective's terms for a batch: inputs [N, ...], labels [N], indices [N]; of sentences [B, T].

        With mixing each example counts twice: for its own label by its share, and for its partner's by the rest.
        """
        given: dict[str, Any] = {"num_items_in_step": num_items_in_step}
        if self.mixing is None or not self.training:
            return cast(Terms, self.objective(self.hidden(inputs), labels, indices, **given))
        mixed = self.mixing(self.augmentation(self.scaling(inputs)))
        hidden = self.encoder(mixed.inputs)
        share = mixed.share.to(hidden.dtype).expand(len(labels))
        given["sample_weight"] = torch.cat([share, 1 - share])
        twice, labels = torch.cat([hidden, hidden]), torch.cat([labels, labels[mixed.partners]])
        indices = None if indices is None else torch.cat([indices, indices[mixed.partners]])
        return cast(Terms, self.objective(twice, labels, indices, **given))

    def hidden(self, inputs: Inputs) -> Tensor:
        """Returns hidden states [N, H]."""
        return cast(Tensor, self.encoder(self.augmentation(self.scaling(inputs))))

    def logits(self, inputs: Inputs) -> Tensor:
        """Returns scores [N, C]."""
        return self.objective.logits(self.hidden(inputs))

    def prediction_state(self) -> dict[str, Tensor]:
        """Returns the state that prediction needs, on the CPU: without the objective's training buffers."""
        left_out = {f"objective.{name}" for name in self.objective.training_buffers}
        state = self.state_dict().items()
        return {name: value.detach().to("cpu", copy=True) for name, value in state if name not in left_out}

    def load_prediction_state(self, state: dict[str, Tensor]) -> None:
        """Loads a state of `prediction_state`; the objective's training buffers keep their values."""
        of_training = {f"objective.{name}" for name in self.objective.training_buffers}
        kept = {name: value for name, value in self.state_dict().items() if name in of_training}
        self.load_state_dict({**kept, **state})

    def parameter_count(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def mixing_refusal(objective: Objective) -> str | None:
    """Returns why an objective cannot learn from mixed examples (mixup, CutMix); None where it can."""
    if isinstance(objective, AdaptiveLabels):
        return "a label's vector is the mean of the examples of that label, and a mixed example has two"
    if isinstance(objective, Retrospection) and objective.store == "steps":
        return "store: 'steps' stores what the network predicts in an example's own step, which is mixed; take 'pass'"
    return None


def coupling_notes(network: Network, count: int) -> list[str]:
    """Returns the reasons why `count` micro-batches differ from one batch, a line each."""
    has_norm = any(isinstance(module, _BatchNorm) for module in network.encoder.modules())
    of_norm = "batch normalisation takes its statistics from each part" if has_norm else None
    reasons = [reason for reason in (network.objective.accumulation_warning, of_norm) if reason and count > 1]
    return [f"micro_batches: the {count} parts of a step are not the same as one batch: {why}" for why in reasons]


@contextmanager
def evaluation_mode(network: Network) -> Iterator[torch.device]:
    """Puts a network into evaluation mode for the time of a block; gives its device."""
    was_training = network.training
    network.eval()
    try:
        yield next(network.parameters()).device
    finally:
        network.train(was_training)


def micro_batches(batch: AnyBatch, wanted: int, *, step_examples: int, processes: int) -> list[AnyBatch]:
    """Cuts this process's share of a step into micro-batches; every process makes as many.

    A small last batch comes in fewer, so that none is empty where the examples of the step, over all processes, tell.
    """
    count = wanted
    if isinstance(batch, Batch):
        count = max(1, min(wanted, -(-step_examples // processes)))
    elif processes == 1:
        count = max(1, min(wanted, len(batch.labels)))
    if count == 1:
        return [batch]
    labels, indices = batch.labels.tensor_split(count), batch.indices.tensor_split(count)
    if isinstance(batch, PairBatch):
        pairs = zip(*(part.tensor_split(count) for part in batch.inputs), strict=True)
        parts = zip(pairs, labels, indices, strict=True)
        return [PairBatch(PairInputs(*pair), its, places, batch.tokens) for pair, its, places in parts]
    inputs: Sequence[Tensor | SparseRows] = batch.inputs.tensor_split(count)
    return [Batch(*part) for part in zip(inputs, labels, indices, strict=True)]


def to_device_if_fits(data: TrainingData, device: torch.device) -> TrainingData:
    """Returns the data on the device, or where they are: a corpus in its files, what would fill half of a GPU too."""
    if not isinstance(data, LabelledData):
        return data
    needed = sum(split.inputs.nbytes + split.labels.nbytes for split in data.splits.values())
    if device.type == "cuda" and needed > 0.5 * torch.cuda.mem_get_info(device)[0]:
        return data
    return data.to(device)
