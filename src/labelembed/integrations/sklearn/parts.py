"""What a classifier is made of: its encoder, its teacher, the geometry of its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import hidden_size_of
from labelembed.models import MLP

# What a teacher thinks impossible still has a finite logarithm.
SMALLEST_PROBABILITY = 1e-12


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
    """Returns H: what an encoder says, else the width of what it makes of one row of that shape."""
    known = hidden_size_of(encoder)
    if known is not None:
        return known
    was_training = encoder.training
    hidden = encoder.eval()(torch.zeros(1, *shape))
    encoder.train(was_training)
    if hidden.ndim != 2:
        raise ValueError(f"`encoder` must make rows [N, H] of inputs [N, ...], got {list(hidden.shape)} of one row")
    return int(hidden.shape[1])


def geometry_of_classes(geometry: LabelGeometry, classes: Any) -> LabelGeometry:
    """Returns the geometry of the classes, found by their names, in their order."""
    missing = [str(label) for label in classes if str(label) not in geometry.names]
    if missing:
        raise ValueError(f"`embedding` must have every label by its name, and has none for {', '.join(missing[:5])}")
    return geometry.select([str(label) for label in classes])


def taught(teacher: Any, inputs: Any, labels: Any, classes: Any) -> tuple[Any, Tensor]:
    """Returns a clone of the teacher, fitted, and its logits [N, C] of the rows it was fitted on.

    Args:
        teacher: A classifier with `predict_proba`.
        inputs: [N, ...].
        labels: [N].
        classes: [C], all labels in their order.

    Raises:
        ValueError: The teacher knows other labels, as one that was fitted before may.
    """
    fitted = clone(teacher).fit(inputs, labels)
    if not np.array_equal(fitted.classes_, classes):
        raise ValueError(f"`teacher` must know the labels {list(classes)}, got {list(fitted.classes_)}")
    said = np.asarray(fitted.predict_proba(inputs), dtype=np.float64).clip(SMALLEST_PROBABILITY)
    return fitted, torch.from_numpy(np.log(said)).float()
