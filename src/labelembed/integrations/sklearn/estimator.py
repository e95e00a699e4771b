"""What the classifiers for scikit-learn have in common: training, prediction and the checks of both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from labelembed import seeds
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.integrations.sklearn.parts import (
    Examples,
    fitted_teacher,
    geometry_of_classes,
    logits_of,
    new_encoder,
    train_epoch,
    width_of,
)
from labelembed.lab.recipes.components import takes
from labelembed.lab.training.evaluation import class_means, hidden_states
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS, SCHEDULES
from labelembed.metrics.calibration import FEWEST_CALIBRATION_EXAMPLES, fit_temperature
from labelembed.objectives import OBJECTIVES, Distillation, Retrospection

#: Of so many labels a table of means, and of distances between all of them, is still small.
MOST_MEANS = 4_000


@dataclass(eq=False, repr=False, kw_only=True)
class NeuralClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """What the classifiers have in common; see `ObjectiveClassifier`."""

    hidden_layer_sizes: tuple[int, ...] = (100,)
    encoder: nn.Module | Callable[[int], nn.Module] | None = None
    dropout: float = 0.0
    optimizer: str = "adam"
    learning_rate_init: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    batch_size: int | str = "auto"
    max_iter: int = 100
    class_weight: Mapping[Any, float] | str | None = None
    early_stopping: bool = False
    calibrate: bool = True
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    random_state: int | np.random.RandomState | None = None
    device: str = "cpu"
    verbose: bool = False

    @abstractmethod
    def _objective(self) -> tuple[str, dict[str, Any]]:
        """Returns the objective's name and its checked hyper-parameters: the fields that are not common to all."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's own names
        """Trains from the start.

        Args:
            X: Inputs [N, F], an array or a sparse matrix; with an `encoder` of one's own also arrays [N, ...].
            y: Labels [N] of any type that can be sorted.
            sample_weight: [N], weight of each example in every loss; None: 1 each.
        """
        self._require_arguments()
        inputs, y = self._validated(X, y, reset=True)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._class_weights = None
        if self.class_weight is not None:
            self._class_weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y).tolist()
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, inputs, dtype=np.float32, ensure_non_negative=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        examples = Examples(inputs, labels, sample_weight)
        examples, validation = self._split(examples, seed)
        network = self._network(examples, seed, len(examples))
        self._train(network, examples, validation, seed)
        if self.calibrate and validation is not None:
            truth = validation.counted_labels()
            counted = truth >= 0
            if int(counted.sum()) >= FEWEST_CALIBRATION_EXAMPLES:
                logits = logits_of(network, validation)
                network.objective.output_temperature.fill_(fit_temperature(logits[counted], truth[counted]))
        self._keep(network, examples, seed)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Returns the most probable label of each input [N]."""
        logits = self._logits(X)  # first, for it checks that there is something to predict by
        return self.classes_[logits.argmax(dim=1).numpy()]

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the probabilities [N, C] at the fitted temperature, float32, in the order of `classes_`."""
        return self._logits(X).softmax(dim=1).numpy()

    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the logarithms of `predict_proba`."""
        return self._logits(X).log_softmax(dim=1).numpy()

    def _logits(self, inputs: Any) -> Tensor:
        """Returns the logits [N, C] divided by the fitted temperature."""
        check_is_fitted(self, "network_")
        inputs, _ = self._validated(inputs, None, reset=False)
        return logits_of(self.network_.to(self.device), Examples(inputs)) / self.output_temperature_

    def _validated(self, inputs: Any, labels: Any, *, reset: bool) -> tuple[Any, Any]:
        how = {"accept_sparse": "csr", "dtype": np.float32, "allow_nd": self.encoder is not None, "reset": reset}
        if labels is None and not reset:
            return validate_data(self, inputs, **how), None
        inputs, labels = validate_data(self, inputs, labels, **how)
        check_classification_targets(labels)
        return inputs, labels

    def _require_arguments(self) -> None:
        errors = ArgumentErrors()
        errors.choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        errors.choice("schedule", self.schedule, tuple(SCHEDULES))
        rule = "must be 'auto' or a whole number >= 1"
        errors.require(self.batch_size == "auto" or _is_whole(self.batch_size), "batch_size", self.batch_size, rule)
        for name in ("max_iter", "n_iter_no_change"):
            value = getattr(self, name)
            errors.require(_is_whole(value), name, value, "must be a whole number >= 1")
        share = self.validation_fraction
        errors.require(0 < share < 1, "validation_fraction", share, "must be between 0 and 1")
        errors.require(self.tol >= 0, "tol", self.tol, "must be >= 0")
        known = self.encoder is None or callable(self.encoder)
        errors.require(known, "encoder", self.encoder, "must be a torch module, a function that makes one, or None")
        errors.raise_if_any()

    def _split(self, examples: Examples, seed: int) -> tuple[Examples, Examples | None]:
        """Returns the examples to train on and the validation set; None where none is needed or it is too small."""
        each = np.bincount(examples.labels)
        size = len(examples) * self.validation_fraction
        enough = each.min() >= 2 and size >= max(FEWEST_CALIBRATION_EXAMPLES, len(each))
        if not self.early_stopping and not (self.calibrate and enough):
            return examples, None
        train, validation = train_test_split(
            np.arange(len(examples)),
            test_size=self.validation_fraction,
            stratify=examples.labels,
            random_state=seed % 2**32,
        )
        return examples.select(train), examples.select(validation)

    def _network(self, examples: Examples, seed: int, num_examples: int) -> Network:
        """Returns the network as training begins with it; `num_examples` 0: it remembers no examples."""
        shape = examples.inputs.shape[1:]
        with seeds.seeded(seed, "encoder"):
            encoder = new_encoder(self.encoder, shape, hidden_sizes=self.hidden_layer_sizes, dropout=self.dropout)
        name, arguments = self._objective()
        teacher = arguments.pop("teacher", None)
        if isinstance(arguments.get("embedding"), LabelGeometry):
            arguments["embedding"] = geometry_of_classes(arguments["embedding"], self.classes_)
        arguments |= {"output_std": getattr(encoder, "output_std", None), "ignore_index": None}
        if self._class_weights is not None:
            if arguments.get("weight") is not None:
                raise ValueError("`class_weight` and the objective's `weight` say the same: give one of them")
            arguments["weight"] = self._class_weights
        if takes(OBJECTIVES[name], "num_examples"):
            arguments["num_examples"] = num_examples
        if takes(OBJECTIVES[name], "teacher_logits"):
            arguments["teacher_logits"] = None
            if num_examples:
                self.teacher_, arguments["teacher_logits"] = fitted_teacher(teacher, examples, self.classes_)
        with seeds.seeded(seed, "objective"):
            objective = OBJECTIVES[name](width_of(encoder, shape), len(self.classes_), **arguments)
        return Network(nn.Identity(), encoder, objective).to(self.device)

    def _train(self, network: Network, examples: Examples, validation: Examples | None, seed: int) -> None:
        """Trains for `max_iter` epochs, or until `early_stopping` ends it; the best epoch's weights are kept then."""
        batch_size = min(200, len(examples)) if self.batch_size == "auto" else int(self.batch_size)
        each = -(-len(examples) // batch_size)
        steps = each * self.max_iter
        optimizer = OPTIMIZERS[self.optimizer](
            network, learning_rate=self.learning_rate_init, weight_decay=self.weight_decay
        )
        factor = SCHEDULES[self.schedule]()
        scheduler = LambdaLR(optimizer, lambda step: factor(min(step, steps - 1), each, steps))
        self.history_: list[dict[str, float]] = []
        scores: list[float] = []
        best_state, since = None, 0
        with seeds.seeded(seed, "training"):
            for epoch in range(self.max_iter):
                order = seeds.example_order(len(examples), seed, epoch)
                if self.encoder is not None and len(order) > 1 and len(order) % batch_size == 1:
                    order = order[:-1]  # another example each time: one alone cannot be normalised over a batch
                network.objective.start_epoch(epoch, self.max_iter, each)
                means = train_epoch(network, optimizer, scheduler, examples, order=order, batch_size=batch_size)
                network.objective.end_epoch(partial(hidden_states, network, cast(Any, examples)))
                self.history_.append(means)
                if self.verbose:
                    print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))
                if validation is None or not self.early_stopping:
                    continue
                right = logits_of(network, validation).argmax(dim=1) == validation.labels
                score = float(np.average(right, weights=validation.weights))
                best = max(scores, default=-np.inf)
                since = 0 if score > best + self.tol else since + 1
                if score > best:
                    best_state = network.prediction_state()
                scores.append(score)
                if since >= self.n_iter_no_change:
                    break
        self.n_iter_ = self.best_iter_ = len(self.history_)
        self.validation_scores_, self.best_validation_score_ = scores or None, max(scores, default=None)
        if best_state is not None:
            self.best_iter_ = 1 + int(np.argmax(scores))
            network.load_prediction_state(best_state)

    def _keep(self, network: Network, examples: Examples, seed: int) -> None:
        """Keeps the network and what it has learned about labels, without what only training remembers by."""
        names = [str(label) for label in self.classes_]
        means = class_means(network, cast(Any, examples)) if len(names) <= MOST_MEANS else None
        self.output_temperature_ = float(network.objective.output_temperature)
        self.label_geometry_ = network.objective.label_geometry(names, class_means=means)
        self.loss_curve_ = [terms["total"] for terms in self.history_]
        self.loss_ = self.loss_curve_[-1]
        self.network_ = network
        if isinstance(network.objective, (Retrospection, Distillation)):
            self.network_ = self._network(examples, seed, 0)
            self.network_.load_prediction_state(network.prediction_state())
        self.network_.eval()

    def __getstate__(self) -> Any:
        """Returns the state to pickle, its tensors on the CPU, so that it opens where there is no other device."""
        if hasattr(self, "network_"):
            self.network_.to("cpu")
        return super().__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 1
