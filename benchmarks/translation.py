"""One training step of `translation-lstm` at 8,000 words: label embedding against one-hot."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.timing import interleaved, print_ratios
from labelembed.lab.models import AttentionLSTM
from labelembed.lab.special_tokens import BEGIN, SPECIAL_TOKENS
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot
from labelembed.objectives.base import Objective

WORDS, SENTENCES, LENGTH, ROUNDS = 8_000, 64, 14, 8
VARIANTS: dict[str, Callable[[int], Objective]] = {
    "one_hot": lambda size: OneHot(size, WORDS),
    "label_smoothing": lambda size: LabelSmoothing(size, WORDS),
    "label_embedding": lambda size: LabelEmbedding(size, WORDS, embedding="compressed", rank=128),
    "shared head": lambda size: LabelEmbedding(size, WORDS, embedding="compressed", rank=128, auxiliary="shared"),
}


def training_step(make: Callable[[int], Objective]) -> Callable[[], None]:
    """Returns a function that makes one whole step on a batch of sentences of words as frequent as in a language."""
    torch.manual_seed(0)
    encoder = AttentionLSTM(source_vocabulary_size=WORDS, target_vocabulary_size=WORDS)
    head = make(encoder.hidden_size)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    frequency = 1 / torch.arange(1, WORDS - len(SPECIAL_TOKENS) + 1)
    source, labels = (
        len(SPECIAL_TOKENS) + torch.multinomial(frequency.expand(SENTENCES, -1), LENGTH, replacement=True)
        for _ in range(2)
    )
    target = torch.cat([torch.full((SENTENCES, 1), BEGIN), labels[:, :-1]], dim=1)

    def step() -> None:
        loss = head(encoder((source, target)), labels).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


def run() -> None:
    torch.set_num_threads(1)
    steps = {name: training_step(make) for name, make in VARIANTS.items()}
    words = SENTENCES * LENGTH
    print(f"  a step of translation-lstm, {words} words of {WORDS:,}, one thread")
    times = interleaved(steps, rounds=ROUNDS, calls=2)
    print_ratios(times, baseline="one_hot", goals={"label_embedding": 1.5, "1/4 of the rows": 1.25})
