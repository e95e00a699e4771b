"""The methods, one file each: output layer and loss in one module, named terms out."""

from labelembed.losses import LabelEmbeddingTerms
from labelembed.objectives.adaptive_labels import AdaptiveLabels, AdaptiveLabelsTerms
from labelembed.objectives.base import Objective, Terms
from labelembed.objectives.confidence_penalty import ConfidencePenalty, ConfidencePenaltyTerms
from labelembed.objectives.distillation import Distillation, DistillationTerms
from labelembed.objectives.label_embedding import LabelEmbedding
from labelembed.objectives.label_smoothing import LabelSmoothing, LabelSmoothingTerms
from labelembed.objectives.one_hot import OneHot, OneHotTerms
from labelembed.objectives.online_label_smoothing import OnlineLabelSmoothing, OnlineLabelSmoothingTerms
from labelembed.objectives.retrospection import Retrospection, RetrospectionTerms
from labelembed.objectives.static_labels import StaticLabels, StaticLabelsTerms
from labelembed.objectives.teacher_free import TeacherFree, TeacherFreeTerms

OBJECTIVES: dict[str, type[Objective]] = {
    "one_hot": OneHot,
    "label_smoothing": LabelSmoothing,
    "label_embedding": LabelEmbedding,
    "adaptive_labels": AdaptiveLabels,
    "retrospection": Retrospection,
    "online_label_smoothing": OnlineLabelSmoothing,
    "confidence_penalty": ConfidencePenalty,
    "teacher_free": TeacherFree,
    "distillation": Distillation,
    "static_labels": StaticLabels,
}

__all__ = [
    "OBJECTIVES",
    "AdaptiveLabels",
    "AdaptiveLabelsTerms",
    "ConfidencePenalty",
    "ConfidencePenaltyTerms",
    "Distillation",
    "DistillationTerms",
    "LabelEmbedding",
    "LabelEmbeddingTerms",
    "LabelSmoothing",
    "LabelSmoothingTerms",
    "Objective",
    "OneHot",
    "OneHotTerms",
    "OnlineLabelSmoothing",
    "OnlineLabelSmoothingTerms",
    "Retrospection",
    "RetrospectionTerms",
    "StaticLabels",
    "StaticLabelsTerms",
    "TeacherFree",
    "TeacherFreeTerms",
    "Terms",
]
