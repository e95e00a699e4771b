"""What every objective is: the output layer and the loss, in the place of `nn.Linear` + `cross_entropy`."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, Self, TypedDict

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labelembed.distributed import ALONE, Group
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import full_precision
from labelembed.objectives.examples import Examples, make_examples

#: Yields (hidden [N, H], labels [N], indices [N] or None) of every training example once, in evaluation mode.
TrainingExamples = Callable[[], Iterable[tuple[Tensor, Tensor, Tensor | None]]]


class Terms(Protocol):
    """A named tuple of scalars. `total` is the loss to go back from; the other terms are not weighted."""

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms."""
        ...

    def _asdict(self) -> dict[str, Tensor]: ...


class CommonArguments(TypedDict, total=False):
    """The keyword arguments that every objective takes; `Objective` documents them."""

    weight: Sequence[float] | Tensor | None
    bias: bool
    ignore_index: int | None
    output_std: float | None


class Objective(nn.Module, ABC):
    """Base of the objectives: owns the output layer `output`, predicts, and yields a label geometry.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        weight: Weight of each class in every loss, [C] numbers >= 0, as in `nn.CrossEntropyLoss`: means are weighted
            means. What an objective remembers of the examples is not weighted. None: 1 each.
        bias: Whether the output layer has a bias.
        ignore_index: Examples with this label take no part in any term, normaliser or state; None: every example
            counts.
        output_std: Start the output layer from N(0, output_std) cut at two standard deviations with bias 0; None:
            PyTorch's own way.
        output_size: D, width of the output layer, for subclasses; None: C, one output a label.
        errors: For subclasses: what they found wrong with their own arguments, to be raised together.

    Attributes:
        process_group: The processes that share a training step, as DistributedDataParallel was given them; None: all
            that are up. In evaluation mode a process waits for no other. A copy keeps the group, a pickle does not.
        output_temperature: What `probabilities` divides the logits by: a float32 buffer, 1 until you fit it on the
            validation set, ``objective.output_temperature.fill_(labelembed.fit_temperature(logits, labels))``.

    Raises:
        ValueError: When an argument is out of its range; one line for each.
    """

    output_temperature: Tensor
    weight: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        weight: Sequence[float] | Tensor | None = None,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
        output_size: int | None = None,
        errors: ArgumentErrors | None = None,
    ) -> None:
        super().__init__()
        errors = errors or ArgumentErrors()
        errors.whole("hidden_size", hidden_size, least=1)
        errors.whole("num_labels", num_labels, least=1)
        errors.require(output_std is None or output_std > 0, "output_std", output_std, "must be > 0, or None")
        if weight is not None:
            weight = torch.as_tensor(weight, dtype=torch.float32).detach().clone()
            rule = f"must have {num_labels} entries, one a label"
            errors.require(list(weight.shape) == [num_labels], "weight", list(weight.shape), rule)
            valid = bool((weight.isfinite() & (weight >= 0)).all()) and bool((weight > 0).any())
            errors.require(valid, "weight", weight.tolist(), "must be finite, >= 0 and not all 0")
        errors.raise_if_any()
        self.hidden_size = hidden_size
        self.num_labels = num_labels
        self.output_size = num_labels if output_size is None else output_size
        self.ignore_index = ignore_index
        self.output_std = output_std
        self.process_group: dist.ProcessGroup | None = None
        self._epoch: int | None = None
        # The output layer comes first, so that every objective with the same seed starts with the same one.
        self.output = self._new_layer(bias=bias)
        self.register_buffer("output_temperature", torch.ones((), dtype=torch.float32))
        self.register_buffer("weight", weight)

    def _new_layer(self, *, bias: bool = True) -> nn.Linear:
        """Returns a layer [H -> D] that starts as the output layer does."""
        layer = nn.Linear(self.hidden_size, self.output_size, bias=bias)
        if self.output_std is not None:
            limit = 2 * self.output_std
            nn.init.trunc_normal_(layer.weight, std=self.output_std, a=-limit, b=limit)
            if bias:
                nn.init.zeros_(layer.bias)
        return layer

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D], the module itself with its weights.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            num_labels: C, where it is not the layer's width D.
            arguments: The objective's own keyword arguments.

        Raises:
            TypeError: `layer` is something else.
            ValueError: The objective would build an output layer of another width.
        """
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"`layer` must be an nn.Linear, got {type(layer).__name__}")
        num_labels = layer.out_features if num_labels is None else num_labels
        objective = cls(layer.in_features, num_labels, bias=layer.bias is not None, **arguments)
        if objective.output_size != layer.out_features:
            wanted = f"must have {objective.output_size} outputs for {num_labels} labels"
            raise ValueError(f"`layer` {wanted}, got {layer.out_features}")
        objective.to(device=layer.weight.device, dtype=layer.weight.dtype)
        objective.output = layer
        return objective

    @abstractmethod
    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> Terms:
        """Computes the terms of one batch.

        Args:
            hidden: [N, H] or [B, T, H].
            labels: [N] or [B, T], integers of any size, 0..C-1 or `ignore_index`.
            indices: [N] or [B, T], where the examples stand in the training set, for objectives that remember each.
            sample_weight: [N] or [B, T], weight >= 0 of each example in every loss; 0 ignores it.
            num_items_in_step: Under gradient accumulation: the number of examples that count (with weights: the sum
                of their weights) in the whole optimiser step, over all micro-batches and processes. Every mean is then
                over the step, so that the losses of the micro-batches add up. None: the batch is the step.

        Raises:
            TypeError: An argument is no tensor.
            ValueError: The shapes do not fit, or a value is out of its range; the message has both sides. On a GPU
                values are checked there, since looking at them would cost a wait.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns scores [..., C] whose argmax predicts."""
        scores: Tensor = self.output(hidden)
        return scores

    def probabilities(self, hidden: Tensor) -> Tensor:
        """Returns ``softmax(logits / output_temperature)`` [..., C], in at least float32."""
        return torch.softmax(full_precision(self.logits(hidden)) / self.output_temperature, dim=-1)

    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns where the labels stand to each other.

        Here, where the objective learns nothing of its own about labels: the class means, by Euclidean distance;
        without them the rows of the output layer, by cosine.

        Args:
            names: The labels' names; None: their numbers.
            class_means: [C, D] means of the outputs (or of the hidden states) over the training examples of each
                label, in evaluation mode; see `training.class_means`.
        """
        names, source = self._names(names), type(self).__name__
        if class_means is not None:
            vectors = class_means.detach().float().cpu().clone()
            return LabelGeometry(names, vectors=vectors, source=f"{source}, class means")
        vectors = self.output.weight.detach().float().cpu().clone()
        return LabelGeometry(names, vectors=vectors, metric="cosine", source=source)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups that decay what should be decayed.

        Args:
            weight_decay: For the parameters that are decayed.
        """
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Tells the objective that an epoch starts.

        Args:
            epoch: Its number, from 0.
            epochs: Of the whole run.
            steps: Optimiser steps of the epoch.
        """
        self._epoch = epoch

    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Tells the objective that the epoch is over.

        Args:
            training_examples: Called by objectives that look at every training example once more; yields (hidden
                [N, H], labels [N], indices [N] or None) in evaluation mode. In several processes each sees them all.

        Raises:
            ValueError: The objective needs the training examples and got None.
        """

    @property
    def accumulation_warning(self) -> str | None:
        """Why the micro-batches of a step add up to something else than one batch; None where they add up to it."""
        return None

    @property
    def _group(self) -> Group:
        """The processes that share this forward pass; in evaluation mode this one alone."""
        return self.process_group if self.training else ALONE

    @property
    def _updates_state(self) -> bool:
        """Whether this forward pass changes what the objective remembers: in training mode, with gradients."""
        return self.training and torch.is_grad_enabled()

    def _examples(
        self, hidden: Tensor, labels: Tensor, sample_weight: Tensor | None, num_items_in_step: Tensor | int | None
    ) -> Examples:
        """Returns the batch flattened and checked; see `make_examples`."""
        return make_examples(
            hidden,
            labels,
            hidden_size=self.hidden_size,
            num_labels=self.num_labels,
            ignore_index=self.ignore_index,
            class_weight=self.weight,
            sample_weight=sample_weight,
            num_items_in_step=num_items_in_step,
            group=self._group,
        )

    def extra_repr(self) -> str:
        """Shows the hyper-parameters in force, defaults and presets filled in."""
        shown = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "training"}
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in shown.items()
            if isinstance(value, int | float | str)
        )

    def __getstate__(self) -> dict[str, Any]:
        # A group of processes belongs to this process, and cannot be pickled.
        return self.__dict__ | {"process_group": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self.__new__(type(self))
        memo |= {id(self): copied, id(self.process_group): self.process_group}
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the module; a fitted temperature is not rounded to half precision."""
        fitted = self.output_temperature
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.output_temperature.dtype in (torch.float16, torch.bfloat16):
            self.output_temperature = fitted.to(self.output_temperature.device)
        return self

    def _require_epoch(self, otherwise: str) -> None:
        """Raises RuntimeError where the objective is trained and no epoch was started.

        Args:
            otherwise: What it would train without a word.
        """
        if self._epoch is None and self._updates_state:
            raise RuntimeError(
                f"{type(self).__name__} knows of no epoch yet, and would train {otherwise}: call "
                "objective.start_epoch(epoch, epochs, steps) before each epoch and objective.end_epoch() after it; to "
                "evaluate, call objective.eval() first"
            )

    def _names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Returns `names`, or the labels' numbers as text."""
        return tuple(names) if names is not None else tuple(str(label) for label in range(self.num_labels))
