"""What a classifier is made of: examples, encoder, one epoch of training, teacher, the geometry of its classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from labelembed.geometry import LabelGeometry
from labelembed.lab.data import Batch
from labelembed.lab.models import MLP
from labelembed.lab.training.network import Network

# Examples at once where nothing is trained.
EVALUATION_EXAMPLES = 1_000
# What a teacher thinks impossible still has a finite logarithm.
SMALLEST_PROBABILITY = 1e-12


class Examples:
    """Inputs [N, ...] of an array or a sparse matrix, labels [N] and weights [N] or None; batches are dense.

    Args:
        inputs: An array, or a matrix in CSR form.
        labels: Numbers of the classes; None: 0, for what is to be predicted.
        weights: float32, or None.
    """

    def __init__(self, inputs: Any, labels: Any = None, weights: Any = None) -> None:
        self.inputs = inputs
        self.labels = torch.as_tensor(np.zeros(inputs.shape[0]) if labels is None else labels, dtype=torch.int64)
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    def select(self, indices: Any) -> Examples:
        """Returns some of the examples."""
        weights = None if self.weights is None else self.weights[indices]
        return Examples(self.inputs[indices], self.labels[indices], weights)

    def counted_labels(self) -> Tensor:
        """Returns the labels, -100 where the weight is 0."""
        return self.labels if self.weights is None else self.labels.masked_fill(self.weights == 0, -100)

    def batches(self, batch_size: int, *, order: Tensor | None = None) -> Iterator[Batch]:
        """Yields the batches of one pass, in the order given."""
        order = torch.arange(len(self)) if order is None else order
        for some in torch.split(order, batch_size):
            inputs = self.inputs[some.numpy()]
            dense = inputs.toarray() if hasattr(inputs, "toarray") else inputs
            yield Batch(torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32)), self.labels[some], some)


def new_encoder(
    given: nn.Module | Callable[[int], nn.Module] | None,
    shape: Sequence[int],
    *,
    hidden_sizes: Sequence[int],
    dropout: float,
) -> nn.Module:
    """Returns the encoder to train: a copy of what was given, what it makes, or a multilayer perceptron.

    Args:
        given: A module, a function from the number of features to one, or None.
        shape: Of one input.
        hidden_sizes: Widths of the perceptron's layers.
        dropout: Of the perceptron.
    """
    if given is None:
        return MLP(input_shape=shape, hidden_sizes=np.atleast_1d(hidden_sizes).tolist(), dropout=dropout)
    if isinstance(given, nn.Module):
        return deepcopy(given)  # a fit does not change what it was given
    made: Any = given(shape[0])
    if not isinstance(made, nn.Module):
        raise TypeError(f"`encoder` must make a torch module, got {type(made).__name__}")
    return made


@torch.no_grad()
def width_of(encoder: nn.Module, shape: Sequence[int]) -> int:
    """Returns H: an encoder's `hidden_size` or timm's `num_features`, else the width of what it makes of one input."""
    for name in ("hidden_size", "num_features"):
        if isinstance(getattr(encoder, name, None), int):
            return int(getattr(encoder, name))
    was_training = encoder.training
    hidden = encoder.eval()(torch.zeros(1, *shape))
    encoder.train(was_training)
    if hidden.ndim != 2:
        raise ValueError(f"`encoder` must make [N, H] of inputs [N, ...], got {list(hidden.shape)} of one input")
    return int(hidden.shape[1])


def train_epoch(
    network: Network,
    optimizer: Optimizer,
    scheduler: LambdaLR,
    examples: Examples,
    *,
    order: Tensor,
    batch_size: int,
) -> dict[str, float]:
    """Makes one pass over examples in the order given and returns the mean of each term over them.

    Args:
        network: On its device; left in training mode.
        optimizer: Over its parameters.
        scheduler: Of the learning rate, a step at a time.
        examples: What is learned.
        order: Indices of the examples to visit.
        batch_size: Examples a step.

    Raises:
        ValueError: A term is not finite.
    """
    device = next(network.parameters()).device
    sums: dict[str, Tensor] = {}
    network.train()
    for batch in examples.batches(batch_size, order=order):
        weights = None if examples.weights is None else examples.weights[batch.indices].to(device)
        inputs, labels, indices = (part.to(device) for part in batch)
        terms = network.objective(network.hidden(inputs), labels, indices, sample_weight=weights)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        scheduler.step()
        for name, term in terms._asdict().items():
            sums[name] = sums.get(name, 0.0) + term.detach().double() * len(labels)
    # One look at the numbers an epoch: on a GPU each costs a wait.
    means = {name: float(value) / len(order) for name, value in sums.items()}
    # The total is wrong whenever a term is; the term says where to look.
    wrong = sorted((name for name, value in means.items() if not math.isfinite(value)), key="total".__eq__)
    if wrong:
        raise ValueError(
            f"the loss is not finite: term `{wrong[0]}` is {means[wrong[0]]}; scale the inputs (StandardScaler) or "
            "lower `learning_rate_init`"
        )
    return means


@torch.no_grad()
def logits_of(network: Network, examples: Examples) -> Tensor:
    """Returns the logits [N, C] in evaluation mode, float32 on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    found = [network.logits(batch.inputs.to(device)) for batch in examples.batches(EVALUATION_EXAMPLES)]
    return torch.cat(found).float().cpu()


def geometry_of_classes(geometry: LabelGeometry, classes: Any) -> LabelGeometry:
    """Returns the geometry of the classes, found by their names, in their order."""
    missing = [str(label) for label in classes if str(label) not in geometry.names]
    if missing:
        raise ValueError(f"`embedding` must have every label by its name, and has none for {', '.join(missing[:5])}")
    return geometry.select([str(label) for label in classes])


def fitted_teacher(teacher: Any, examples: Examples, classes: Any) -> tuple[Any, Tensor]:
    """Returns a clone of the teacher, fitted, and its logits [N, C] of the examples it was fitted on.

    Args:
        teacher: A classifier with `predict_proba`; one whose `fit` takes weights gets those of the examples.
        examples: What the student learns too.
        classes: [C], all labels in their order.

    Raises:
        ValueError: The teacher knows other labels, as one that was fitted before may.
    """
    weights = {}
    if examples.weights is not None and has_fit_parameter(teacher, "sample_weight"):
        weights["sample_weight"] = examples.weights.numpy()
    fitted = clone(teacher).fit(examples.inputs, classes[examples.labels.numpy()], **weights)
    if not np.array_equal(fitted.classes_, classes):
        raise ValueError(f"`teacher` must know the labels {list(classes)}, got {list(fitted.classes_)}")
    probabilities = np.asarray(fitted.predict_proba(examples.inputs), dtype=np.float64).clip(SMALLEST_PROBABILITY)
    return fitted, torch.from_numpy(np.log(probabilities)).float()
