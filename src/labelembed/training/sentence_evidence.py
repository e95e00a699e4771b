"""A sample of what a run on a corpus wrote, sentence by sentence, and where it looked, for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from labelembed.data import TextCorpus
from labelembed.metrics import chrf
from labelembed.special_tokens import BEGIN, END
from labelembed.training.decoding import Decoding, decode
from labelembed.training.evidence import EVIDENCE_FORMAT
from labelembed.training.network import Network

_SENTENCES = 200
_MAPS = 6
# Longer ones are no picture any more.
_MOST_TOKENS = 30
_LONGEST_TEXT = 1_000


def sample_places(count: int) -> list[int]:
    """Returns the places of up to 200 sentences, evenly spread, so that every run on a corpus shows the same."""
    shown = min(count, _SENTENCES)
    return [number * count // shown for number in range(shown)]


def sentence_evidence(
    network: Network,
    corpus: TextCorpus,
    split: str,
    written: Sequence[str],
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """Returns a sample of sentences as JSON values.

    Args:
        network: With the weights that are kept.
        corpus: What it was trained on.
        split: `test` or `development`.
        written: What the network wrote for all its sentences.
        autocast: Makes the precision to compute in.

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
            "source": sources[place][:_LONGEST_TEXT],
            "reference": references[place][:_LONGEST_TEXT],
            "output": written[place][:_LONGEST_TEXT],
            "score": chrf([written[place]], [[references[place]]]).value,
        }
        for place in places
    ]
    return {
        "format": EVIDENCE_FORMAT,
        "split": split,
        "of": len(written),
        "sentences": sentences,
        "attention": _attention(network, corpus, split, places, autocast=autocast),
    }


@torch.no_grad()
def _attention(
    network: Network,
    corpus: TextCorpus,
    split: str,
    places: Sequence[int],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
) -> list[dict[str, Any]]:
    """Returns where the network looks while it writes its own greedy translation of a few sentences."""
    pairs = corpus.splits[split]
    short = [place for place in places if 3 <= len(pairs.source[place]) <= _MOST_TOKENS][:_MAPS]
    if not short:
        return []
    found = decode(network, [pairs.source[place] for place in short], Decoding(), autocast=autocast)
    maps = []
    for place, best in zip(short, found, strict=True):
        tokens = best[0].tokens[:_MOST_TOKENS] if best else ()
        weights = _weights(network, [int(token) for token in pairs.source[place]], tokens, autocast=autocast)
        if weights:
            named = [corpus.source_tokenizer.vocabulary.tokens[token] for token in pairs.source[place]]
            output = corpus.target_tokenizer.vocabulary.decode(tokens)
            maps.append({"place": place, "source": [*named, "(end)"], "output": output, "weights": weights})
    return maps


def _weights(
    network: Network,
    source: Sequence[int],
    tokens: Sequence[int],
    *,
    autocast: Callable[[], AbstractContextManager[object]],
) -> list[list[int]]:
    """Returns the attention [T, S] in hundredths over the source's tokens and its END; nothing where there is none."""
    encoder: Any = network.encoder
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    rows: list[list[int]] = []
    try:
        with autocast():
            state = encoder.encode(torch.tensor([[*source, END]], device=device))
            for token in [BEGIN, *tokens[:-1]] if tokens else []:
                _, state, attention = encoder.step(torch.tensor([token], device=device), state)
                if attention is None:
                    return []
                rows.append((100 * attention[0].float()).round().int().tolist())
    finally:
        network.train(was_training)
    return rows
