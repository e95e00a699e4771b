"""A scikit-learn classifier with any objective, for pipelines, grid searches and cross-validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from labelembed import seeds
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.metrics.calibration import FEWEST_CALIBRATION_EXAMPLES, fit_temperature
from labelembed.objectives import OBJECTIVES, Distillation, Objective, Retrospection

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, clone
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter, validate_data
except ImportError as error:
    message = "labelembed.integrations.sklearn needs scikit-learn 1.6 or newer: pip install 'labelembed[sklearn]'"
    raise ImportError(message) from error

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": partial(SGD, momentum=0.9)}


class Examples:
    """Inputs [N, ...], an array or a CSR matrix, with labels [N] and weights [N] or None, as tensors on a device."""

    def __init__(self, inputs: Any, labels: Any = None, weights: Any = None, *, device: str) -> None:
        labels = np.zeros(inputs.shape[0], dtype=np.int64) if labels is None else labels
        self.inputs = inputs if hasattr(inputs, "toarray") else torch.as_tensor(inputs, device=device)
        self.labels = torch.as_tensor(labels, device=device)
        self.weights = None if weights is None else torch.as_tensor(weights, device=device)

    def batches(self, rows: Tensor, batch_size: int = 1_000) -> Iterator[tuple[Any, ...]]:
        """Yields dense inputs, labels, indices and weights of some rows [n], a batch at a time."""
        for some in torch.split(rows.to(self.labels.device), batch_size):
            if isinstance(inputs := self.inputs, Tensor):
                inputs = inputs.index_select(0, some)
            else:
                inputs = torch.from_numpy(inputs[some.numpy(force=True)].toarray()).to(some.device)
            yield inputs, self.labels.index_select(0, some), some, None if self.weights is None else self.weights[some]


class Network(nn.Module):
    """Encoder and objective: inputs [N, ...] in, logits [N, C] out."""

    def __init__(self, encoder: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = objective

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the logits [N, C], not divided by a temperature."""
        return self.objective.logits(self.encoder(inputs))

    @torch.no_grad()
    def logits(self, examples: Examples, rows: Tensor) -> Tensor:
        """Returns the logits [n, C] of some rows in evaluation mode, float32 on the CPU."""
        self.eval()
        return torch.cat([self(inputs) for inputs, *_ in examples.batches(rows)]).float().cpu()

    @torch.no_grad()
    def hidden_states(self, examples: Examples, rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yields hidden states [n, H], labels, indices and weights, where there are any, in evaluation mode."""
        self.eval()
        for inputs, labels, indices, weights in examples.batches(rows):
            yield (self.encoder(inputs), labels, indices, *([] if weights is None else [weights]))

    @torch.no_grad()
    def label_geometry(self, examples: Examples, rows: Tensor, names: list[str]) -> LabelGeometry:
        """Returns what the objective learned about the labels; where that is nothing the class means of its outputs."""
        objective = self.objective
        if objective.learns_labels or len(names) > 4_000:  # the distances between so many means take too much memory
            return objective.label_geometry(names)
        sums = torch.zeros(len(names), objective.output_size + 1, dtype=torch.float64, device=examples.labels.device)
        for hidden, labels, _, *weight in self.hidden_states(examples, rows):
            counted = nn.functional.pad(objective.output(hidden).double(), (0, 1), value=1.0)
            sums.index_add_(0, labels, counted * weight[0][:, None] if weight else counted)
        means = (sums[:, :-1] / sums[:, -1:].clamp_min(1e-30)).float().cpu()
        return LabelGeometry(tuple(names), vectors=means, source=f"{type(objective).__name__}, class means")


@dataclass(eq=False, repr=False, kw_only=True)
class ObjectiveClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier with any objective: a multilayer perceptron, or an encoder of your own.

    It is trained for `max_iter` epochs, or with `early_stopping` until the accuracy on the validation set stops rising.
    Inputs are converted to float32 and not scaled: put a StandardScaler before it.

    Args:
        objective: Its name, a key of `labelembed.OBJECTIVES`: `one_hot`, `label_smoothing`, `label_embedding`, ...
        objective_arguments: Its hyper-parameters by name; None: its defaults. In a `LabelGeometry` each class is found
            by its name, `str(label)`. `distillation` takes a `teacher`, any classifier with `predict_proba`, of which a
            clone is fitted on the training examples (put a fitted one into FrozenEstimator); None: this classifier with
            `one_hot`.
        hidden_layer_sizes: Widths of the perceptron's hidden layers, with ReLU.
        encoder: In place of the perceptron a torch module from inputs [N, ...] float32 to hidden states [N, H], copied
            before it is trained; or a function that makes one from the number of features.
        dropout: Of the perceptron's hidden units, in [0, 1).
        optimizer: `adam`, `adamw` or `sgd` (with momentum 0.9).
        learning_rate_init: Learning rate at the start.
        weight_decay: As in the optimiser; label embeddings are not decayed.
        schedule: Of the learning rate: `constant`, or `cosine` to 0 over `max_iter` epochs.
        batch_size: Examples a step; `auto`: min(200, N).
        max_iter: Epochs, at most.
        class_weight: Weight of each class in every loss by its label, or `balanced`; None: 1 each.
        early_stopping: Stop after `n_iter_no_change` epochs without a gain of more than `tol` in accuracy on the
            validation set; keep the weights of the best epoch.
        calibrate: Fit one temperature on the validation set, by which `predict_proba` divides the logits. The predicted
            labels stay the same.
        validation_fraction: Fraction of the examples held out, stratified, for `early_stopping` and `calibrate`; for
            `calibrate` alone only where that is at least 50 examples and one of each class, else the temperature is 1.
        n_iter_no_change, tol: See `early_stopping`.
        random_state: Seed of initial weights, order of examples, dropout and hold-out.
        device: `cpu`, `cuda`, ...
        verbose: Print the terms of each epoch.

    Attributes:
        classes_: The labels [C], sorted.
        label_geometry_: What was learned about the labels, a `LabelGeometry` with the names `str(label)`.
        output_temperature_: What the logits are divided by; 1 where none was fitted.
        history_: For each epoch the mean of each term; `loss_curve_` the total's.
        n_iter_: Epochs trained; `best_iter_` the one whose weights are kept.
        validation_scores_: Accuracy on the validation set after each epoch, `best_validation_score_` the best; None
            without `early_stopping`.
        network_: The trained module, with `encoder` and `objective`; `teacher_` the fitted teacher of `distillation`.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> ObjectiveClassifier("label_embedding", max_iter=5).fit(X, y).predict_proba(X).shape
        (150, 3)
    """

    objective: str = field(default="one_hot", kw_only=False)
    objective_arguments: Mapping[str, Any] | None = None
    hidden_layer_sizes: int | Sequence[int] = (100,)
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
    calibrate: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    random_state: int | np.random.RandomState | None = None
    device: str = "cpu"
    verbose: bool = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's own names
        """Trains from the start on inputs [N, F], an array or a sparse matrix, and labels [N] of any type.

        With an `encoder` of your own inputs may also be arrays [N, ...]. `sample_weight` [N] weights every loss.
        """
        arguments = self._checked_arguments()
        inputs, y = self._validated(X, y=y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if self.class_weight is not None:
            if arguments.get("weight") is not None:
                raise ValueError("`class_weight` and the objective's `weight` are the same: give one of them")
            arguments["weight"] = compute_class_weight(self.class_weight, classes=self.classes_, y=y).tolist()
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, inputs, dtype=np.float32, ensure_non_negative=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        examples = Examples(inputs, labels, sample_weight, device=self.device)
        rows, validation = self._split(labels, seed)
        with seeds.seeded(seed, "encoder"):
            encoder, width = self._new_encoder(inputs.shape[1:])
        made: dict[str, Any] = {"num_examples": len(labels)} if self.objective == "retrospection" else {}
        if self.objective == "distillation":
            made["teacher_logits"] = self._teacher_logits(inputs, y, sample_weight, rows.numpy())
        with seeds.seeded(seed, "objective"):
            objective = self._new_objective(width, arguments, **made)
        network = Network(encoder, objective).to(self.device)
        self._train(network, examples, rows, validation, seed)
        self.output_temperature_ = 1.0
        if self.calibrate and validation is not None:
            counted = validation if sample_weight is None else validation[sample_weight[validation] > 0]
            if len(counted) >= FEWEST_CALIBRATION_EXAMPLES:
                self.output_temperature_ = fit_temperature(network.logits(examples, counted), labels[counted])
        self.label_geometry_ = network.label_geometry(examples, rows, [str(label) for label in self.classes_])
        # Prediction does not need what these remember of each example.
        if isinstance(objective, Retrospection):
            objective.num_examples, objective.stored, objective.gathered = 0, objective.stored[:0].clone(), None
        if isinstance(objective, Distillation):
            objective.teacher_logits = None
        objective.output_temperature.fill_(self.output_temperature_)
        self.network_ = network.eval()
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Returns the most probable label of each input [N]."""
        logits = self._scaled_logits(X)  # first, for it checks that there is something to predict with
        return self.classes_[logits.argmax(dim=1).numpy()]

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the probabilities [N, C] at the fitted temperature, float32, in the order of `classes_`."""
        return self._scaled_logits(X).softmax(dim=1).numpy()

    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """Returns the logarithms of `predict_proba`."""
        return self._scaled_logits(X).log_softmax(dim=1).numpy()

    def _scaled_logits(self, X: Any) -> Tensor:  # noqa: N803
        check_is_fitted(self, "network_")
        inputs = self._validated(X, reset=False)
        examples = Examples(inputs, device=self.device)
        return self.network_.to(self.device).logits(examples, torch.arange(inputs.shape[0])) / self.output_temperature_

    def _validated(self, X: Any, **more: Any) -> Any:  # noqa: N803
        accepted = {"accept_sparse": "csr", "dtype": np.float32, "order": "C", "allow_nd": self.encoder is not None}
        return validate_data(self, X, **accepted, **more)

    def _checked_arguments(self) -> dict[str, Any]:
        """Returns the objective's arguments; raises ValueError with all that is wrong with them and the settings."""
        rate, decay, fraction = self.learning_rate_init, self.weight_decay, self.validation_fraction
        errors = ArgumentErrors()
        is_module = self.encoder is None or callable(self.encoder)
        errors.require(is_module, "encoder", self.encoder, "must be a torch module, a function or None")
        errors.require(rate > 0, "learning_rate_init", rate, "must be > 0")
        errors.require(decay >= 0, "weight_decay", decay, "must be >= 0")
        errors.require(0 < fraction < 1, "validation_fraction", fraction, "must be between 0 and 1")
        for width in np.atleast_1d(self.hidden_layer_sizes):
            errors.whole("hidden_layer_sizes", width, least=1)
        errors.whole("batch_size", 1 if self.batch_size == "auto" else self.batch_size, least=1)
        errors.whole("max_iter", self.max_iter, least=1)
        errors.whole("n_iter_no_change", self.n_iter_no_change, least=1)
        errors.choice("optimizer", self.optimizer, tuple(OPTIMIZERS))
        errors.choice("schedule", self.schedule, ("constant", "cosine"))
        errors.choice("objective", self.objective, tuple(OBJECTIVES))
        errors.raise_if_any()
        own = "teacher" if self.objective == "distillation" else None
        given = {name: value for name, value in (self.objective_arguments or {}).items() if name != own}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}

    def _split(self, labels: Any, seed: int) -> tuple[Tensor, Tensor | None]:
        """Returns the rows to train on and those of the validation set; None where it is not needed or too small."""
        rows, of_class, fraction = np.arange(len(labels)), np.bincount(labels), self.validation_fraction
        smaller = len(rows) * min(fraction, 1 - fraction)
        enough = smaller >= max(FEWEST_CALIBRATION_EXAMPLES, len(of_class)) and of_class.min() >= 2
        if not self.early_stopping and not (self.calibrate and enough):
            return torch.from_numpy(rows), None
        train, validation = train_test_split(rows, test_size=fraction, stratify=labels, random_state=seed)
        return torch.from_numpy(train), torch.from_numpy(validation)

    def _new_encoder(self, shape: Sequence[int]) -> tuple[nn.Module, int]:
        """Returns the encoder to train, and H: a copy of the given one, or what it makes, or a perceptron."""
        if isinstance(self.encoder, nn.Module):
            encoder = copy.deepcopy(self.encoder)  # a fit does not change what it was given
        elif self.encoder is not None:
            encoder = self.encoder(shape[0])
        else:
            layers: list[nn.Module] = []
            for width_in, width_out in pairwise([shape[0], *np.atleast_1d(self.hidden_layer_sizes).tolist()]):
                linear = nn.Linear(width_in, width_out)
                nn.init.xavier_uniform_(linear.weight)
                layers += [linear, nn.ReLU(inplace=True), *([nn.Dropout(self.dropout)] if self.dropout else [])]
            encoder = nn.Sequential(*layers)
        with torch.no_grad():
            hidden = encoder.to(self.device).eval()(torch.zeros(1, *shape, device=self.device))
        if hidden.ndim != 2:
            raise ValueError(f"`encoder` must make [N, H] of inputs [N, ...], got {list(hidden.shape)} of one input")
        return encoder, hidden.shape[1]

    def _new_objective(self, width: int, arguments: Mapping[str, Any], **made: Any) -> Objective:
        given = dict(arguments)
        if isinstance(given.get("embedding"), LabelGeometry):
            given["embedding"] = given["embedding"].select([str(label) for label in self.classes_])
        objective = OBJECTIVES[self.objective](width, len(self.classes_), ignore_index=None, **given, **made)
        nn.init.xavier_uniform_(objective.output.weight)  # as the layers of the perceptron, and of MLPClassifier
        return objective

    def _teacher_logits(self, inputs: Any, y: Any, weights: Any, rows: Any) -> Tensor:
        """Fits a clone of the teacher to some rows and returns its logits [N, C] of all."""
        teacher = (self.objective_arguments or {}).get("teacher")
        if teacher is None:
            plain = {"objective": "one_hot", "objective_arguments": None, "early_stopping": False, "calibrate": False}
            teacher = clone(self).set_params(**plain)
        weighted = weights is not None and has_fit_parameter(teacher, "sample_weight")
        settings = {"sample_weight": weights[rows]} if weighted else {}
        self.teacher_ = clone(teacher).fit(inputs[rows], y[rows], **settings)
        known = self.teacher_.classes_
        if not np.array_equal(known, self.classes_):
            raise ValueError(f"`teacher` must know the labels {list(self.classes_)}, got {list(known)}")
        probabilities = np.asarray(self.teacher_.predict_proba(inputs), dtype=np.float64)
        return torch.from_numpy(np.log(probabilities.clip(1e-12))).float()  # finite where it is certain

    def _train(self, network: Network, examples: Examples, rows: Tensor, validation: Tensor | None, seed: int) -> None:
        """Trains for `max_iter` epochs, or until `early_stopping` ends it; then the best epoch's weights are kept."""
        optimizer = self._optimizer(network)
        self.history_: list[dict[str, float]] = []
        scores: list[float] = []
        best_state, without_gain = None, 0
        with seeds.seeded(seed, "training"):
            for epoch in range(self.max_iter):
                order = rows[seeds.example_order(len(rows), seed, epoch)]
                self.history_.append(self._train_epoch(network, optimizer, examples, order, epoch))
                network.objective.end_epoch(partial(network.hidden_states, examples, rows))
                if self.verbose:
                    print(f"epoch {epoch + 1}: {self.history_[-1]}")
                if validation is None or not self.early_stopping:
                    continue
                correct = network.logits(examples, validation).argmax(dim=1) == examples.labels[validation].cpu()
                weights = None if examples.weights is None else examples.weights[validation].cpu()
                score, best = float(np.average(correct, weights=weights)), max(scores, default=-math.inf)
                scores.append(score)
                if score > best:
                    best_state = copy.deepcopy(network.state_dict())
                without_gain = 0 if score > best + self.tol else without_gain + 1
                if without_gain >= self.n_iter_no_change:
                    break
        self.n_iter_ = self.best_iter_ = len(self.history_)
        self.loss_curve_ = [terms["total"] for terms in self.history_]
        self.validation_scores_, self.best_validation_score_ = scores or None, max(scores, default=None)
        if best_state is not None:
            self.best_iter_ = 1 + int(np.argmax(scores))
            network.load_state_dict(best_state)

    def _train_epoch(
        self, network: Network, optimizer: Optimizer, examples: Examples, order: Tensor, epoch: int
    ) -> dict[str, float]:
        """Trains on every row once, in the order [n], and returns the mean of each term."""
        batch_size = min(200, len(order)) if self.batch_size == "auto" else int(self.batch_size)
        if self.encoder is not None and len(order) > 1 and len(order) % batch_size == 1:
            order = order[:-1]  # batch normalisation needs two examples; another one is left out in each epoch
        steps = -(-len(order) // batch_size)
        network.train()
        network.objective.start_epoch(epoch, self.max_iter, steps)
        sizes, values = [], []
        for step, (inputs, labels, indices, weights) in enumerate(examples.batches(order, batch_size)):
            if self.schedule == "cosine":
                factor = 0.5 + 0.5 * math.cos(math.pi * (epoch + step / steps) / self.max_iter)
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
            terms = network.objective(network.encoder(inputs), labels, indices, sample_weight=weights)
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
            sizes.append(len(labels))
            values.append(torch.stack(tuple(terms)).detach())
        # Read once an epoch: on a GPU each reading is a synchronisation.
        means = (torch.tensor(sizes).double() @ torch.stack(values).double().cpu() / sum(sizes)).tolist()
        named = dict(zip(terms._fields, means, strict=True))
        if not all(map(math.isfinite, means)):
            way_out = "scale the inputs (StandardScaler) or lower `learning_rate_init`"
            raise ValueError(f"the loss is not finite in epoch {epoch + 1} ({named}): {way_out}")
        return named

    def _optimizer(self, network: Network) -> Optimizer:
        merged: dict[tuple[float, float], list[nn.Parameter]] = {}  # fewer groups make faster steps
        of_encoder = {"params": list(network.encoder.parameters()), "weight_decay": self.weight_decay}
        for group in (of_encoder, *network.objective.parameter_groups(self.weight_decay)):
            rate = self.learning_rate_init * group.get("learning_rate_factor", 1.0)
            merged.setdefault((rate, group["weight_decay"]), []).extend(group["params"])
        groups = [{"params": some, "lr": rate, "weight_decay": decay} for (rate, decay), some in merged.items()]
        fused = torch.device(self.device).type in ("cpu", "cuda") or None
        return OPTIMIZERS[self.optimizer](groups, fused=fused)

    def __getstate__(self) -> Any:
        if hasattr(self, "network_"):
            self.network_.to("cpu")  # so that a pickle opens where there is no other device
        return super().__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
