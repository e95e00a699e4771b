"""A classifier of scikit-learn with any objective, and one whose hyper-parameters are among the estimator's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from sklearn.base import clone

from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_arguments import checked_arguments
from labelembed.integrations.sklearn.estimator import NeuralClassifier


@dataclass(eq=False, repr=False, kw_only=True)
class ObjectiveClassifier(NeuralClassifier):
    """A classifier of scikit-learn with any objective: a multilayer perceptron, or an encoder of one's own.

    It is trained for `max_iter` epochs, or with `early_stopping` until the accuracy on the validation set rises no
    more. Inputs are float32 and are not scaled: put a StandardScaler before it. No global random state is touched (but
    NumPy's, by scikit-learn's own rule, where `random_state` is None).

    Args:
        objective: Its name: `one_hot`, `label_smoothing`, `label_embedding`, ... (`labelembed objectives`).
        objective_arguments: Its hyper-parameters by name; None: its defaults. `distillation` takes a `teacher`, any
            classifier with `predict_proba`, of which a clone is fitted on the training examples (one that is fitted
            already goes into scikit-learn's FrozenEstimator); None: this classifier with `one_hot`.
        hidden_layer_sizes: Widths of the perceptron's hidden layers.
        encoder: In the place of the perceptron a torch module that makes hidden states [N, H] of inputs [N, ...]
            float32, copied before it is trained; or a function that makes one from the number of features.
        dropout: Of the perceptron's hidden units.
        optimizer: `adam`, `adamw` or `sgd`; label embeddings are not decayed.
        learning_rate_init: Step size before the schedule's factor.
        weight_decay: As the optimiser means it.
        schedule: Of the learning rate: `constant`, `cosine`, `linear`, ...
        batch_size: Examples a step; `auto`: min(200, N).
        max_iter: Epochs, at most.
        class_weight: Weight of each class in every loss by its label, or `balanced`; None: 1 each.
        early_stopping: Stop after `n_iter_no_change` epochs without a gain of more than `tol` in accuracy on the
            validation set; keep the weights of the best epoch.
        calibrate: Fit one temperature on the validation set, by which `predict_proba` divides the logits: objectives
            with soft targets leave a network under-confident. The labels that it predicts stay the same.
        validation_fraction: Share of the examples that is held out, stratified, for `early_stopping` and `calibrate`.
            For `calibrate` alone nothing is held out, and the temperature is 1, where that would be less than 50
            examples or one of each class.
        n_iter_no_change: See `early_stopping`.
        tol: See `early_stopping`.
        random_state: Seed of start, order of examples, dropout and hold-out; the same number gives the same classifier.
        device: `cpu`, `cuda`, ...
        verbose: Print the terms of each epoch.

    Attributes:
        classes_: The labels [C], sorted.
        label_geometry_: `LabelGeometry` of the labels, by `str(label)`: what was learned about them.
        output_temperature_: What the logits are divided by; 1 where none was fitted.
        history_: For each epoch the mean of each term; `loss_curve_` the total's, `loss_` the last.
        n_iter_: Epochs trained; `best_iter_` the one whose weights are kept.
        validation_scores_: Accuracy on the validation set, for each epoch; `best_validation_score_` the best; None
            without `early_stopping`.
        network_: The trained module: `encoder` and `objective`.
        n_features_in_: Features of an input.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> smoothed = ObjectiveClassifier("label_smoothing", objective_arguments={"smoothing": 0.3}, random_state=0)
        >>> smoothed.fit(X, y).predict_proba(X).shape
        (150, 3)
    """

    objective: str = field(default="one_hot", kw_only=False)
    objective_arguments: Mapping[str, Any] | None = None

    def _objective(self) -> tuple[str, dict[str, Any]]:
        arguments = checked_arguments(self.objective, self.objective_arguments)
        if self.objective == "distillation" and arguments.get("teacher") is None:
            plain = {"objective": "one_hot", "objective_arguments": None, "early_stopping": False, "calibrate": False}
            arguments["teacher"] = clone(self).set_params(**plain)
        return self.objective, arguments


@dataclass(eq=False, repr=False, kw_only=True)
class LabelEmbeddingClassifier(NeuralClassifier):
    """Label Embedding Network (Sun et al. 2017); see `LabelEmbedding` and `ObjectiveClassifier`.

    `embedding` may be a `LabelGeometry`, in which each class is found by its name, `str(label)`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> X, y = load_digits(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), LabelEmbeddingClassifier(max_iter=5, random_state=0)).fit(X, y)
        >>> len(model[-1].label_geometry_.neighbours("4", k=3))
        3
    """

    embedding: Literal["full", "compressed"] | LabelGeometry = "full"
    rank: int = 100
    auxiliary: Literal["separate", "shared"] = "separate"
    initial_scale: float | Literal["log"] | None = None
    embedding_learning_rate: float = 1.0
    preset: Literal["paper", "published_code", "mixture"] = "paper"
    temperature: float = 2.0
    confidence_limit: float = 0.9
    hinge_reduction: Literal["mean", "sum"] | None = None
    output_weight: float | None = None
    target_weight: float | None = None
    uniform_weight: float | None = None
    target_warmup_steps: int | float = 0

    def _objective(self) -> tuple[str, dict[str, Any]]:
        common = {setting.name for setting in fields(NeuralClassifier)}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in common}
        return "label_embedding", checked_arguments("label_embedding", own)
