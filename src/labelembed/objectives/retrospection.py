"""Learning with Retrospection: the network's prediction of some epochs ago is an example's soft target now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.distributed import gather
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import full_precision
from labelembed.losses.reference import cross_entropy, log_softmax
from labelembed.losses.soft_targets import entropy, soft_cross_entropy
from labelembed.objectives.base import CommonArguments, Objective, TrainingExamples
from labelembed.objectives.examples import checked_indices
from labelembed.objectives.soft_labels import DENSE_LABELS, SoftLabelStore

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"soften_output": True, "weight_schedule": "staircase"},
    "published_port": {"soften_output": False, "weight_schedule": "linear"},
}


class RetrospectionTerms(NamedTuple):
    """Terms of `Retrospection`: scalars, not weighted; `retrospection` is 0 until soft labels are stored."""

    total: Tensor
    output: Tensor
    retrospection: Tensor


class Retrospection(Objective):
    """Trains on the network's own softened outputs of an earlier epoch (LWR; Deng, Zhang 2021).

    The first k = `store_every` epochs are plain cross entropy. After every k-th epoch ``s = softmax(z / tau)`` is
    stored for each training example; from then on, in epoch t (from 1) of T::

        output         CE(onehot(y), z)
        retrospection  KL(s || softmax(z / tau))
        total          alpha output + beta tau**2 retrospection,    alpha = 1 - beta

    `paper`: ``beta = final_weight k floor(t / k) / T``, a staircase that rises at every k-th epoch and reaches
    `final_weight` in the last epoch where k divides T. The gradient of `retrospection` is 0 for an example whose output
    has not changed since storing, up to the float16 of what is stored and the entries that `top_k` cuts.

    `published_port` (what Yu, Verma 2022 compare with): ``(1 - beta) output + beta KL(s || softmax(z))`` with
    ``beta = final_weight t / T``. The output itself is pulled to the softened one, changed or not, and so flattened.

    Needs `indices`, and `start_epoch` before and `end_epoch` after each epoch: without them it does not train. Memory
    for R examples: 2 bytes for each label up to 256 labels; above, the 32 largest entries with their labels in 4 to 6
    bytes each (1.2 million examples of 1,000 labels: 154 MB; whole, with ``top_k=1000``, 2.4 GB), again as much in
    every checkpoint.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        num_examples: R, examples of the training set. Without it the objective predicts, and does not train.
        preset: `paper` or `published_port`, see above.
        soften_output: Whether the output is divided by tau too, and the term weighted with tau squared; None: the
            preset's (yes and no).
        weight_schedule: How beta grows: `staircase` or `linear`; None: the preset's.
        temperature: tau, how soft the stored distributions are; > 0.
        store_every: k, epochs from one storing to the next; less than the run's epochs.
        final_weight: beta at the end of the run; in [0, 1].
        store: `pass`: at the end of the k-th epoch `end_epoch` goes through all training examples once more, in
            evaluation mode, which costs a forward pass; `steps`: what each example got in its own step of the k-th
            epoch is stored, which costs nothing (as in the code published with the paper).
        top_k: Entries kept of an example; None: all up to 256 labels, 32 above.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.
        RuntimeError: In training, when `start_epoch` was never called.

    Example:
        >>> import torch
        >>> objective = Retrospection(8, 3, num_examples=100, store_every=1, store="steps")
        >>> objective.start_epoch(0, 10, steps=25)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), indices=torch.tensor([7, 0, 99, 3]))
        >>> bool(terms.total == terms.output)
        True
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        num_examples: int = 0,
        preset: Literal["paper", "published_port"] = "paper",
        soften_output: bool | None = None,
        weight_schedule: Literal["staircase", "linear"] | None = None,
        temperature: float = 5.0,
        store_every: int = 5,
        final_weight: float = 0.9,
        store: Literal["pass", "steps"] = "pass",
        top_k: int | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        chosen = PRESETS.get(preset, PRESETS["paper"])
        weight_schedule = chosen["weight_schedule"] if weight_schedule is None else weight_schedule
        errors = ArgumentErrors()
        errors.whole("num_examples", num_examples, least=0)
        errors.choice("preset", preset, tuple(PRESETS))
        errors.choice("weight_schedule", weight_schedule, ("staircase", "linear"))
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.whole("store_every", store_every, least=1)
        errors.require(0 <= final_weight <= 1, "final_weight", final_weight, "must be in [0, 1]")
        errors.choice("store", store, ("pass", "steps"))
        errors.whole("top_k", top_k, least=1, optional=True)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.soften_output: bool = chosen["soften_output"] if soften_output is None else soften_output
        self.weight_schedule = weight_schedule
        self.temperature = temperature
        self.store_every = store_every
        self.final_weight = final_weight
        self.store_during = store
        self.beta = 0.0
        self._stores_now = False
        self.store = SoftLabelStore(num_examples, num_labels, top_k=top_k)

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Sets beta, and whether this epoch's outputs are stored; see `Objective.start_epoch`.

        Raises:
            ValueError: The run ends before anything stored is read.
            RuntimeError: The first k epochs are over and nothing was stored.
        """
        if epochs <= self.store_every:
            raise ValueError(
                f"`store_every` must be less than the number of epochs, {epochs}, got {self.store_every}: what is "
                "stored would never be read; take a smaller `store_every`, or train longer"
            )
        if epoch >= self.store_every and not self.store.filled:
            raise RuntimeError(
                f"{self.store_every} epochs are over and no soft labels are stored: call objective.end_epoch() after "
                "each epoch"
            )
        super().start_epoch(epoch, epochs, steps)
        done = epoch + 1
        if self.weight_schedule == "staircase":
            done -= done % self.store_every
        self.beta = self.final_weight * done / epochs
        self._stores_now = (epoch + 1) % self.store_every == 0

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> RetrospectionTerms:
        """Computes the terms; see `Objective.forward`.

        Raises:
            ValueError: `indices` is missing in training, or is not as the labels are.
        """
        self._require_epoch("plain cross entropy")
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        places = self._places(indices, labels, examples.counts) if self.training else None
        logits = full_precision(self.output(examples.hidden))
        log_p = log_softmax(logits)
        output = examples.mean(cross_entropy(log_p, examples.labels))
        total, retrospection = output, logits.new_zeros(())
        if places is not None and self.store.filled:
            stored = self.store.at(places, dtype=logits.dtype)
            weight = self.beta
            if self.soften_output:
                log_p = log_softmax(logits / self.temperature)
                weight *= self.temperature**2
            divergence = soft_cross_entropy(stored, log_p) - entropy(stored, self.num_labels)
            retrospection = examples.mean(divergence)
            total = (1 - self.beta) * output + weight * retrospection
        if places is not None and self._stores_now and self.store_during == "steps" and self._updates_state:
            counts = examples.counts
            some = (places[counts], self._softened(logits[counts]), examples.labels[counts])
            self.store.put(*gather(*some, group=examples.group))
        return RetrospectionTerms(total=total, output=output, retrospection=retrospection)

    def _places(self, indices: Tensor | None, labels: Tensor, counts: Tensor) -> Tensor:
        """Returns the indices [N] of the examples."""
        reason, number = "Retrospection remembers every example", self.store.num_examples
        if number == 0:
            raise ValueError(f"`num_examples`, of the training set, must be given to train, got 0: {reason}")
        return checked_indices(indices, labels, counts, num_examples=number, reason=reason)

    @torch.no_grad()
    def _softened(self, logits: Tensor) -> Tensor:
        return (full_precision(logits) / self.temperature).softmax(dim=-1)

    @torch.no_grad()
    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Stores the soft labels after every k-th epoch; see `Objective.end_epoch`.

        Raises:
            ValueError: With ``store="pass"``, after a k-th epoch, when `training_examples` is None.
        """
        if not self._stores_now:
            return
        if self.store_during == "pass":
            if training_examples is None:
                raise ValueError(
                    "`training_examples` must be given after every `store_every` epochs, got None: Retrospection looks "
                    "at every example once more; or take store='steps'"
                )
            for hidden, labels, indices in training_examples():
                examples = self._examples(hidden, labels, None, None)
                counts = examples.counts
                places = self._places(indices, labels, counts)[counts]
                logits = self.output(examples.hidden[counts])
                self.store.put(places, self._softened(logits), examples.labels[counts])
        self.store.end()
        self._stores_now = False

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns the class means of the stored distributions; where none are stored see `Objective.label_geometry`."""
        if not self.store.filled or self.num_labels > DENSE_LABELS:
            return super().label_geometry(names, class_means=class_means)
        source = f"{type(self).__name__}, class means of the stored soft labels"
        return LabelGeometry(self._names(names), vectors=self.store.class_means().cpu(), source=source)
