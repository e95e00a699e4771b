"""Learning with Retrospection: what the network said of a row some epochs ago is a soft target for it now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.losses import full_precision
from labelembed.losses.soft_targets import SparseRows, dense, entropy, soft_cross_entropy
from labelembed.objectives.epochs import require_epoch
from labelembed.objectives.objective import Objective
from labelembed.objectives.row_numbers import counted_row_numbers
from labelembed.objectives.search_space import Range, SearchSpace
from labelembed.objectives.similarity_table import DENSE_LABELS
from labelembed.objectives.soft_label_store import SoftLabelStore

ROWS_AT_ONCE = 10_000
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

    Needs `rows`, the positions of the batch's rows in the training set, and `begin_epoch` and `end_epoch`: without them
    it does not train. Memory for R rows: 2 bytes for each label up to 256 labels; above, the 32 largest entries with
    their labels in 4 to 6 bytes each (1.2 million rows of 1,000 labels: 154 MB; whole, with ``top_k=1000``, 2.4 GB),
    again as much in every checkpoint.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        num_rows: R, rows of the training set; 0 where nothing is trained.
        preset: `paper` or `published_port`, see above.
        soften_output: Whether the output is divided by tau too, and the term weighted with tau squared; None: the
            preset's (yes and no).
        weight_schedule: How beta grows: `staircase` or `linear`; None: the preset's.
        temperature: tau, how soft the stored distributions are; > 0.
        store_every: k, epochs from one storing to the next; less than the run's epochs.
        final_weight: beta at the end of the run; in [0, 1].
        store: `pass`: at the end of the k-th epoch all rows are looked at once more, in evaluation mode, which costs a
            forward pass; `steps`: what each row got in its own step of the k-th epoch is stored, which costs nothing
            (as in the code published with the paper).
        top_k: Entries kept a row; None: all up to 256 labels, 32 above.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.
        RuntimeError: In training, when `begin_epoch` was never called.

    Example:
        >>> import torch
        >>> objective = Retrospection(8, 3, num_rows=100, store_every=1, store="steps")
        >>> objective.begin_epoch(0, 10)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), rows=torch.tensor([7, 0, 99, 3]))
        >>> bool(terms.total == terms.output)
        True
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    search_space: ClassVar[SearchSpace] = {
        "final_weight": Range(0.1, 0.95),
        "temperature": Range(1.0, 10.0, log=True),
        "store_every": Range(1, 10, log=True, whole=True),
    }

    training_buffers: ClassVar[frozenset[str]] = frozenset(
        {"store.values", "store.labels", "store.generation", "row_labels"}
    )

    row_labels: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        num_rows: int = 0,
        preset: Literal["paper", "published_port"] = "paper",
        soften_output: bool | None = None,
        weight_schedule: Literal["staircase", "linear"] | None = None,
        temperature: float = 5.0,
        store_every: int = 5,
        final_weight: float = 0.9,
        store: Literal["pass", "steps"] = "pass",
        top_k: int | None = None,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
    ) -> None:
        chosen = PRESETS.get(preset, PRESETS["paper"])
        weight_schedule = chosen["weight_schedule"] if weight_schedule is None else weight_schedule
        faults = ArgumentFaults()
        faults.require(num_rows >= 0, "num_rows", num_rows, "must be >= 0")
        faults.choice("preset", preset, tuple(PRESETS))
        faults.choice("weight_schedule", weight_schedule, ("staircase", "linear"))
        faults.require(temperature > 0, "temperature", temperature, "must be > 0")
        faults.require(store_every >= 1, "store_every", store_every, "must be >= 1")
        faults.require(0 <= final_weight <= 1, "final_weight", final_weight, "must be in [0, 1]")
        faults.choice("store", store, ("pass", "steps"))
        faults.require(top_k is None or top_k >= 1, "top_k", top_k, "must be >= 1, or None")
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.num_rows = num_rows
        self.soften_output: bool = chosen["soften_output"] if soften_output is None else soften_output
        self.weight_schedule = weight_schedule
        self.temperature = temperature
        self.store_every = store_every
        self.final_weight = final_weight
        self.store_during = store
        self.weight = 0.0
        self._epoch: int | None = None
        self._stores_now = False
        self.store = SoftLabelStore(num_rows, num_labels, top_k=top_k)
        # For the class means of what is stored; -1: nothing is.
        self.register_buffer("row_labels", torch.full((num_rows,), -1, dtype=torch.int32))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets beta, and whether this epoch's outputs are stored.

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
                "each epoch, then show it every training example where objective.needs_training_pass()"
            )
        done = epoch + 1
        if self.weight_schedule == "staircase":
            done -= done % self.store_every
        self.weight = self.final_weight * done / epochs
        self._epoch = epoch
        self._stores_now = (epoch + 1) % self.store_every == 0

    @property
    def mixing_refusal(self) -> str | None:
        """Why rows of two labels are refused: with ``store="steps"`` what is stored would be of mixed rows."""
        if self.store_during == "pass":
            return None
        return "store: 'steps' stores what the network says of a row in its own step, which is mixed; take 'pass'"

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> RetrospectionTerms:
        """Computes the terms; see `Objective.forward`.

        Raises:
            ValueError: `rows` is missing where soft labels are stored or read, or is not one a row of the labels.
        """
        require_epoch(self, self._epoch, otherwise="plain cross entropy")
        storing = self._stores_now and self.store_during == "steps" and self.moves_state()
        reading = self.training and self.store.filled
        places = self._places(labels, rows) if storing or reading else None
        hidden, labels = self.counted(hidden, labels)
        logits = full_precision(self.output(hidden))
        log_probabilities = F.log_softmax(logits, dim=-1)
        row_factor = whole_batch.mean_factor(labels.shape[0], like=logits, group=self.step_group)
        output = F.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
        total, retrospection = output, logits.new_zeros(())
        if reading and places is not None:
            stored = self.store.rows(places, dtype=logits.dtype)
            weight = self.weight
            if self.soften_output:
                log_probabilities = F.log_softmax(logits / self.temperature, dim=-1)
                weight *= self.temperature**2
            divergence = soft_cross_entropy(stored, log_probabilities) - entropy(stored, self.num_labels)
            retrospection = divergence.sum() * row_factor
            total = (1 - self.weight) * output + weight * retrospection
        if storing and places is not None:
            self._put(places, logits.detach(), labels)
        return RetrospectionTerms(total=total, output=output, retrospection=retrospection)

    def _places(self, labels: Tensor, rows: Tensor | None) -> Tensor:
        """Returns the row numbers [n] of the rows that count."""
        return counted_row_numbers(
            rows,
            labels,
            num_rows=self.num_rows,
            ignore_index=self.ignore_index,
            reason="Retrospection remembers every row",
        )

    @torch.no_grad()
    def _put(self, rows: Tensor, logits: Tensor, labels: Tensor, *, everywhere: bool = False) -> None:
        """Stores what the network says of rows; `everywhere`: every process has been given the same rows."""
        said = (full_precision(logits) / self.temperature).softmax(dim=-1)
        if not everywhere:
            rows, said, labels = whole_batch.gathered(rows, said, labels, group=self.step_group)
        self.store.put(rows, said)
        self.row_labels.index_copy_(0, rows, labels.to(self.row_labels.dtype))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if (
            len(self.row_labels)
            and not -1 <= int(self.row_labels.min()) <= int(self.row_labels.max()) < self.num_labels
        ):
            rest[-1].append(f"{prefix}row_labels: names labels that there are not")  # torch's list of what is wrong

    def end_epoch(self) -> None:
        """With ``store="steps"`` all rows of a k-th epoch are stored now."""
        if self._stores_now and self.store_during == "steps":
            self.store.end()
            self._stores_now = False

    def needs_training_pass(self) -> bool:
        """Tells whether this is a k-th epoch, after which every row is stored."""
        return self._stores_now and self.store_during == "pass"

    def observe(self, hidden: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Stores rows [N, H]."""
        places = self._places(labels, rows)
        hidden, labels = self.counted(hidden, labels)
        self._put(places, self.output(hidden), labels, everywhere=True)

    def end_pass(self) -> None:
        """All rows are stored."""
        self.store.end()

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns the class means of the stored distributions; where none are stored see `Objective.label_geometry`."""
        if not self.store.filled or self.num_labels > DENSE_LABELS:
            return super().label_geometry(names, class_means=class_means)
        sums = torch.zeros(self.num_labels, self.num_labels, dtype=torch.float64, device=self.row_labels.device)
        for places in torch.split(torch.arange(self.num_rows, device=sums.device), ROWS_AT_ONCE):
            places = places[self.row_labels[places] >= 0]
            stored = self.store.rows(places)
            stored = dense(stored, self.num_labels) if isinstance(stored, SparseRows) else stored
            sums.index_add_(0, self.row_labels[places].long(), stored.double())
        counts = sums.sum(dim=1, keepdim=True)  # of float16 distributions: each adds up to about 1
        vectors = torch.where(counts > 0, sums / counts.clamp_min(1e-6), 1 / self.num_labels).float().cpu()
        source = f"{type(self).__name__}, class means of the stored soft labels"
        return LabelGeometry(self.label_names(names), vectors=vectors, source=source)
