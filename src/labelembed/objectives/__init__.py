"""The methods, one file each: output layer and loss in one module, named terms out."""

from labelembed.heads import HeadTerms as LabelEmbeddingTerms
from labelembed.objectives.confidence_penalty import ConfidencePenalty, ConfidencePenaltyTerms
from labelembed.objectives.label_embedding import LabelEmbedding
from labelembed.objectives.label_smoothing import LabelSmoothing, LabelSmoothingTerms
from labelembed.objectives.objective import Objective, Terms
from labelembed.objectives.one_hot import OneHot, OneHotTerms
from labelembed.objectives.teacher_free import TeacherFree, TeacherFreeTerms

OBJECTIVES: dict[str, type[Objective]] = {
    "one_hot": OneHot,
    "label_smoothing": LabelSmoothing,
    "label_embedding": LabelEmbedding,
    "confidence_penalty": ConfidencePenalty,
    "teacher_free": TeacherFree,
}

__all__ = [
    "OBJECTIVES",
    "ConfidencePenalty",
    "ConfidencePenaltyTerms",
    "LabelEmbedding",
    "LabelEmbeddingTerms",
    "LabelSmoothing",
    "LabelSmoothingTerms",
    "Objective",
    "OneHot",
    "OneHotTerms",
    "TeacherFree",
    "TeacherFreeTerms",
    "Terms",
]
