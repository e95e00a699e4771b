"""`ObjectiveClassifier` beside scikit-learn's `MLPClassifier` on the digits, one thread: time and test error."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

from benchmarks.timing import print_ratios, threads

OBJECTIVES = ("one_hot", "label_smoothing", "online_label_smoothing", "label_embedding")


@threads(1)
def run() -> None:
    """Prints ratios of times over five stratified splits, the models in turn, and the test errors."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    from labelembed.integrations.sklearn import ObjectiveClassifier

    inputs, labels = load_digits(return_X_y=True)
    times: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    print(" the digits, 60 epochs of batches of 200, one hidden layer of 100")
    for seed in range(6):
        same = {"hidden_layer_sizes": (100,), "batch_size": 200, "max_iter": 60, "random_state": seed}
        models: dict[str, Any] = {"MLPClassifier": MLPClassifier(n_iter_no_change=1_000, **same)}
        models |= {name: ObjectiveClassifier(name, **same) for name in OBJECTIVES}
        split = train_test_split(inputs / 16, labels, stratify=labels, random_state=seed)
        train_x, test_x, train_y, test_y = split
        for name, model in models.items():
            with warnings.catch_warnings(action="ignore"):  # of MLPClassifier, that it has not converged
                began = time.perf_counter()
                model.fit(train_x, train_y)
            if seed:  # the first warms up
                times.setdefault(name, []).append(time.perf_counter() - began)
                errors.setdefault(name, []).append(100 * (1 - model.score(test_x, test_y)))
    print_ratios(times, baseline="MLPClassifier", goals=dict.fromkeys(OBJECTIVES, 1.5))
    for name, values in errors.items():
        print(f"  {name:<34} test error {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %")
