"""Classifiers of scikit-learn: `fit`, `predict_proba`, `classes_`, `label_geometry_`; see `ObjectiveClassifier`."""

from labelembed.integrations.sklearn.classifiers import (
    CLASSIFIERS,
    AdaptiveLabelsClassifier,
    ConfidencePenaltyClassifier,
    DistillationClassifier,
    LabelEmbeddingClassifier,
    LabelSmoothingClassifier,
    OneHotClassifier,
    OnlineLabelSmoothingClassifier,
    RetrospectionClassifier,
    StaticLabelsClassifier,
    TeacherFreeClassifier,
)
from labelembed.integrations.sklearn.objective_classifier import ObjectiveClassifier

__all__ = [
    "CLASSIFIERS",
    "AdaptiveLabelsClassifier",
    "ConfidencePenaltyClassifier",
    "DistillationClassifier",
    "LabelEmbeddingClassifier",
    "LabelSmoothingClassifier",
    "ObjectiveClassifier",
    "OneHotClassifier",
    "OnlineLabelSmoothingClassifier",
    "RetrospectionClassifier",
    "StaticLabelsClassifier",
    "TeacherFreeClassifier",
]
