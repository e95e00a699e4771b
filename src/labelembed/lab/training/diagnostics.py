"""What a run leaves for the report to look into: which labels it confuses, how sure it is, the worst examples.

Small files in the folder ``diagnostics/`` of a run, made once from its selected weights: JSON, and the outcome of each
test example. Nothing but the report reads them; a run without them is as good as any other.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelembed.lab.data import LabelledData, TextCorpus
from labelembed.lab.special_tokens import BEGIN, END
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.decoding import Decoding, decode
from labelembed.lab.training.evaluation import logits_and_labels
from labelembed.lab.training.example_outcomes import ExampleOutcomes, half_precision
from labelembed.lab.training.network import Network, evaluation_mode
from labelembed.metrics import binned_reliability, chrf

_MOST_PAIRS = 20_000
# Counts of all labels are kept up to here; what there is of 50,000 words is in their pairs.
_MOST_COUNTED = 5_000
_WORST = 12
_PICTURE_SIDE = 64
_TEXT_LETTERS = 300
_SENTENCES = 200
_LONGEST_SENTENCE = 1_000
_MAPS = 6
# Attention over more tokens is no picture any more.
_MOST_TOKENS = 30


def shown_split(data: TrainingData) -> str | None:
    """Returns the split that a report shows: the test set, else the validation set; None where there is neither."""
    return next((name for name in ("test", "validation") if name in data.splits), None)


def error_diagnostics(
    network: Network, data: TrainingData, *, temperature: float | None = None
) -> tuple[dict[str, Any] | None, ExampleOutcomes | None]:
    """Returns what the network gets wrong, as JSON values, and the outcome of each example.

    Both are None where there is nothing to evaluate on. Of sentence pairs there are no outcomes: the tokens of a
    sentence are no independent examples.

    Args:
        network: With the weights that are kept.
        data: Whose test examples are shown; without a test set those of the validation set.
        temperature: What the logits are divided by for the calibrated reliability; None for none.

    Returns:
        The first has `split`, `rows`, `labels`; `confusions`, ``[[true class, predicted, count], ...]``, the most
        frequent first and at most 20,000; `of_label`, how many examples each label has (null above 5,000);
        `reliability`, `before` and `calibrated`, each with `count`, `confidence` and `accuracy` for bins of equal width
        (null where a bin is empty); `worst`, those with the highest loss: pictures as PNG in base64, texts and examples
        of tables by their beginning.
    """
    split = shown_split(data)
    if split is None:
        return None, None
    found = _outcomes(network, data, split, temperature=temperature)
    labels = network.objective.num_labels
    right = found["labels"] == found["predicted"]
    calibrated = temperature is not None
    errors = {
        "split": split,
        "examples": len(right),
        "labels": labels,
        "confusions": _confusions(found["labels"][~right], found["predicted"][~right])[:_MOST_PAIRS].tolist(),
        "of_label": np.bincount(found["labels"], minlength=labels).tolist() if labels <= _MOST_COUNTED else None,
        "reliability": {
            "before": _bins(binned_reliability(right, found["confidence"])),
            "calibrated": _bins(binned_reliability(right, found["calibrated_confidence"])) if calibrated else None,
        },
        "worst": _worst(data, split, found) if isinstance(data, LabelledData) else [],
    }
    if not isinstance(data, LabelledData):
        return errors, None
    nll_calibrated = half_precision(found["calibrated_loss"]) if calibrated else None
    return errors, ExampleOutcomes(split, right, half_precision(found["loss"]), nll_calibrated)


def _outcomes(
    network: Network, data: TrainingData, split: str, *, temperature: float | None
) -> dict[str, NDArray[Any]]:
    """Returns for each example [N] its label, the prediction, the probabilities of both and the loss in nats."""
    batches: list[dict[str, Tensor]] = []
    for logits, labels in logits_and_labels(network, data.splits[split]):
        log_shares = logits.log_softmax(-1)
        calibrated = (logits / (temperature or 1.0)).log_softmax(-1)
        own = log_shares.gather(1, labels[:, None])[:, 0]
        best = log_shares.max(-1)
        found = {
            "labels": labels,
            "predicted": best.indices,
            "confidence": best.values.exp(),
            "calibrated_confidence": calibrated.amax(-1).exp(),
            "loss": -own,
            "calibrated_loss": -calibrated.gather(1, labels[:, None])[:, 0],
            "share": own.exp(),
        }
        batches.append({name: values.cpu() for name, values in found.items()})
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def _confusions(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns true class, predicted class and count [P, 3], the most frequent first, of equal ones smaller labels."""
    pairs, counts = np.unique(np.stack([true, predicted], axis=1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts])[np.argsort(-counts, kind="stable")]


def _bins(diagram: NDArray[np.float64]) -> dict[str, list[Any]]:
    count, *means = diagram.tolist()
    confidence, accuracy = ([None if math.isnan(mean) else mean for mean in line] for line in means)
    return {"count": [int(number) for number in count], "confidence": confidence, "accuracy": accuracy}


def _worst(data: LabelledData, split: str, found: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Returns the wrong examples with the highest loss, as small pictures or as texts; none where neither is known."""
    shape = data.input_shape
    if data.texts is None and (len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < 4):
        return []
    wrong = np.flatnonzero(found["labels"] != found["predicted"])
    worst = wrong[np.argsort(-found["loss"][wrong], kind="stable")[:_WORST]].tolist()
    inputs: Any = data.splits[split].inputs
    return [
        {
            "row": index,
            "label": int(found["labels"][index]),
            "predicted": int(found["predicted"][index]),
            "share": float(found["share"][index]),
            "predicted_share": float(found["confidence"][index]),
        }
        | (
            {"png": _png(inputs[index], data.input_range)}
            if data.texts is None
            else {"text": _shortened(data.texts(split, index))}
        )
        for index in worst
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


# ---- of a corpus


def sample_places(count: int) -> list[int]:
    """Returns the places of up to 200 sentences, evenly spread, so that every run on a corpus shows the same."""
    shown = min(count, _SENTENCES)
    return [number * count // shown for number in range(shown)]


def sentence_diagnostics(network: Network, corpus: TextCorpus, split: str, written: Sequence[str]) -> dict[str, Any]:
    """Returns a sample of what a run on a corpus wrote, sentence by sentence, and where it looked, as JSON values.

    Args:
        network: With the weights that are kept.
        corpus: What it was trained on.
        split: `test` or `validation`.
        written: What the network wrote for all its sentences.

    Returns:
        `split`; `sentences`, each with `place`, `source`, `reference`, `output` and its own chrF as `score`
        (a fraction); `attention`, for some of them `place`, `source` and `output` in tokens and `weights`, a row an
        output token, in hundredths.
    """
    sources, references = corpus.source_lines(split), corpus.references(split)
    places = sample_places(len(written))
    sentences = [
        {
            "place": place,
            "source": sources[place][:_LONGEST_SENTENCE],
            "reference": references[place][:_LONGEST_SENTENCE],
            "output": written[place][:_LONGEST_SENTENCE],
            "score": chrf([written[place]], [[references[place]]]).value,
        }
        for place in places
    ]
    return {
        "split": split,
        "of": len(written),
        "sentences": sentences,
        "attention": _attention(network, corpus, split, places),
    }


def _attention(network: Network, corpus: TextCorpus, split: str, places: Sequence[int]) -> list[dict[str, Any]]:
    """Returns where the network looks while it writes its own greedy translation of a few sentences."""
    pairs = corpus.splits[split]
    short = [place for place in places if 3 <= len(pairs.source[place]) <= _MOST_TOKENS][:_MAPS]
    found = decode(network, [pairs.source[place] for place in short], Decoding())
    maps = []
    for place, best in zip(short, found, strict=True):
        tokens = best[0].tokens[:_MOST_TOKENS] if best else ()
        weights = _weights(network, [int(token) for token in pairs.source[place]], tokens)
        if weights:
            named = [corpus.source_tokenizer.vocabulary.tokens[token] for token in pairs.source[place]]
            output = corpus.target_tokenizer.vocabulary.decode(tokens)
            maps.append({"place": place, "source": [*named, "(end)"], "output": output, "weights": weights})
    return maps


@torch.no_grad()
def _weights(network: Network, source: Sequence[int], tokens: Sequence[int]) -> list[list[int]]:
    """Returns the attention [T, S] in hundredths over the source's tokens and its END; nothing where there is none."""
    encoder: Any = network.encoder
    device = next(network.parameters()).device
    rows: list[list[int]] = []
    with evaluation_mode(network):
        state = encoder.encode(torch.tensor([[*source, END]], device=device))
        for token in [BEGIN, *tokens[:-1]] if tokens else []:
            _, state, attention = encoder.step(torch.tensor([token], device=device), state)
            if attention is None:
                return []
            rows.append((100 * attention[0].float()).round().int().tolist())
    return rows
