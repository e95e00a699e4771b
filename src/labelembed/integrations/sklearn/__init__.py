"""Classifiers of scikit-learn: `fit`, `predict_proba`, `classes_`, `label_geometry_`; see `ObjectiveClassifier`."""

from labelembed.integrations.sklearn.classifiers import LabelEmbeddingClassifier, ObjectiveClassifier

__all__ = ["LabelEmbeddingClassifier", "ObjectiveClassifier"]
