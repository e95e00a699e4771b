"""Train PyTorch networks with learned label similarities, and measure whether they help.

An objective owns the output layer and replaces `nn.Linear` and `cross_entropy`::

    objective = labelembed.LabelEmbedding(hidden_size=512, num_labels=100)
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()])
    terms = objective(encoder(x), y)
    terms.total.backward()
    scores = objective.logits(encoder(x))

The library needs torch, numpy, scipy and safetensors. `compare`, `Run`, `Comparison` and `SavedRun` are of the lab:
``pip install 'labelembed[lab]'``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelembed.errors import DataError as DataError
    from labelembed.errors import InvalidArguments as InvalidArguments
    from labelembed.errors import LabelEmbedError as LabelEmbedError
    from labelembed.geometry import LabelGeometry as LabelGeometry
    from labelembed.geometry import Neighbour as Neighbour
    from labelembed.lab.runs.comparison import compare as compare
    from labelembed.lab.runs.results import Comparison as Comparison
    from labelembed.lab.runs.results import Run as Run
    from labelembed.lab.runs.saved_run import SavedRun as SavedRun
    from labelembed.metrics import fit_temperature as fit_temperature
    from labelembed.objectives import *  # noqa: F403

__version__ = "0.3.0"

# Names are imported when first asked for, so that the command line answers --help before torch is imported.
_MODULES = {
    "errors": "DataError InvalidArguments LabelEmbedError",
    "geometry": "LabelGeometry Neighbour",
    "metrics": "fit_temperature",
    "objectives": "OBJECTIVES AdaptiveLabels ConfidencePenalty Distillation LabelEmbedding LabelSmoothing Objective "
    "OneHot OnlineLabelSmoothing Retrospection StaticLabels TeacherFree Terms",
    "lab.errors": "RecipeError RunFolderError TrainingError",
    "lab.runs.comparison": "compare",
    "lab.runs.results": "Comparison Run",
    "lab.runs.saved_run": "SavedRun",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(name for name, module in _MODULE_OF.items() if not module.startswith("lab."))


def __getattr__(name: str) -> Any:
    if name in ("geometry", "integrations", "losses", "metrics", "objectives"):
        return import_module(f"labelembed.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'labelembed' has no attribute {name!r}")
    value = getattr(import_module(f"labelembed.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF])
