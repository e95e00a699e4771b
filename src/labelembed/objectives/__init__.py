"""The methods, one file each: output layer and loss in one module, named terms out."""

from labelembed.heads import HeadTerms as LabelEmbeddingTerms
from labelembed.objectives.label_embedding import LabelEmbedding
from labelembed.objectives.label_smoothing import LabelSmoothing, LabelSmoothingTerms
from labelembed.objectives.objective import Objective, Terms
from labelembed.objectives.one_hot import OneHot, OneHotTerms

OBJECTIVES: dict[str, type[Objective]] = {
    "one_hot": OneHot,
    "label_smoothing": LabelSmoothing,
    "label_embedding": LabelEmbedding,
}

__all__ = [
    "OBJECTIVES",
    "LabelEmbedding",
    "LabelEmbeddingTerms",
    "LabelSmoothing",
    "LabelSmoothingTerms",
    "Objective",
    "OneHot",
    "OneHotTerms",
    "Terms",
]
