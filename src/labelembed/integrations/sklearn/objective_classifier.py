"""A classifier of scikit-learn with any objective by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labelembed.integrations.objective_building import checked_arguments
from labelembed.integrations.sklearn.estimator import NeuralClassifier


@dataclass(eq=False, repr=False, kw_only=True)
class ObjectiveClassifier(NeuralClassifier):
    """A classifier of scikit-learn with any objective: a multilayer perceptron, or an encoder of one's own.

    It is trained for `max_iter` epochs, or with `early_stopping` until the accuracy on rows held out rises no more.
    Inputs are float32 and are not scaled: put a StandardScaler before it. No global random state is touched (but
    NumPy's, by scikit-learn's own rule, where `random_state` is None).

    Args:
        objective: Its name: `one_hot`, `label_smoothing`, `label_embedding`, ... (`labelembed objectives`).
        objective_arguments: Its hyper-parameters by name; None: its defaults.
        hidden_layer_sizes: Widths of the perceptron's hidden layers.
        encoder: In the place of the perceptron a torch module that makes hidden rows [N, H] of inputs [N, ...]
            float32, copied before it is trained; or a function that makes one from the number of features.
        dropout: Of the perceptron's hidden units.
        optimizer: `adam`, `adamw` or `sgd`; label embeddings are not decayed.
        learning_rate_init: Step size before the schedule's factor.
        weight_decay: As the optimiser means it.
        schedule: Of the learning rate: `constant`, `cosine`, `linear`, ...
        batch_size: Rows a step; `auto`: min(200, N).
        max_iter: Epochs, at most.
        early_stopping: Hold out `validation_fraction` of the rows, stratified; stop after `n_iter_no_change` epochs
            without a gain of more than `tol` in accuracy on them; keep the weights of the best epoch.
        validation_fraction: See `early_stopping`.
        n_iter_no_change: See `early_stopping`.
        tol: See `early_stopping`.
        random_state: Seed of start, order of rows, dropout and hold-out; the same number gives the same classifier.
        device: `cpu`, `cuda`, ...
        verbose: Print the terms of each epoch.

    Attributes:
        classes_: The labels [C], sorted.
        label_geometry_: `LabelGeometry` of the labels, by `str(label)`: what was learned about them.
        history_: For each epoch the mean of each term; `loss_curve_` the total's, `loss_` the last.
        n_iter_: Epochs trained; `best_iter_` the one whose weights are kept.
        validation_scores_: Accuracy on the rows held out, for each epoch; `best_validation_score_` the best; None
            without `early_stopping`.
        network_: The trained module: `encoder` and `objective`.
        n_features_in_: Features of a row.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> smoothed = ObjectiveClassifier("label_smoothing", objective_arguments={"smoothing": 0.3}, random_state=0)
        >>> smoothed.fit(X, y).predict_proba(X).shape
        (150, 3)
    """

    objective: str = field(default="one_hot", kw_only=False)
    objective_arguments: Mapping[str, Any] | None = None

    def _objective_and_arguments(self) -> tuple[str, dict[str, Any]]:
        return self.objective, checked_arguments(self.objective, self.objective_arguments)
