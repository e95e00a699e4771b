"""Sentences out of a trained network: greedy or by beam search, as text, with BLEU, chrF and ROUGE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from labelembed.lab.data import TextCorpus, Tokenizer
from labelembed.lab.models import BeamSearch, Hypothesis
from labelembed.lab.special_tokens import END, PAD, UNKNOWN
from labelembed.lab.training.network import Network, evaluation_mode
from labelembed.lab.training.settings import Block, Flag, Number, PositiveInt
from labelembed.metrics import bleu, chrf, rouge

# Hypotheses and source tokens of one batch: what attention holds for each step.
_TOKENS_AT_ONCE = 20_000

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
        """Returns the search for so many hypotheses of each sentence.

        Raises:
            ValueError: When an argument is out of its range.
        """
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
    device = next(network.parameters()).device
    encoder: Any = network.encoder

    def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor | None]:
        hidden, state, attention = encoder.step(tokens, state)
        return network.objective.logits(hidden).float().log_softmax(-1), state, attention

    found: list[list[Hypothesis]] = [[] for _ in sources]
    with evaluation_mode(network):
        for places in _batches_by_length([len(source) for source in sources], beam=decoding.beam):
            source = _padded([sources[place] for place in places]).to(device)
            state, lengths = encoder.encode(source), (source != PAD).sum(1)
            best = search.search(step, state, batch_size=len(places), source_lengths=lengths, device=device)
            for place, hypotheses in zip(places, best, strict=True):
                found[place] = hypotheses
    return found


def _batches_by_length(lengths: Sequence[int], *, beam: int) -> Iterator[list[int]]:
    """Yields the places of sentences of like length, the longest first: what does not fit shows at once."""
    batch: list[int] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        longest = longest or lengths[place] + 1
        if batch and (len(batch) + 1) * longest * beam > _TOKENS_AT_ONCE:
            yield batch
            batch, longest = [], lengths[place] + 1
        batch.append(place)
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


def text_metrics(hypotheses: Sequence[str], references: Sequence[str], *, level: str) -> dict[str, Any]:
    """Returns BLEU with its brevity penalty and length ratio, chrF and the F1 of ROUGE-1, 2 and L as fractions.

    Args:
        hypotheses: What was written.
        references: What should have been.
        level: Of the target side; characters are counted as words for `character`.
    """
    by_character = level == "character"
    found = rouge(hypotheses, [references], level="character" if by_character else "word")
    written = bleu(hypotheses, [references], tokenize="char" if by_character else "13a")
    return {
        "bleu": written.value,
        "brevity_penalty": written.details["brevity_penalty"],
        "length_ratio": written.details["hypothesis_tokens"] / max(written.details["reference_tokens"], 1),
        "chrf": chrf(hypotheses, [references]).value,
    } | {name: score.value for name, score in found.items()}


def evaluate_text(
    network: Network, corpus: TextCorpus, split: str, decoding: Decoding
) -> tuple[dict[str, Any], list[str]]:
    """Returns the metrics of what a network writes for a split, and the texts; an empty one where nothing was found."""
    pairs = corpus.splits[split]
    found = decode(network, [pairs.source[place] for place in range(len(pairs))], decoding)
    tokenizers = corpus.source_tokenizer, corpus.target_tokenizer
    written = [
        hypothesis_text(best[0], line, *tokenizers, replace_unknown=decoding.replace_unknown) if best else ""
        for best, line in zip(found, corpus.source_lines(split), strict=True)
    ]
    return text_metrics(written, corpus.references(split), level=corpus.target_tokenizer.level), written
