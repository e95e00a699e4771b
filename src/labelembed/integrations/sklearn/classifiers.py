"""A classifier of scikit-learn for each objective, its hyper-parameters among the estimator's own.

Each takes its objective's arguments by the same names with the same defaults, and the settings of training that
`ObjectiveClassifier` describes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import checked_arguments
from labelembed.integrations.sklearn.estimator import NeuralClassifier


@dataclass(eq=False, repr=False, kw_only=True)
class NamedClassifier(NeuralClassifier):
    """A classifier of one objective, whose arguments are fields."""

    objective_name: ClassVar[str]

    def _objective_and_arguments(self) -> tuple[str, dict[str, Any]]:
        common = {setting.name for setting in fields(NeuralClassifier)}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in common}
        return self.objective_name, checked_arguments(self.objective_name, own)


@dataclass(eq=False, repr=False, kw_only=True)
class OneHotClassifier(NamedClassifier):
    """Plain cross entropy, the baseline; see `OneHot` and `ObjectiveClassifier`."""

    objective_name = "one_hot"


@dataclass(eq=False, repr=False, kw_only=True)
class LabelSmoothingClassifier(NamedClassifier):
    """Label smoothing; see `LabelSmoothing` and `ObjectiveClassifier`."""

    objective_name = "label_smoothing"
    smoothing: float = 0.1


@dataclass(eq=False, repr=False, kw_only=True)
class LabelEmbeddingClassifier(NamedClassifier):
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

    objective_name = "label_embedding"
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


@dataclass(eq=False, repr=False, kw_only=True)
class AdaptiveLabelsClassifier(NamedClassifier):
    """Learning with Adaptive Labels (Yu, Verma 2022); see `AdaptiveLabels` and `ObjectiveClassifier`."""

    objective_name = "adaptive_labels"
    label_dimension: int | None = None
    update: Literal["batch", "moving_average", "epoch"] = "batch"
    momentum: float = 0.9
    update_every: int = 1
    warmup_steps: int = 0
    loss: Literal["after_update", "before_update"] = "after_update"
    gradient_through_centroids: bool = True
    repel_weight: float = 0.0
    prediction: Literal["training_set", "last"] = "training_set"


@dataclass(eq=False, repr=False, kw_only=True)
class RetrospectionClassifier(NamedClassifier):
    """Learning with Retrospection (Deng, Zhang 2021); see `Retrospection` and `ObjectiveClassifier`."""

    objective_name = "retrospection"
    preset: Literal["paper", "published_port"] = "paper"
    soften_output: bool | None = None
    weight_schedule: Literal["staircase", "linear"] | None = None
    temperature: float = 5.0
    store_every: int = 5
    final_weight: float = 0.9
    store: Literal["pass", "steps"] = "pass"
    top_k: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class OnlineLabelSmoothingClassifier(NamedClassifier):
    """Online label smoothing (Zhang et al. 2021); see `OnlineLabelSmoothing` and `ObjectiveClassifier`."""

    objective_name = "online_label_smoothing"
    preset: Literal["moving_average", "published"] = "moving_average"
    similarity_weight: float | None = None
    uniform_weight: float | None = None
    temperature: float = 1.0
    momentum: float = 0.99
    top_k: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class ConfidencePenaltyClassifier(NamedClassifier):
    """Cross entropy less the entropy of the output; see `ConfidencePenalty` and `ObjectiveClassifier`."""

    objective_name = "confidence_penalty"
    penalty_weight: float = 0.1


@dataclass(eq=False, repr=False, kw_only=True)
class TeacherFreeClassifier(NamedClassifier):
    """Teacher-free distillation (Yuan et al. 2020); see `TeacherFree` and `ObjectiveClassifier`."""

    objective_name = "teacher_free"
    true_probability: float = 0.99
    temperature: float = 20.0
    teacher_weight: float = 0.1
    preset: Literal["published_code", "paper"] = "published_code"


@dataclass(eq=False, repr=False, kw_only=True)
class DistillationClassifier(NamedClassifier):
    """Learns what another classifier says of each training row; see `Distillation` and `ObjectiveClassifier`.

    Args:
        teacher: A classifier with `predict_proba`; a clone of it is fitted on the training rows (wrap one that is
            fitted already in scikit-learn's FrozenEstimator). None: a `OneHotClassifier` of the same settings.
    """

    objective_name = "distillation"
    teacher: Any = None
    temperature: float = 4.0
    teacher_weight: float = 0.9
    top_k: int | None = None


@dataclass(eq=False, repr=False, kw_only=True)
class StaticLabelsClassifier(NamedClassifier):
    """Regression to a fixed vector of each label; see `StaticLabels` and `ObjectiveClassifier`.

    Args:
        embedding: The labels' vectors; each class is found by its name, `str(label)`.
    """

    objective_name = "static_labels"
    embedding: LabelGeometry
    loss: Literal["huber", "squared", "cosine"] = "huber"
    delta: float = 1.0
    normalize: bool = True


CLASSIFIERS: dict[str, type[NamedClassifier]] = {
    kind.objective_name: kind
    for kind in (
        OneHotClassifier,
        LabelSmoothingClassifier,
        LabelEmbeddingClassifier,
        AdaptiveLabelsClassifier,
        RetrospectionClassifier,
        OnlineLabelSmoothingClassifier,
        ConfidencePenaltyClassifier,
        TeacherFreeClassifier,
        DistillationClassifier,
        StaticLabelsClassifier,
    )
}
