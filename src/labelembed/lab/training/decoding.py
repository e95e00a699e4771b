"""Sentences: what a trained network writes, greedily or by beam search, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from labelembed.lab.data import SentencePairs, TextCorpus, Tokenizer
from labelembed.lab.models import BeamSearch, Hypothesis
from labelembed.lab.special_tokens import END, PAD, UNKNOWN
from labelembed.lab.training.evaluation import logits_and_labels
from labelembed.lab.training.network import Network, evaluation_mode
from labelembed.lab.training.settings import Block, Flag, Number, PositiveInt
from labelembed.metrics import bleu, chrf, rouge

# Hypotheses and source tokens of one batch, what attention holds for each step; and probabilities of the next token.
_TOKENS_AT_ONCE, _PROBABILITIES_AT_ONCE = 20_000, 2**24
_SHOWN = 200  # sentences for the report

Tokens = npt.NDArray[np.integer[Any]]


class Decoding(Block):
    """How a trained network's sentences are found, of a corpus: beam search when it is done, greedy while it trains."""

    beam: Annotated[int, Field(ge=1, le=1000, strict=True)] = Field(1, description="hypotheses kept; 1: greedy")
    length_penalty: Annotated[Number, Field(ge=0)] = Field(
        1.0, description="scores are divided by ((5 + length) / 6) to this power; 0: long sentences lose"
    )
    minimum_length: Annotated[int, Field(ge=0, strict=True)] = Field(0, description="tokens before a sentence may end")
    maximum_length: PositiveInt | None = Field(None, description="tokens at most; null: twice the source's and ten")
    replace_unknown: Flag = Field(
        False, description="write the source word with the highest attention for an unknown one"
    )

    def search(self) -> BeamSearch:
        """Returns the search."""
        return BeamSearch(**self.model_dump(exclude={"replace_unknown"}))


@torch.no_grad()
def decode(network: Network, sources: Sequence[Tokens], decoding: Decoding) -> list[Hypothesis | None]:
    """Returns the best hypothesis of each sentence (tokens without END); None where none was found.

    Sentences of like length are decoded together, the longest first: what does not fit into memory shows at once.
    """
    search = decoding.search()
    encoder: Any = network.encoder

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor | None]:
        hidden, state, attention = encoder.step(tokens, state)
        return network.objective.logits(hidden).float().log_softmax(-1), state, attention

    hypotheses: list[Hypothesis | None] = [None for _ in sources]
    left = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    with evaluation_mode(network) as device:
        while left:
            count = _TOKENS_AT_ONCE // ((len(sources[left[0]]) + 1) * decoding.beam)
            count = max(1, min(count, _PROBABILITIES_AT_ONCE // (network.objective.num_labels * decoding.beam)))
            indices, left = left[:count], left[count:]
            tokens = [torch.tensor([*sources[index], END], dtype=torch.int64) for index in indices]
            source = pad_sequence(tokens, batch_first=True, padding_value=PAD).to(device)
            state, lengths = encoder.encode(source), (source != PAD).sum(1)
            best = search.search(step, state, source_lengths=lengths)
            for index, its in zip(indices, best, strict=True):
                hypotheses[index] = its
    return hypotheses


def hypothesis_text(
    hypothesis: Hypothesis | None, source_line: str, source: Tokenizer, target: Tokenizer, *, replace_unknown: bool
) -> str:
    """Returns a hypothesis as text, unknown tokens replaced by the source token they attend to; "" where it is None."""
    if hypothesis is None:
        return ""
    is_possible = replace_unknown and target.level != "subword"  # whose pieces could not stand for one another
    if not is_possible or hypothesis.attention is None or UNKNOWN not in hypothesis.tokens:
        return target.decode(hypothesis.tokens)
    tokens, words = source.tokens(source_line), [target.vocabulary[token] for token in hypothesis.tokens]
    for index, (token, attended) in enumerate(zip(hypothesis.tokens, hypothesis.attention, strict=True)):
        if token == UNKNOWN and attended < len(tokens):  # beyond it stands END
            words[index] = tokens[attended]
    return (" " if target.level == "word" else "").join(words)


def text_metrics(hypotheses: Sequence[str], references: Sequence[str], *, level: str) -> dict[str, Any]:
    """Returns BLEU and its parts, chrF and ROUGE as fractions; at the `level` `character` those count as words."""
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
    """Returns the metrics of what a network writes for a split, and the texts."""
    pairs = corpus.splits[split]
    best = decode(network, [pairs.source[index] for index in range(len(pairs))], decoding)
    tokenizers = corpus.source_tokenizer, corpus.target_tokenizer
    written = [
        hypothesis_text(its, line, *tokenizers, replace_unknown=decoding.replace_unknown)
        for its, line in zip(best, corpus.source_lines(split), strict=True)
    ]
    return text_metrics(written, corpus.references(split), level=corpus.target_tokenizer.level), written


def token_metrics(network: Network, pairs: SentencePairs) -> dict[str, float]:
    """Returns the metrics over all target tokens, END among them, each after the right words before it.

    `error` and `top5_error` are fractions, `nll` is in nats a token, `perplexity` its exponential.
    """
    nll, wrong, far, count = 0.0, 0, 0, 0
    for logits, labels in logits_and_labels(network, pairs):
        nll += float(F.cross_entropy(logits, labels, reduction="sum"))
        wrong += int((logits.argmax(1) != labels).sum())
        far += int((logits.topk(min(5, logits.shape[1])).indices != labels[:, None]).all(1).sum())
        count += len(labels)
    if not math.isfinite(nll):
        raise ValueError("the network predicts values that are not finite")
    mean = nll / count
    return {"error": wrong / count, "top5_error": far / count, "nll": mean, "perplexity": math.exp(min(mean, 700.0))}


def sentence_diagnostics(corpus: TextCorpus, split: str, written: Sequence[str]) -> dict[str, Any]:
    """Returns a sample of what a run on a corpus wrote for a split, each sentence with its own chrF as `score`.

    It is evenly spread over the split's sentences, `of` in number, so that every run shows the same ones.
    """
    texts = list(enumerate(zip(corpus.source_lines(split), corpus.references(split), written, strict=True)))
    sentences = [
        {"place": place, "source": source, "reference": reference, "output": output}
        | {"score": chrf([output], [[reference]]).value}
        for place, (source, reference, output) in texts[:: len(texts) // _SHOWN + 1]
    ]
    return {"split": split, "of": len(written), "sentences": sentences}
