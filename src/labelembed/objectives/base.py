"""What every objective is: output layer and loss in one module, in the place of `nn.Linear` and `cross_entropy`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypedDict, Unpack

import torch
import torch.distributed as dist
from torch import Tensor, nn

from labelembed.distributed import ALONE
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses.reference import full_precision
from labelembed.objectives.examples import Examples, make_examples

Metric = Literal["cosine", "euclidean"]
TrainingExamples = Callable[[], Iterable[tuple[Tensor, Tensor, Tensor | None] | tuple[Tensor, ...]]]


class Terms(Protocol):
    """A named tuple of scalars. Backpropagate `total`; the other terms are not weighted."""

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms."""
        ...

    def _asdict(self) -> dict[str, Tensor]: ...


class OutputTerms(NamedTuple):
    """Terms of an objective with a single one: scalars."""

    total: Tensor
    output: Tensor


class CommonArguments(TypedDict, total=False):
    """The keyword arguments that every objective takes; `Objective` documents them."""

    weight: Sequence[float] | Tensor | None
    bias: bool
    ignore_index: int | None


class StepArguments(TypedDict, total=False):
    """The keyword arguments of every forward pass; `Objective.forward` documents them."""

    sample_weight: Tensor | None
    num_items_in_step: Tensor | int | None


class Objective(nn.Module, ABC):
    """Base of the objectives: owns the output layer `output`, predicts, and returns what it learned about labels.

    Every objective takes these arguments; each class documents its own. All that are out of range raise one ValueError.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        weight: Weight of each class in every loss, [C] numbers >= 0, as in `nn.CrossEntropyLoss`: means are weighted
            means. What an objective remembers of the examples has no class weights. None: 1 each.
        bias: Whether the output layer has a bias.
        ignore_index: Examples with this label take no part in any term, normaliser or state; None: every example
            counts.
        output_size: D, width of the output layer, for subclasses; None: C, one output a label.
        errors: What is wrong with the arguments of a subclass.

    Attributes:
        citation: The paper, as a line of text.
        process_group: The processes that share a training step, as DistributedDataParallel was given them; None: all
            that are up. In evaluation mode a process waits for no other. Copies and pickles leave it out.
        output_temperature: What `probabilities` divides the logits by: a float32 buffer, 1 until you fit it on the
            validation set, ``objective.output_temperature.fill_(labelembed.fit_temperature(logits, labels))``.
        accumulation_warning: Why the micro-batches of a step add up to something else than one batch, or None.
        learns_labels: Whether `label_geometry` returns something that was learned about labels.
        training_buffers: Names of buffers that only training needs: checkpoints hold them, saved models do not.
    """

    citation: ClassVar[str] = ""
    learns_labels: ClassVar[bool] = False
    training_buffers: ClassVar[tuple[str, ...]] = ()
    accumulation_warning: str | None = None
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
        output_size: int | None = None,
        errors: ArgumentErrors | None = None,
    ) -> None:
        super().__init__()
        errors = errors or ArgumentErrors()
        errors.whole("hidden_size", hidden_size, least=1)
        errors.whole("num_labels", num_labels, least=1)
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
        self.process_group: dist.ProcessGroup | None = None
        # Whether training without `start_epoch` and `end_epoch` would silently train something else.
        self._needs_epochs = False
        self._begun = False
        self._open_epoch: int | None = None
        # The output layer comes first, so that every objective with the same seed starts with the same one.
        self.output = nn.Linear(hidden_size, self.output_size, bias=bias)
        self.register_buffer("output_temperature", torch.ones((), dtype=torch.float32))
        self.register_buffer("weight", weight)

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D], the module itself with its weights.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            num_labels: C, where it is not the layer's width D.
            arguments: The objective's own keyword arguments.

        Raises:
            TypeError, ValueError: `layer` is something else, or of another width than the objective's output layer.
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
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> Terms:
        """Computes the terms of one batch.

        Args:
            hidden: [N, H] or [B, T, H].
            labels: [N] or [B, T], whole numbers of any type, 0..C-1 or `ignore_index`.
            indices: [N] or [B, T], positions of the examples in the training set, for objectives that remember each.
            step: `sample_weight` [N] or [B, T]: weight >= 0 of each example in every loss; 0 ignores it.
                `num_items_in_step`: under gradient accumulation the number of examples that count (with weights: the
                sum of their weights) in the whole optimiser step, over all micro-batches and processes. Every mean is
                then over the step, so that the losses of the micro-batches add up. None: the batch is the step.

        Raises:
            TypeError, ValueError: An argument is no tensor, shapes do not fit, or a value is out of range (a GPU checks
                without waiting).
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns scores [..., C] whose argmax predicts."""
        scores: Tensor = self.output(hidden)
        return scores

    def probabilities(self, hidden: Tensor) -> Tensor:
        """Returns ``softmax(logits / output_temperature)`` [..., C], in at least float32."""
        return torch.softmax(full_precision(self.logits(hidden)) / self.output_temperature, dim=-1)

    def label_geometry(self, names: Sequence[str] | None = None) -> LabelGeometry:
        """Returns how the labels relate: here the weights of the output layer, by cosine.

        Args:
            names: The labels' names; None: their numbers.
        """
        return self._geometry(names, vectors=self.output.weight, metric="cosine")

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

        Raises:
            RuntimeError: An earlier epoch was not ended, and the objective needs it.
        """
        if self._needs_epochs and self._open_epoch is not None and epoch > self._open_epoch:
            raise RuntimeError(f"epoch {self._open_epoch} was not ended: call objective.end_epoch() after each epoch")
        self._begun, self._open_epoch = True, epoch

    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Tells the objective that the epoch is over.

        Args:
            training_examples: Called by objectives that look at every training example once more; yields (hidden
                [N, H], labels [N], indices [N] or None) in evaluation mode, and a fourth, their `sample_weight` [N],
                where training had one. In several processes each sees them all.

        Raises:
            ValueError: The objective needs the training examples and got None.
        """
        self._open_epoch = None

    @property
    def _updates_state(self) -> bool:
        """Whether this forward pass changes what the objective remembers: in training mode, with gradients."""
        return self.training and torch.is_grad_enabled()

    def _examples(self, hidden: Tensor, labels: Tensor, step: StepArguments | None = None) -> Examples:
        """Returns the batch flattened and checked; raises RuntimeError where an epoch must be started first."""
        if self._needs_epochs and self._updates_state and not self._begun:
            raise RuntimeError(
                f"{type(self).__name__} would train something else: call objective.start_epoch(epoch, epochs, steps) "
                "before each epoch and objective.end_epoch() after it; to evaluate, call objective.eval() first"
            )
        if getattr(self, "_is_replica", False):
            raise RuntimeError("DataParallel trains copies, which lose what the objective learns: start with torchrun")
        return make_examples(
            hidden,
            labels,
            hidden_size=self.hidden_size,
            num_labels=self.num_labels,
            ignore_index=self.ignore_index,
            class_weight=self.weight,
            group=self.process_group if self.training else ALONE,  # who evaluates waits for nobody
            **(step or {}),
        )

    def _geometry(self, names: Sequence[str] | None, *, metric: Metric = "euclidean", **table: Tensor) -> LabelGeometry:
        """Returns a geometry of a copy of `vectors` or `similarities`."""
        names = tuple(names) if names is not None else tuple(str(label) for label in range(self.num_labels))
        copies: dict[str, Any] = {kind: values.detach().float().cpu().clone() for kind, values in table.items()}
        return LabelGeometry(names, metric=metric, source=type(self).__name__, **copies)

    def extra_repr(self) -> str:
        """Shows the hyper-parameters in force, defaults and presets filled in."""
        shown = {name: value for name, value in vars(self).items() if isinstance(value, int | float | str)}
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in shown.items()
            if name[0] != "_" and name not in ("training", "accumulation_warning")
        )

    def __getstate__(self) -> dict[str, Any]:
        # A group of processes belongs to this process, and cannot be copied or pickled.
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return state | {"process_group": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts the module; its buffers are not rounded below float32."""
        before = [(module, name, buffer) for module in self.modules() for name, buffer in module._buffers.items()]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for module, name, buffer in before:
            cast = module._buffers[name]
            if buffer is None or cast is None or buffer.is_meta:
                continue
            # What is stored as float16 to save memory stays float16, too.
            if torch.float16 in (buffer.dtype, cast.dtype) or cast.dtype == torch.bfloat16:
                kept = torch.float32 if buffer.dtype == torch.float64 else buffer.dtype
                module._buffers[name] = buffer.to(cast.device, kept)
        return self


def with_preset(
    presets: Mapping[str, Mapping[str, Any]], preset: str, errors: ArgumentErrors, **given: Any
) -> dict[str, Any]:
    """Returns the values of a preset, with those that were given (not None) in their place; notes an unknown preset."""
    errors.choice("preset", preset, tuple(presets))
    values = presets.get(preset) or next(iter(presets.values()))
    return {**values, **{name: value for name, value in given.items() if value is not None}}
