"""Retrospection: an example's soft target is what the network predicted for it some epochs ago."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.distributed import gather
from labelembed.errors import ArgumentErrors
from labelembed.losses.reference import cross_entropy, full_precision, kl_divergence, log_softmax
from labelembed.objectives.base import CommonArguments, Objective, StepArguments, TrainingExamples, with_preset
from labelembed.objectives.examples import checked_indices

_BY_PASS: dict[str, Any] = {"temperature": 5.0, "store_every": 5, "final_weight": 0.9, "store": "pass"}
_BY_STEP: dict[str, Any] = {"temperature": 1.0, "store_every": 1, "final_weight": 0.8, "store": "steps"}
PRESETS = {"paper": _BY_PASS, "published_port": _BY_PASS, "progressive": _BY_STEP}


class RetrospectionTerms(NamedTuple):
    """Terms of `Retrospection`: scalars, not weighted; `retrospection` is 0 until soft labels are stored."""

    total: Tensor
    output: Tensor
    retrospection: Tensor


class Retrospection(Objective):
    """Trains on the network's own predictions of an earlier epoch (Deng, Zhang 2021; Kim et al. 2021).

    The first k = `store_every` epochs are plain cross entropy. After every k-th epoch ``s = softmax(z / tau)`` is
    stored for each training example; from then on, in epoch t (from 1) of T::

        output         CE(onehot(y), z)
        retrospection  KL(s || softmax(z / tau))
        total          (1 - beta) output + beta tau**2 retrospection

    `paper` (LWR; Deng, Zhang 2021): k = 5, tau = 5, ``beta = final_weight k floor(t / k) / T`` with final_weight 0.9.
    `published_port` (what Yu, Verma 2022 compare with): ``(1 - beta) output + beta KL(s || softmax(z))`` with
    ``beta = final_weight t / T``, which flattens even an output unchanged since storing.
    `progressive` (PS-KD; Kim et al. 2021): k = 1, tau = 1, ``beta = final_weight (t - 1) / T`` (the paper: t / T) with
    final_weight 0.8: the target is ``(1 - beta) onehot + beta p``, p the example's prediction in the epoch before.

    Needs `indices`, and `start_epoch` before and `end_epoch` after each epoch: without them it does not train. An
    example takes 2 C bytes (1.2 million of 1,000 labels: 2.4 GB), with ``store="steps"`` twice, also in checkpoints.

    Relations: with ``final_weight=0`` cross entropy; `OnlineLabelSmoothing` keeps a mean for each label instead.
    When: to compare with; no gain over tuned label smoothing was measured.

    Args:
        num_examples: R, examples of the training set. Without it the objective predicts, and does not train.
        preset: `paper`, `published_port` or `progressive`, see above; it sets what is None below.
        temperature: tau, how soft the stored distributions are; > 0.
        store_every: k, epochs from one storing to the next; less than the run's epochs.
        final_weight: beta at the end of the run; in [0, 1].
        store: `pass`: at the end of the k-th epoch `end_epoch` goes through all training examples once more, in
            evaluation mode; `steps`: what each example got in its own step of the k-th epoch is stored, at no cost. One
            that a sampler leaves out keeps its last soft label; where it has none yet, s is its label.

    Example:
        >>> import torch
        >>> objective = Retrospection(8, 3, num_examples=100, preset="progressive")
        >>> objective.start_epoch(0, 10, steps=25)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), indices=torch.tensor([7, 0, 99, 3]))
        >>> bool(terms.total == terms.output)
        True
    """

    citation = (
        "Deng, Zhang 2021: Learning with Retrospection, AAAI; "
        "Kim, Ji, Yoon, Hwang 2021: Self-Knowledge Distillation with Progressive Refinement of Targets, ICCV"
    )
    training_buffers = ("stored", "gathered", "storings")

    stored: Tensor
    gathered: Tensor | None
    storings: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        num_examples: int = 0,
        preset: Literal["paper", "published_port", "progressive"] = "paper",
        temperature: float | None = None,
        store_every: int | None = None,
        final_weight: float | None = None,
        store: Literal["pass", "steps"] | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        chosen = with_preset(
            PRESETS, preset, errors, temperature=temperature, store_every=store_every, final_weight=final_weight,
            store=store,
        )  # fmt: skip
        tau, final = chosen["temperature"], chosen["final_weight"]
        errors.whole("num_examples", num_examples, least=0)
        errors.require(tau > 0, "temperature", tau, "must be > 0")
        errors.whole("store_every", chosen["store_every"], least=1)
        errors.require(0 <= final <= 1, "final_weight", final, "must be in [0, 1]")
        errors.choice("store", chosen["store"], ("pass", "steps"))
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.num_examples = num_examples
        self.preset = preset
        self.temperature: float = tau
        self.store_every: int = chosen["store_every"]
        self.final_weight: float = final
        self.store: str = chosen["store"]
        self._needs_epochs = True
        self._beta = 0.0
        self._reads_stored = self._stores_now = False
        table = torch.zeros(num_examples, num_labels, dtype=torch.float16)
        self.register_buffer("stored", table)
        # What the steps of this epoch store; apart, since a backward pass may still read `stored`.
        self.register_buffer("gathered", table.clone() if self.store == "steps" else None)
        self.register_buffer("storings", torch.zeros((), dtype=torch.int64))

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Sets beta, and whether this epoch's outputs are stored; see `Objective.start_epoch`.

        Raises:
            ValueError: The run ends before anything stored is read.
        """
        if epochs <= self.store_every:
            raise ValueError(
                f"`store_every` must be less than the number of epochs, {epochs}, got {self.store_every}: what is "
                "stored would never be read; take a smaller `store_every`, or train longer"
            )
        super().start_epoch(epoch, epochs, steps)
        self._reads_stored = int(self.storings) > 0
        t = epoch + 1
        grown = {"paper": t - t % self.store_every, "published_port": t, "progressive": epoch}[self.preset]
        self._beta = self.final_weight * grown / epochs
        self._stores_now = t % self.store_every == 0

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> RetrospectionTerms:
        """Computes the terms; see `Objective.forward`. ValueError: training without `indices` or `num_examples`."""
        examples = self._examples(hidden, labels, step)
        logits = full_precision(self.output(examples.hidden))
        log_p = log_softmax(logits)
        output = cross_entropy(log_p, examples.labels, examples.loss_weights)
        total, retrospection = output, logits.new_zeros(())
        if not self.training:
            return RetrospectionTerms(total, output, retrospection)
        rows = self._rows(indices, labels, examples.mask)
        if self._reads_stored:
            weight = self._beta
            if self.preset != "published_port":
                log_p = log_softmax(logits / self.temperature)
                weight *= self.temperature**2
            soft = self.stored[rows].to(log_p.dtype)
            one_hot = torch.zeros_like(soft).scatter(1, examples.labels[:, None], 1)
            soft = torch.where(soft.sum(dim=1, keepdim=True) == 0, one_hot, soft)  # where nothing is stored yet
            retrospection = kl_divergence(soft, log_p, examples.loss_weights)
            total = (1 - self._beta) * output + weight * retrospection  # factors of an operation are compiled anew
        if self._stores_now and self.gathered is not None and self._updates_state:
            own = rows[examples.mask], self._softened(logits[examples.mask])
            self.gathered.index_copy_(0, *gather(*own, group=examples.group))
        return RetrospectionTerms(total, output, retrospection)

    def _rows(self, indices: Tensor | None, labels: Tensor, mask: Tensor) -> Tensor:
        """Returns the positions [N] of the examples in the table."""
        reason = "Retrospection remembers every example"
        if self.num_examples == 0:
            raise ValueError(f"`num_examples`, of the training set, must be given to train, got 0: {reason}")
        return checked_indices(indices, labels, mask, num_examples=self.num_examples, reason=reason)

    @torch.no_grad()
    def _softened(self, logits: Tensor) -> Tensor:
        return log_softmax(full_precision(logits) / self.temperature).exp().to(self.stored.dtype)

    @torch.no_grad()
    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Stores the soft labels after every k-th epoch; see `Objective.end_epoch`.

        Raises:
            ValueError: With ``store="pass"``, after a k-th epoch, when `training_examples` is None.
        """
        super().end_epoch()
        if not self._stores_now:
            return
        if self.gathered is not None:
            self.stored, self.gathered = self.gathered, self.stored
            self.gathered.copy_(self.stored)  # of what the next epochs do not see the last is kept
        elif training_examples is None:
            raise ValueError(
                "`training_examples` must be given after every `store_every` epochs, got None: Retrospection looks "
                "at every example once more; or take store='steps'"
            )
        else:
            for hidden, labels, indices, *weight in training_examples():
                examples = self._examples(hidden, labels, {"sample_weight": weight[0]} if weight else None)
                rows = self._rows(indices, labels, examples.mask)[examples.mask]
                self.stored.index_copy_(0, rows, self._softened(self.output(examples.hidden[examples.mask])))
        self.storings += 1
        self._stores_now = False
