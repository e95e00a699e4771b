"""What every classifier for scikit-learn is: training, prediction and the checks of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from labelembed import seeds
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import build_objective
from labelembed.integrations.sklearn import fitting
from labelembed.integrations.sklearn.matrix_rows import MatrixRows, rows_of
from labelembed.integrations.sklearn.parts import geometry_of_classes, new_encoder, taught, width_of
from labelembed.objectives import OBJECTIVES, Distillation, Retrospection
from labelembed.recipes.signature import takes
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS
from labelembed.training.schedules import SCHEDULES

# Objectives that learn of each row by its place in the whole training set, which a part of the data does not have.
OF_WHOLE_SETS = ("retrospection", "distillation")


def _learns_in_parts(estimator: NeuralClassifier) -> bool:
    return estimator._objective_and_arguments()[0] not in OF_WHOLE_SETS


@dataclass(eq=False, repr=False, kw_only=True)
class NeuralClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What the classifiers of this room have in common; see `ObjectiveClassifier`."""

    hidden_layer_sizes: tuple[int, ...] = (100,)
    encoder: nn.Module | Callable[[int], nn.Module] | None = None
    dropout: float = 0.0
    optimizer: str = "adam"
    learning_rate_init: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    batch_size: int | str = "auto"
    max_iter: int = 100
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    random_state: int | np.random.RandomState | None = None
    device: str = "cpu"
    verbose: bool = False

    def _objective_and_arguments(self) -> tuple[str, dict[str, Any]]:
        """Returns the name of the objective, and its hyper-parameters."""
        raise TypeError(f"{type(self).__name__} has no objective; take ObjectiveClassifier")

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's own names
        """Trains anew.

        Args:
            X: Rows [N, F], an array or a sparse matrix; with an `encoder` of one's own also arrays [N, ...].
            y: Labels [N] of any type that can be sorted.
        """
        self._require_arguments()
        inputs, y = self._validated(X, y, reset=True)
        encoded = LabelEncoder().fit(y)
        self.classes_ = encoded.classes_
        numbers = encoded.transform(y)
        seed = self._seed()
        held_out = None
        if self.early_stopping:
            inputs, held_out_inputs, numbers, held_out_numbers = train_test_split(
                inputs, numbers, test_size=self.validation_fraction, stratify=numbers, random_state=seed % 2**32
            )
            held_out = rows_of(held_out_inputs, held_out_numbers)
        rows = rows_of(inputs, numbers)
        logits = self._teacher_logits(inputs, numbers, seed)
        network = self._network(inputs, len(rows), seed, teacher_logits=logits)
        self._train(network, rows, held_out, seed)
        self._keep(network, rows, seed, class_means=fitting.means_of_labels(network, rows))
        return self

    @available_if(_learns_in_parts)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Makes one pass over some rows, in batches, and keeps what was learned before.

        Args:
            X: Rows, see `fit`.
            y: Their labels.
            classes: All labels there will ever be; must be given with the first call.

        Raises:
            ValueError: `classes` is missing, or a label is not among them.
        """
        self._require_arguments()
        first = not hasattr(self, "network_")
        inputs, y = self._validated(X, y, reset=first)
        if first:
            if classes is None:
                raise ValueError("`classes` must be given with the first call of partial_fit: all labels there will be")
            self.classes_ = np.unique(classes)
            self._begin_history()
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"`classes` must be those of the first call, {list(self.classes_)}, got {list(classes)}")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"`y` must hold labels of `classes`, {list(self.classes_)}, got {list(unknown)}")
        rows = rows_of(inputs, np.searchsorted(self.classes_, y))
        if first:
            self._part_seed = self._seed()
            self.network_ = self._network(inputs, 0, self._part_seed)
        network = self.network_.to(self.device)
        if not hasattr(self, "_optimizer"):  # the first part, or the first after a fit
            self._part_seed = self._seed()
            self._optimizer = self._make_optimizer(network)
        with seeds.seeded(self._part_seed, "training", self.n_iter_):
            self._pass(network, self._optimizer, None, rows, epoch=self.n_iter_, epochs=self.n_iter_ + 1)
        # The labels' means over a part of the rows would stand for the part only.
        self._describe(network, class_means=None)
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Returns the most probable label of each row [N]."""
        logits = self._logits(X)  # first, for it checks that there is something to predict by
        return self.classes_[logits.argmax(dim=1).numpy()]

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the predicted distributions [N, C], float32, in the order of `classes_`."""
        return self._logits(X).softmax(dim=1).numpy()

    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the logarithms of `predict_proba`."""
        return self._logits(X).log_softmax(dim=1).numpy()

    def _logits(self, inputs: Any) -> torch.Tensor:
        check_is_fitted(self, "network_")
        inputs, _ = self._validated(inputs, None, reset=False)
        return fitting.logits_of(self.network_.to(self.device), rows_of(inputs, None))

    def _validated(self, inputs: Any, labels: Any, *, reset: bool) -> tuple[Any, Any]:
        how = {"accept_sparse": "csr", "dtype": np.float32, "allow_nd": self.encoder is not None, "reset": reset}
        if labels is None and not reset:
            return validate_data(self, inputs, **how), None
        inputs, labels = validate_data(self, inputs, labels, **how)
        check_classification_targets(labels)
        return inputs, labels

    def _require_arguments(self) -> None:
        faults = ArgumentFaults()
        faults.choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        faults.choice("schedule", self.schedule, tuple(SCHEDULES))
        rule = "must be 'auto' or a whole number >= 1"
        faults.require(self.batch_size == "auto" or _is_whole(self.batch_size), "batch_size", self.batch_size, rule)
        for name in ("max_iter", "n_iter_no_change"):
            value = getattr(self, name)
            faults.require(_is_whole(value), name, value, "must be a whole number >= 1")
        share = self.validation_fraction
        faults.require(0 < share < 1, "validation_fraction", share, "must be between 0 and 1")
        faults.require(self.tol >= 0, "tol", self.tol, "must be >= 0")
        known = self.encoder is None or callable(self.encoder)
        faults.require(known, "encoder", self.encoder, "must be a torch module, a function that makes one, or None")
        faults.raise_if_any()

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _network(self, inputs: Any, num_examples: int, seed: int, *, teacher_logits: Any = None) -> Network:
        """Returns the network as training begins with it; `num_examples` 0: it remembers no rows."""
        with seeds.seeded(seed, "encoder"):
            encoder = new_encoder(
                self.encoder, inputs.shape[1:], hidden_sizes=self.hidden_layer_sizes, dropout=self.dropout
            )
        width = width_of(encoder, inputs.shape[1:])
        name, arguments = self._objective_and_arguments()
        arguments = {key: value for key, value in arguments.items() if key != "teacher"}
        if isinstance(arguments.get("embedding"), LabelGeometry):
            arguments["embedding"] = geometry_of_classes(arguments["embedding"], self.classes_)
        supplied: dict[str, Any] = {"output_std": getattr(encoder, "output_std", None), "ignore_index": None}
        if takes(OBJECTIVES[name], "num_examples"):
            supplied["num_examples"] = num_examples
        if takes(OBJECTIVES[name], "teacher_logits"):
            supplied["teacher_logits"] = teacher_logits
        with seeds.seeded(seed, "objective"):
            objective = build_objective(name, arguments, hidden_size=width, num_labels=len(self.classes_), **supplied)
        return Network(nn.Identity(), encoder, objective).to(self.device)

    def _teacher_logits(self, inputs: Any, numbers: Any, seed: int) -> torch.Tensor | None:
        """Returns what the teacher, fitted on the same rows, says of each [N, C]; None where there is no teacher."""
        name, arguments = self._objective_and_arguments()
        if name != "distillation":
            return None
        teacher = arguments.get("teacher")
        if teacher is None:
            from labelembed.integrations.sklearn.objective_classifier import ObjectiveClassifier  # built on this class

            same = {setting.name: getattr(self, setting.name) for setting in fields(NeuralClassifier)}
            teacher = ObjectiveClassifier("one_hot", **(same | {"early_stopping": False, "random_state": seed}))
        self.teacher_, logits = taught(teacher, inputs, self.classes_[numbers], self.classes_)
        return logits

    def _make_optimizer(self, network: Network) -> torch.optim.Optimizer:
        make = OPTIMIZERS[self.optimizer]
        return make(network, learning_rate=self.learning_rate_init, weight_decay=self.weight_decay)

    def _batch_size(self, rows: MatrixRows) -> int:
        return min(200, len(rows)) if self.batch_size == "auto" else int(self.batch_size)

    def _begin_history(self) -> None:
        self.n_iter_ = 0
        self.history_: list[dict[str, float]] = []
        self.validation_scores_: list[float] | None = None

    def _pass(
        self, network: Network, optimizer: Any, scheduler: LambdaLR | None, rows: MatrixRows, *, epoch: int, epochs: int
    ) -> None:
        """Makes one epoch and adds its line to the history."""
        seed = self._part_seed
        order, batch_size = seeds.row_order(len(rows), seed, epoch), self._batch_size(rows)
        if self.encoder is not None and len(order) > 1 and len(order) % batch_size == 1:
            order = order[:-1]  # another row each time: one row alone cannot be normalised over a batch
        network.objective.start_epoch(epoch, epochs, fitting.number_of_batches(rows, batch_size))
        terms = fitting.train_epoch(network, optimizer, scheduler, rows, order=order, batch_size=batch_size)
        fitting.end_epoch(network, rows)
        self.history_.append(terms)
        self.n_iter_ = epoch + 1
        if self.verbose:
            print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4f}" for name, value in terms.items()))

    def _train(self, network: Network, rows: MatrixRows, held_out: MatrixRows | None, seed: int) -> None:
        each = fitting.number_of_batches(rows, self._batch_size(rows))
        steps = each * self.max_iter
        optimizer = self._make_optimizer(network)
        factor = SCHEDULES[self.schedule]()
        scheduler = LambdaLR(optimizer, lambda step: factor(min(step, steps - 1), each, steps))
        self._part_seed = seed
        self._begin_history()
        best, best_epoch, best_state, since = -np.inf, 0, None, 0
        with seeds.seeded(seed, "training"):
            for epoch in range(self.max_iter):
                self._pass(network, optimizer, scheduler, rows, epoch=epoch, epochs=self.max_iter)
                if held_out is None:
                    continue
                predicted = fitting.logits_of(network, held_out).argmax(dim=1)
                score = float((predicted == held_out.labels).float().mean())
                self.validation_scores_ = [*(self.validation_scores_ or []), score]
                since = 0 if score > best + self.tol else since + 1
                if score > best:
                    best, best_epoch, best_state = score, epoch + 1, network.prediction_state()
                if since >= self.n_iter_no_change:
                    break
        self.best_validation_score_ = best if best_state is not None else None
        self.best_iter_ = best_epoch if best_state is not None else self.n_iter_
        if best_state is not None:
            network.load_prediction_state(best_state)

    def _keep(self, network: Network, rows: MatrixRows, seed: int, *, class_means: torch.Tensor | None) -> None:
        """Keeps the network and what it has learned about labels, without what only training remembers by."""
        self.__dict__.pop("_optimizer", None)
        self._describe(network, class_means=class_means)
        self.network_ = network
        if isinstance(network.objective, (Retrospection, Distillation)):
            sample = next(iter(rows.batches(1))).inputs
            kept = self._network(sample, 0, seed)
            kept.load_prediction_state(network.prediction_state())
            self.network_ = kept
        self.network_.eval()

    def _describe(self, network: Network, *, class_means: torch.Tensor | None) -> None:
        names = [str(label) for label in self.classes_]
        self.label_geometry_ = network.objective.label_geometry(names, class_means=class_means)
        self.loss_curve_ = [terms["total"] for terms in self.history_]
        self.loss_ = self.loss_curve_[-1]

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
