"""Sentences: what a trained network writes, greedily or by beam search, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from labelembed.lab.data import SentencePairs, TextCorpus, Tokenizer
from labelembed.lab.models import BeamSearch, Hypothesis
from labelembed.lab.special_tokens import END, PAD, UNKNOWN
from labelembed.lab.training.evaluation import logits_and_labels
from labelembed.lab.training.network import Network, evaluation_mode
from labelembed.lab.training.settings import Block, Flag, Number, PositiveInt
from labelembed.metrics import bleu, chrf, rouge

# Hypotheses and source tokens of one batch: what attention holds for each step.
_TOKENS_AT_ONCE = 20_000
_SHOWN, _SHOWN_LETTERS = 200, 1_000  # sentences for the report

Tokens = npt.NDArray[np.integer[Any]]


class Decoding(Block):
    """How a trained network's sentences are found, of a corpus: beam search when it is done, greedy while it trains."""

    beam: Annotated[int, Field(ge=1, le=1000, strict=True)] = Field(1, description="hypotheses kept; 1: greedy")
    length_penalty: Annotated[Number, Field(ge=0)] = Field(
        1.0,
        description="scores are divided by ((5 + length) / 6) to this power; 0: long sentences lose, the more so the "
        "softer the targets were",
    )
    minimum_length: Annotated[int, Field(ge=0, le=100_000, strict=True)] = Field(
        0, description="tokens before a sentence may end"
    )
    maximum_length: PositiveInt | None = Field(None, description="tokens at most; null: twice the source's and ten")
    replace_unknown: Flag = Field(
        False, description="put the source word with the highest attention in the place of an unknown word"
    )

    def search(self, *, n_best: int = 1) -> BeamSearch:
        """Returns the search for so many hypotheses of each sentence; raises ValueError for what is out of range."""
        return BeamSearch(n_best=n_best, **self.model_dump(exclude={"replace_unknown"}))


@torch.no_grad()
def decode(
    network: Network, sources: Sequence[Tokens], decoding: Decoding, *, n_best: int = 1
) -> list[list[Hypothesis]]:
    """Returns the hypotheses of each sentence, best first, in the order of the sentences.

    Sentences of like length are decoded together; the log-probabilities are float32 in any precision.

    Args:
        network: Of a sequence model; in evaluation mode for the time of this, its mode is put back.
        sources: Tokens of each sentence, without END.
        decoding: How they are found.
        n_best: Hypotheses returned for each sentence.
    """
    search = decoding.search(n_best=n_best)
    encoder: Any = network.encoder

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor | None]:
        hidden, state, attention = encoder.step(tokens, state)
        return network.objective.logits(hidden).float().log_softmax(-1), state, attention

    hypotheses: list[list[Hypothesis]] = [[] for _ in sources]
    with evaluation_mode(network) as device:
        for indices in _batches_by_length([len(source) for source in sources], beam=decoding.beam):
            source = _padded([sources[index] for index in indices]).to(device)
            state, lengths = encoder.encode(source), (source != PAD).sum(1)
            best = search.search(step, state, batch_size=len(indices), source_lengths=lengths, device=device)
            for index, its in zip(indices, best, strict=True):
                hypotheses[index] = its
    return hypotheses


def _batches_by_length(lengths: Sequence[int], *, beam: int) -> Iterator[list[int]]:
    """Yields the indices of sentences of like length, the longest first: what does not fit shows at once."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = longest or lengths[index] + 1
        if batch and (len(batch) + 1) * longest * beam > _TOKENS_AT_ONCE:
            yield batch
            batch, longest = [], lengths[index] + 1
        batch.append(index)
    if batch:
        yield batch


def _padded(sources: Sequence[Tokens]) -> Tensor:
    """Returns source tokens [B, S] with END behind each sentence."""
    table = np.full((len(sources), max(len(source) for source in sources) + 1), PAD, np.int64)
    for row, source in zip(table, sources, strict=True):
        row[: len(source)] = source
        row[len(source)] = END
    return torch.from_numpy(table)


def hypothesis_text(
    hypothesis: Hypothesis, source_line: str, source: Tokenizer, target: Tokenizer, *, replace_unknown: bool
) -> str:
    """Returns a hypothesis as text.

    Args:
        hypothesis: What the search found.
        source_line: What it is the translation of.
        source: Tokenizer of the source.
        target: Tokenizer of the target.
        replace_unknown: Put the source token with the highest attention in the place of an unknown one.
    """
    whole = target.level == "subword"  # whose pieces are no words that could stand for one another
    if whole or not replace_unknown or hypothesis.attention is None or UNKNOWN not in hypothesis.tokens:
        return target.decode(hypothesis.tokens)
    tokens, words = source.tokens(source_line), [target.vocabulary[token] for token in hypothesis.tokens]
    for index, (token, attended) in enumerate(zip(hypothesis.tokens, hypothesis.attention, strict=True)):
        if token == UNKNOWN and attended < len(tokens):  # beyond it stands END
            words[index] = tokens[attended]
    return (" " if target.level == "word" else "").join(words)


def text_metrics(hypotheses: Sequence[str], references: Sequence[str], *, level: str) -> dict[str, Any]:
    """Returns BLEU with its brevity penalty and length ratio, chrF and the F1 of ROUGE-1, 2 and L as fractions.

    Args:
        hypotheses: What was written.
        references: What should have been.
        level: Of the target side; characters are counted as words for `character`.
    """
    by_character = level == "character"
    scores = rouge(hypotheses, [references], level="character" if by_character else "word")
    written = bleu(hypotheses, [references], tokenize="char" if by_character else "13a")
    return {
        "bleu": written.value,
        "brevity_penalty": written.details["brevity_penalty"],
        "length_ratio": written.details["hypothesis_tokens"] / max(written.details["reference_tokens"], 1),
        "chrf": chrf(hypotheses, [references]).value,
    } | {name: score.value for name, score in scores.items()}


def evaluate_text(
    network: Network, corpus: TextCorpus, split: str, decoding: Decoding
) -> tuple[dict[str, Any], list[str]]:
    """Returns the metrics of what a network writes for a split, and the texts; an empty one where nothing was found."""
    pairs = corpus.splits[split]
    best = decode(network, [pairs.source[index] for index in range(len(pairs))], decoding)
    tokenizers = corpus.source_tokenizer, corpus.target_tokenizer
    written = [
        hypothesis_text(its[0], line, *tokenizers, replace_unknown=decoding.replace_unknown) if its else ""
        for its, line in zip(best, corpus.source_lines(split), strict=True)
    ]
    return text_metrics(written, corpus.references(split), level=corpus.target_tokenizer.level), written


def token_metrics(network: Network, pairs: SentencePairs) -> dict[str, float]:
    """Returns the metrics over all target tokens, END among them, each after the right words before it.

    Returns:
        `error` and `top5_error` (fractions), `nll` (nats a token) and `perplexity`, its exponential: of the network's
        own distribution, whatever it was trained on.
    """
    nll, wrong, far, count = 0.0, 0, 0, 0
    for logits, labels in logits_and_labels(network, pairs):
        nll += float(F.cross_entropy(logits, labels, reduction="sum"))
        # As an argmax does, of equal ones the first counts as predicted.
        own = logits.gather(1, labels[:, None])
        earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
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


def sentence_diagnostics(corpus: TextCorpus, split: str, written: Sequence[str]) -> dict[str, Any]:
    """Returns a sample of what a run on a corpus wrote, evenly spread, so that every run shows the same sentences.

    Args:
        corpus: What it was trained on.
        split: `test` or `validation`.
        written: What the network wrote for all its sentences.

    Returns:
        `split`, `of` (how many there are) and `sentences`, each with `place`, `source`, `reference`, `output` and its
        own chrF as `score` (a fraction).
    """
    sources, references, shown = corpus.source_lines(split), corpus.references(split), min(len(written), _SHOWN)
    sentences = []
    for index in [number * len(written) // shown for number in range(shown)]:
        texts = {"source": sources[index], "reference": references[index], "output": written[index]}
        score = chrf([written[index]], [[references[index]]]).value
        cut = {name: text[:_SHOWN_LETTERS] for name, text in texts.items()}
        sentences.append({"place": index, **cut, "score": score})
    return {"split": split, "of": len(written), "sentences": sentences}
