"""Train PyTorch networks with learned label similarities, and measure whether they help.

Letters used throughout: N rows, H hidden size, C labels, D label space, K compressed size, B batch, T time.
An objective owns the output layer and stands where `nn.Linear` and `cross_entropy` stood::

    objective = labelembed.LabelEmbedding(hidden_size=512, num_labels=100)
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()])
    terms = objective(encoder(x), y)
    terms.total.backward()
    scores = objective.logits(encoder(x))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelembed.comparing import compare, distill
    from labelembed.errors import DataError, LabelEmbedError, RecipeError, RunFolderError, TrainingError
    from labelembed.geometry import LabelGeometry, Neighbour
    from labelembed.metrics import fit_temperature
    from labelembed.objectives import (
        OBJECTIVES,
        AdaptiveLabels,
        ConfidencePenalty,
        Distillation,
        LabelEmbedding,
        LabelSmoothing,
        Objective,
        OneHot,
        OnlineLabelSmoothing,
        Retrospection,
        StaticLabels,
        TeacherFree,
        Terms,
    )
    from labelembed.results import Comparison, Run
    from labelembed.runs.saved_run import SavedRun

__version__ = "0.2.0"

# Names are imported when first asked for, so that the command line answers --help before torch is there.
_HOMES = {
    "DataError": "errors",
    "LabelEmbedError": "errors",
    "RecipeError": "errors",
    "RunFolderError": "errors",
    "TrainingError": "errors",
    "LabelGeometry": "geometry",
    "Neighbour": "geometry",
    "fit_temperature": "metrics",
    "OBJECTIVES": "objectives",
    "AdaptiveLabels": "objectives",
    "OnlineLabelSmoothing": "objectives",
    "Retrospection": "objectives",
    "ConfidencePenalty": "objectives",
    "Distillation": "objectives",
    "LabelEmbedding": "objectives",
    "LabelSmoothing": "objectives",
    "Objective": "objectives",
    "OneHot": "objectives",
    "StaticLabels": "objectives",
    "TeacherFree": "objectives",
    "Terms": "objectives",
    "SavedRun": "runs.saved_run",
    "Comparison": "results",
    "Run": "results",
    "compare": "comparing",
    "distill": "comparing",
}

__all__ = [
    "OBJECTIVES",
    "AdaptiveLabels",
    "Comparison",
    "ConfidencePenalty",
    "DataError",
    "Distillation",
    "LabelEmbedError",
    "LabelEmbedding",
    "LabelGeometry",
    "LabelSmoothing",
    "Neighbour",
    "Objective",
    "OneHot",
    "OnlineLabelSmoothing",
    "RecipeError",
    "Retrospection",
    "Run",
    "RunFolderError",
    "SavedRun",
    "StaticLabels",
    "TeacherFree",
    "Terms",
    "TrainingError",
    "compare",
    "distill",
    "fit_temperature",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'labelembed' has no attribute {name!r}")
    value = getattr(import_module(f"labelembed.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
