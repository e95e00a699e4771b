"""The Triton heads on a GPU against torch's naive one-hot head: time of forward and backward, and memory, in bfloat16.

All under autocast with float32 parameters, as this library trains. The variants take turns; memory is the most that was
allocated during a step above what stood before it, less the gradients. Beside them the elementwise work alone: the
kernels against plain lines that torch.compile fuses, which would make the kernels not worth their lines if as fast.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.heads import label_embedding_cross_entropy, linear_cross_entropy
from labelembed.heads.measured_forms import SETTINGS

RANK = 64
# Rows, H, labels.
SIZES = ((8192, 2048, 32_768), (16_384, 2048, 32_768), (8192, 4096, 131_072))
ROUNDS = 10
NAIVE = "one-hot, naive"
GOAL = "label embedding, triton"


class Made(NamedTuple):
    """Hidden rows, labels as frequent as words are, both layers, A and B."""

    hidden: Tensor
    labels: Tensor
    layers: tuple[Tensor, Tensor]
    tables: tuple[Tensor, Tensor]

    def learned(self) -> list[Tensor]:
        """Returns all that a gradient goes to."""
        return [self.hidden, *self.layers, *self.tables]


def made(size: tuple[int, int, int], device: torch.device) -> Made:
    """Returns what a head is given; about three in five rows are as the second layer says."""
    rows, width, num_labels = size
    source = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=source, device=device) * scale

    frequencies = 1 / torch.arange(1, num_labels + 1.0, device=device)
    labels = torch.multinomial(frequencies, rows, True, generator=source)
    layers = tuple(normal(num_labels, width, scale=0.02) for _ in range(2))
    hidden = normal(rows, width, scale=0.5)
    right = torch.rand(rows, generator=source, device=device) < 0.6
    hidden[right] += layers[1][labels[right]] * (10 / (width * 0.02**2))
    tables = normal(num_labels, RANK, scale=1.0), normal(RANK, num_labels, scale=RANK**-0.5)
    for value in (hidden, *layers, *tables):
        value.requires_grad_()
    return Made(hidden, labels, layers, tables)


def variants(given: Made) -> dict[str, Callable[[], Tensor]]:
    """Returns, by name, functions that return a loss."""
    hidden, labels, (first, second), tables = given

    def label_embedding(impl: str, *, shared: bool = False, **how: int) -> Callable[[], Tensor]:
        settings = SETTINGS._replace(shared=shared)
        other = None if shared else second

        def loss() -> Tensor:
            each = hidden, first, None, other, None, tables, labels, settings
            return label_embedding_cross_entropy(*each, impl=impl, **how).total

        return loss

    return {
        NAIVE: lambda: F.cross_entropy(F.linear(hidden, first), labels),
        "one-hot, triton": lambda: linear_cross_entropy(hidden, first, None, labels, impl="triton").total,
        GOAL: label_embedding("triton"),
        "the same, 1,024 rows at a time": label_embedding("triton", chunk_rows=1024),
        "no second head, triton": label_embedding("triton", shared=True),
        "label embedding, chunked": label_embedding("chunked", chunk_rows=2048),
    }


def step(loss: Callable[[], Tensor], given: Made) -> tuple[float, float]:
    """Returns the seconds of a forward and backward pass, and its MiB beside the gradients (nan on a CPU)."""
    for value in given.learned():
        value.grad = None
    device = given.hidden.device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    began = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16):
        total = loss()
    total.backward()
    if not on_gpu:
        return time.perf_counter() - began, float("nan")
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    gradients = sum(value.grad.nbytes for value in given.learned() if value.grad is not None)
    return seconds, (torch.cuda.max_memory_allocated() - before - gradients) / 2**20


def print_steps(size: tuple[int, int, int], device: torch.device, rounds: int) -> None:
    """Prints each variant's time and memory beside the naive one-hot head's."""
    given = made(size, device)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in variants(given)}
    for number in range(rounds + 2):
        for name, loss in variants(given).items():
            measured = step(loss, given)
            if number >= 2:  # kernels are compiled, and memory is at hand
                found[name].append(measured)
    print(f" N, H, C = {size}, bfloat16")
    base = found[NAIVE]
    memory = statistics.median(pair[1] for pair in base)
    for name, values in found.items():
        ratios = [value[0] / other[0] for value, other in zip(values, base, strict=True)]
        taken = statistics.median(pair[1] for pair in values)
        goal = "  (goal at most 1.0, and 1/20)" if name == GOAL else ""
        print(
            f"  {name:<32} {statistics.median(pair[0] for pair in values) * 1e3:8.1f} ms, ratio "
            f"{statistics.median(ratios):.3f} ± {statistics.stdev(ratios):.3f}, {taken:9.1f} MiB, "
            f"1/{memory / taken:.1f}, n = {rounds}{goal}"
        )


def plain_core(logits: Tensor, labels: Tensor, table: Tensor, piece: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the slopes of output + target, the normalisers, and the sum of softmax(e) z: for torch.compile."""
    exact = logits.float()
    normaliser = torch.logsumexp(exact, dim=1)
    soft = torch.softmax(table.float(), dim=1)[piece]
    is_label = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    slopes = 2 * (exact - normaliser[:, None]).exp() - soft - is_label.float()
    return slopes.to(logits.dtype), normaliser, (soft * exact).sum()


def kernel_core(logits: Tensor, labels: Tensor, table: Tensor, piece: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what `plain_core` returns, the slopes in the place of the logits."""
    from labelembed.heads import fused_triton_launch as launch
    from labelembed.heads.fused_triton_linear import slope_weights

    like = logits.new_empty(0, dtype=torch.float32)
    known = launch.row_statistics(logits, labels, like=like, sharpness=None)
    _, counts = torch.unique_consecutive(piece, return_counts=True)
    ends = counts.cumsum(0)
    places = torch.arange(len(table), device=table.device)
    normaliser = launch.row_statistics(table, None, like=like, sharpness=None).normaliser
    met, _ = launch.overwrite_by_slopes(
        logits,
        labels,
        known,
        launch.Pieces(ends - counts, ends, 2),
        launch.Targets(table, places, normaliser, None, adds=False, rectified=False),
        scales=like.new_ones(len(labels)),
        weights=slope_weights(2.0, 1.0, 1.0, 0.0, 1.0, like=like),
        writes=True,
    )
    assert met is not None
    return logits, known.normaliser, met


def core_inputs(rows: int, num_labels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns logits, labels, rows of E for every second row, and which is whose."""
    logits = torch.randn(rows, num_labels, device=device, dtype=torch.bfloat16)
    table = torch.randn(rows // 2, num_labels, device=device, dtype=torch.bfloat16)
    piece = torch.arange(rows, device=device) // 2
    return logits, piece.clone(), table, piece


def print_core(num_labels: int, device: torch.device, rounds: int) -> None:
    """Prints the time of the kernels beside that of the lines that torch.compile has fused."""
    inputs = core_inputs(2048, num_labels, device)
    ways = {"torch.compile": torch.compile(plain_core), "triton": kernel_core}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            way(*inputs)
            torch.cuda.synchronize()
            if number >= 2:
                times[name].append(time.perf_counter() - began)
    ratios = [one / other for one, other in zip(times["triton"], times["torch.compile"], strict=True)]
    print(
        f"  elementwise work of 2,048 rows, {num_labels:,} labels: triton "
        f"{statistics.median(times['triton']) * 1e3:.2f} ms, {statistics.median(ratios):.3f} ± "
        f"{statistics.stdev(ratios):.3f} of torch.compile's, n = {rounds}"
    )


def run() -> None:
    if not torch.cuda.is_available():
        print("  left out, there is no GPU")
        return
    device = torch.device("cuda")
    print(f"  {torch.cuda.get_device_name()}")
    for size in SIZES:
        print_steps(size, device, ROUNDS)
    for num_labels in sorted({size[2] for size in SIZES}):
        print_core(num_labels, device, ROUNDS)
