"""How good a network's sentences are: token error and perplexity, then BLEU, chrF and ROUGE of what it writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from labelembed.data import SentencePairs, TextCorpus, Tokenizer
from labelembed.metrics import bleu, chrf, rouge
from labelembed.models import Hypothesis
from labelembed.special_tokens import UNKNOWN
from labelembed.training.decoding import Decoding, decode
from labelembed.training.network import Network
from labelembed.training.training_pass import hidden_states

# Rows whose logits [rows, C] are held at a time.
_LOGIT_ROWS = 1_024


@torch.no_grad()
def token_measures(
    network: Network, pairs: SentencePairs, *, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
) -> dict[str, float]:
    """Returns the measures over all target tokens, END among them, each told the right words before it.

    Returns:
        `error` and `top5_error` (fractions), `nll` (nats a token) and `perplexity`, its exponential: of the network's
        own distribution, whatever it was trained on.
    """
    nll, wrong, far, count = 0.0, 0, 0, 0
    for hidden, labels, _ in hidden_states(network, pairs, autocast=autocast):
        for part, wanted in zip(torch.split(hidden, _LOGIT_ROWS), torch.split(labels, _LOGIT_ROWS), strict=True):
            logits = network.objective.logits(part).float()
            nll += float(F.cross_entropy(logits, wanted, reduction="sum"))
            # As an argmax does, of equal ones the first counts as predicted.
            own = logits.gather(1, wanted[:, None])
            earlier = torch.arange(logits.shape[1], device=logits.device) < wanted[:, None]
            rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
            wrong += int((rank >= 1).sum())
            far += int((rank >= 5).sum())
        count += len(labels)
    if not math.isfinite(nll):
        raise ValueError("the network predicts values that are not finite")
    mean = nll / count
    return {
        "error": wrong / count,
        "top5_error": far / count,
        "nll": mean,
        "perplexity": math.exp(min(mean, 700.0)),
    }


def texts(
    hypotheses: Sequence[Sequence[Hypothesis]],
    source_lines: Sequence[str],
    *,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    replace_unknown: bool = False,
) -> list[str]:
    """Returns the best hypothesis of each sentence as text; nothing where there is none."""
    return [
        hypothesis_text(best[0], line, source_tokenizer, target_tokenizer, replace_unknown=replace_unknown)
        if best
        else ""
        for best, line in zip(hypotheses, source_lines, strict=True)
    ]


def hypothesis_text(
    hypothesis: Hypothesis,
    source_line: str,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    replace_unknown: bool,
) -> str:
    """Returns a hypothesis as text.

    Args:
        hypothesis: What the search found.
        source_line: What it is the translation of.
        source_tokenizer: Of the source.
        target_tokenizer: Of the target.
        replace_unknown: Put the source token with the highest attention in the place of an unknown one.
    """
    whole = target_tokenizer.level == "subword"  # whose pieces are no words that could stand for one another
    if whole or not replace_unknown or hypothesis.attention is None or UNKNOWN not in hypothesis.tokens:
        return target_tokenizer.decode(hypothesis.tokens)
    source = source_tokenizer.tokens(source_line)
    words = target_tokenizer.vocabulary.decode(hypothesis.tokens)
    for place, (token, seen) in enumerate(zip(hypothesis.tokens, hypothesis.attention, strict=True)):
        if token == UNKNOWN and seen < len(source):  # beyond it stands END
            words[place] = source[seen]
    return (" " if target_tokenizer.level == "word" else "").join(words)


def text_measures(hypotheses: Sequence[str], references: Sequence[str], *, level: str) -> dict[str, Any]:
    """Returns BLEU, chrF and the F1 of ROUGE-1, 2 and L as fractions.

    Args:
        hypotheses: What was written.
        references: What should have been.
        level: Of the target side; characters are counted as words for `character`.
    """
    by_character = level == "character"
    found = rouge(hypotheses, [references], level="character" if by_character else "word")
    return {
        "bleu": bleu(hypotheses, [references], tokenize="char" if by_character else "13a").value,
        "chrf": chrf(hypotheses, [references]).value,
    } | {name: score.value for name, score in found.items()}


def measure_text(
    network: Network,
    corpus: TextCorpus,
    split: str,
    decoding: Decoding,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the measures of what a network writes for a split, and the texts."""
    pairs = corpus.splits[split]
    sources = [pairs.source[place] for place in range(len(pairs))]
    found = decode(network, sources, decoding, autocast=autocast)
    written = texts(
        found,
        corpus.source_lines(split),
        source_tokenizer=corpus.source_tokenizer,
        target_tokenizer=corpus.target_tokenizer,
        replace_unknown=decoding.replace_unknown,
    )
    return text_measures(written, corpus.references(split), level=corpus.target_tokenizer.level), written
