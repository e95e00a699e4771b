"""Beam search of 10 over a batch of sentences, against one sentence at a time written plainly."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.timing import interleaved
from labelembed.lab.models import AttentionLSTM, BeamSearch
from labelembed.lab.models.attention_lstm import DecoderState
from labelembed.lab.special_tokens import BEGIN, END, PAD

LABELS, WIDTH, SENTENCES, LENGTH, BEAM, ROUNDS = 8_000, 256, 64, 12, 10, 3
LIMIT = 2 * LENGTH + 10
PLAINLY, TOGETHER = "one sentence at a time, plainly", "one sentence, its beam together"
Found = list[list[int]]


@dataclass(frozen=True)
class Counted:
    """The decoder's state, and how many tokens are written."""

    state: DecoderState
    length: int

    def select(self, index: Tensor) -> Counted:
        """Returns the rows `index`."""
        return Counted(self.state.select(index), self.length)


class MadeTranslator:
    """Random weights; the end grows likely around the 15th token, as in no order of words it would."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = AttentionLSTM(source_vocabulary_size=LABELS, target_vocabulary_size=LABELS, width=WIDTH).eval()
        self.output = nn.Linear(WIDTH, LABELS)
        nn.init.normal_(self.output.weight, std=4.0)
        self.source = torch.randint(END + 1, LABELS, (SENTENCES, LENGTH))

    def start(self, source: Tensor) -> Counted:
        """Returns the state that decoding of source [B, S] starts from."""
        return Counted(self.network.encode(source), 0)

    def step(self, tokens: Tensor, state: Counted) -> tuple[Tensor, Counted, Tensor]:
        """Returns log-probabilities [N, C] after tokens [N], the next state and the attention."""
        hidden, after, attention = self.network.step(tokens, state.state)
        logits = self.output(hidden)
        logits[:, END] += 2.0 * (state.length - 9)
        return logits.log_softmax(-1), Counted(after, state.length + 1), attention


def plain_search(translator: MadeTranslator, *, together: bool) -> Found:
    """Returns the best tokens of each sentence; `together`: the hypotheses of a sentence take one step."""
    return [_plain_sentence(translator, source[None], together=together) for source in translator.source]


def _plain_sentence(translator: MadeTranslator, source: Tensor, *, together: bool) -> list[int]:
    open_ones: list[tuple[float, list[int], Counted, int]] = [(0.0, [], translator.start(source), 0)]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(LIMIT):
        last = [tokens[-1] if tokens else BEGIN for _, tokens, _, _ in open_ones]
        if together:
            state = open_ones[0][2].select(torch.tensor([row for _, _, _, row in open_ones]))
            log_probabilities, state, _ = translator.step(torch.tensor(last), state)
            stepped = [(line, state, row) for row, line in enumerate(log_probabilities)]
        else:
            stepped = []
            for token, (_, _, state, _) in zip(last, open_ones, strict=True):
                log_probabilities, after, _ = translator.step(torch.tensor([token]), state)
                stepped.append((log_probabilities[0], after, 0))
        candidates = []
        for (total, tokens, _, _), (line, state, row) in zip(open_ones, stepped, strict=True):
            line[PAD] = line[BEGIN] = -torch.inf
            values, places = line.topk(BEAM + 1)
            for value, token in zip(values.tolist(), places.tolist(), strict=True):
                candidates.append((total + value, [*tokens, token], state, row))
        candidates.sort(key=lambda one: -one[0])
        finished += [(total, tokens[:-1]) for total, tokens, _, _ in candidates[:BEAM] if tokens[-1] == END]
        open_ones = [one for one in candidates if one[1][-1] != END][:BEAM]
        best = max((total for total, _ in finished), default=-float("inf"))
        if len(finished) >= BEAM or open_ones[0][0] <= best:
            break
    return max(finished)[1]


def batched_search(translator: MadeTranslator) -> Found:
    search = BeamSearch(beam=BEAM, maximum_length=LIMIT)
    found = search.search(translator.step, translator.start(translator.source), batch_size=SENTENCES)
    return [list(hypotheses[0].tokens) for hypotheses in found]


@torch.no_grad()
def run() -> None:
    """Prints sentences a second of each way, and how many times the plain ones the batched search has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        translator = MadeTranslator()
        found: dict[str, Found] = {}
        ways: dict[str, Callable[[], Found]] = {
            "batched": lambda: found.setdefault("batched", batched_search(translator)),
            PLAINLY: lambda: found.setdefault(PLAINLY, plain_search(translator, together=False)),
            TOGETHER: lambda: found.setdefault(TOGETHER, plain_search(translator, together=True)),
        }
        times = interleaved(ways, rounds=ROUNDS, calls=1)
        for name, tokens in found.items():
            # Sums are rounded in another order: a near tie may fall the other way.
            same = sum(one == other for one, other in zip(tokens, found["batched"], strict=True))
            assert same >= 0.9 * SENTENCES, f"{name}: {same} of {SENTENCES} sentences are those of the batched search"
        lengths = [len(tokens) for tokens in found["batched"]]
        print(
            f" {SENTENCES} sentences of {LENGTH} tokens, {LABELS:,} labels, width {WIDTH}, beam {BEAM}, one thread; "
            f"{statistics.mean(lengths):.1f} tokens written"
        )
        for name, seconds in times.items():
            ratios = [one / base for one, base in zip(seconds, times["batched"], strict=True)]
            goal = "  (goal at least 8)" if name == PLAINLY else ""
            print(
                f"  {name:<34} {SENTENCES / min(seconds):7.1f} sentences a second; takes "
                f"{statistics.median(ratios):.2f} ± {statistics.stdev(ratios):.2f} times as long, n = {ROUNDS}{goal}"
            )
    finally:
        torch.set_num_threads(threads)
