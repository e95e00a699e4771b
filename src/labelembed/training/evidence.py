"""What a run leaves for the report to look into: which labels it confuses, how sure it is, the worst pictures.

Small files in the folder ``evidence/`` of a run, made once from its selected weights: JSON, and the outcome of each
test example. Nothing but the report reads them; a run without them is as good as any other.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelembed.data import LabelledData
from labelembed.metrics import ReliabilityBins, binned_reliability, confusions
from labelembed.training.example_outcomes import ExampleOutcomes, half_precision
from labelembed.training.network import Network
from labelembed.training.training_data import TrainingData
from labelembed.training.training_pass import hidden_states

EVIDENCE_FORMAT = 1
MOST_PAIRS = 20_000
# Counts of all labels are told up to here; what there is of 50,000 words is in their pairs.
_MOST_COUNTED = 5_000
_WORST = 12
_PICTURE_SIDE = 64
_TEXT_LETTERS = 300
# Rows whose logits [rows, C] are held at a time.
_LOGIT_ROWS = 1_024


def shown_split(data: TrainingData) -> str | None:
    """Returns the rows that a report shows: the test set, else the development rows; None where there are neither."""
    return next((name for name in ("test", "development") if name in data.splits), None)


def error_evidence(
    network: Network,
    data: TrainingData,
    *,
    temperature: float | None = None,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[dict[str, Any] | None, ExampleOutcomes | None]:
    """Returns what the network gets wrong, as JSON values, and the outcome of each example.

    Both are None where there is nothing to measure on. Of sentence pairs there are no outcomes: the tokens of a
    sentence are no independent examples.

    Args:
        network: With the weights that are kept.
        data: Whose test rows are shown; without test rows the development rows.
        temperature: What the logits are divided by for the calibrated reliability; None for none.
        autocast: Makes the context that sets the precision.

    Returns:
        The first has `split`, `rows`, `labels`; `confusions`, ``[[right, predicted, count], ...]`` the most frequent
        first, and how many of them were `left_out`; `of_label` and `right`, counts for each label (null above 5,000);
        `reliability`, `before` and `calibrated`, each with `count`, `confidence` and `accuracy` for bins of equal
        width (null where a bin is empty); `worst`, those with the highest loss: pictures as PNG in base64,
        texts and rows of tables by their beginning.
    """
    split = shown_split(data)
    if split is None:
        return None, None
    found = _outcomes(network, data, split, temperature=temperature, autocast=autocast)
    labels = network.objective.num_labels
    counted = confusions(found["labels"], found["predicted"], labels)
    told = labels <= _MOST_COUNTED
    right = found["labels"] == found["predicted"]
    errors = {
        "format": EVIDENCE_FORMAT,
        "split": split,
        "rows": len(right),
        "labels": labels,
        "confusions": counted.pairs[:MOST_PAIRS].tolist(),
        "left_out": max(0, len(counted.pairs) - MOST_PAIRS),
        "of_label": counted.examples.tolist() if told else None,
        "right": counted.right.tolist() if told else None,
        "reliability": {
            "before": _bins(binned_reliability(right, found["confidence"])),
            "calibrated": None
            if temperature is None
            else _bins(binned_reliability(right, found["calibrated_confidence"])),
        },
        "worst": _worst(data, split, found) if isinstance(data, LabelledData) else [],
    }
    if not isinstance(data, LabelledData):
        return errors, None
    calibrated = None if temperature is None else half_precision(found["calibrated_loss"])
    return errors, ExampleOutcomes(split, right, half_precision(found["loss"]), calibrated)


@torch.no_grad()
def _outcomes(
    network: Network,
    data: TrainingData,
    split: str,
    *,
    temperature: float | None,
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, NDArray[Any]]:
    """Returns for each row [N] its label, the prediction, how sure it is and the loss in nats."""
    parts: dict[str, list[Tensor]] = {
        name: []
        for name in ("labels", "predicted", "confidence", "calibrated_confidence", "loss", "calibrated_loss", "share")
    }
    for hidden, labels, _ in hidden_states(network, data.splits[split], autocast=autocast):
        for rows, truth in zip(torch.split(hidden, _LOGIT_ROWS), torch.split(labels, _LOGIT_ROWS), strict=True):
            logits = network.objective.logits(rows).float()
            log_shares = logits.log_softmax(-1)
            own = log_shares.gather(1, truth[:, None])[:, 0]
            best = log_shares.max(-1)
            calibrated = (logits / (temperature or 1.0)).log_softmax(-1)
            found = {
                "labels": truth,
                "predicted": best.indices,
                "confidence": best.values.exp(),
                "calibrated_confidence": calibrated.amax(-1).exp(),
                "loss": -own,
                "calibrated_loss": -calibrated.gather(1, truth[:, None])[:, 0],
                "share": own.exp(),
            }
            for name, values in found.items():
                parts[name].append(values.cpu())
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def _bins(found: ReliabilityBins) -> dict[str, list[Any]]:
    def known(values: NDArray[np.float64]) -> list[float | None]:
        return [None if math.isnan(value) else value for value in values.tolist()]

    counts = [int(count) for count in found.count]
    return {"count": counts, "confidence": known(found.confidence), "accuracy": known(found.accuracy)}


def _worst(data: LabelledData, split: str, found: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Returns the wrong rows with the highest loss: as small pictures, or as texts; none where neither can be shown."""
    shape = data.input_shape
    if data.texts is None and (len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < 4):
        return []
    wrong = np.flatnonzero(found["labels"] != found["predicted"])
    worst = wrong[np.argsort(-found["loss"][wrong], kind="stable")[:_WORST]]
    inputs = data.splits[split].inputs
    return [
        {
            "row": int(row),
            "label": int(found["labels"][row]),
            "predicted": int(found["predicted"][row]),
            "share": float(found["share"][row]),
            "predicted_share": float(found["confidence"][row]),
        }
        | (
            {"png": _png(inputs[int(row)], data.input_range)}
            if data.texts is None
            else {"text": _shortened(data.texts(split, int(row)))}
        )
        for row in worst
    ]


def _shortened(text: str) -> str:
    """Returns the beginning of a text in one line."""
    line = " ".join(text[: 4 * _TEXT_LETTERS].split())
    return line if len(line) <= _TEXT_LETTERS else f"{line[:_TEXT_LETTERS].rstrip()} …"


def _png(picture: Tensor, input_range: tuple[float, float]) -> str:
    from PIL import Image

    low, high = input_range
    shares = (picture.cpu().float() - low) / max(high - low, 1e-12)
    pixels = (255 * shares).round().clamp(0, 255).to(torch.uint8)
    drawn = Image.fromarray((pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).contiguous().numpy())
    drawn.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    written = io.BytesIO()
    drawn.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")
