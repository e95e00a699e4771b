"""The methods: output layer and loss in one module each, named terms out.

Letters: N examples, H hidden size, C labels, D label dimension, K compressed size, B batch, T time. An objective
replaces `nn.Linear` and `cross_entropy`.
"""

from labelembed.objectives.adaptive_labels import AdaptiveLabels
from labelembed.objectives.base import Objective, Terms
from labelembed.objectives.baselines import ConfidencePenalty, LabelSmoothing, OneHot, TeacherFree
from labelembed.objectives.distillation import Distillation
from labelembed.objectives.label_embedding import LabelEmbedding
from labelembed.objectives.online_label_smoothing import OnlineLabelSmoothing
from labelembed.objectives.retrospection import Retrospection
from labelembed.objectives.static_labels import StaticLabels

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
    "ConfidencePenalty",
    "Distillation",
    "LabelEmbedding",
    "LabelSmoothing",
    "Objective",
    "OneHot",
    "OnlineLabelSmoothing",
    "Retrospection",
    "StaticLabels",
    "TeacherFree",
    "Terms",
]
