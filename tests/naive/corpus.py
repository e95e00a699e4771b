"""Text to token numbers, batches and row numbers, in plain loops; imports nothing of the package."""

from __future__ import annotations


def naive_vocabulary(lines: list[list[str]], *, size: int | None = None, min_count: int = 1) -> list[str]:
    """The special tokens, then tokens by count (most first) and by text."""
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    counts: dict[str, int] = {}
    for line in lines:
        for token in line:
            counts[token] = counts.get(token, 0) + 1
    frequent = [token for token in counts if counts[token] >= min_count and token not in special]
    ordered = sorted(frequent, key=lambda token: (-counts[token], token))
    return (special + ordered)[: size if size is not None else None]


def naive_numbers(line: list[str], vocabulary: list[str]) -> list[int]:
    """The number of each token, 1 for one that is not a token of the text."""
    return [vocabulary.index(token) if token in vocabulary[4:] else 1 for token in line]


def naive_batch(
    pairs: list[tuple[list[int], list[int]]], numbers: list[int]
) -> tuple[list[list[int]], list[list[int]], list[list[int]], list[list[int]]]:
    """Source, target, labels and rows of the pairs at the places `numbers`, padded to the longest."""
    row_of = {}
    row = 0
    for number, (_, target) in enumerate(pairs):
        for place in range(len(target) + 1):
            row_of[number, place] = row
            row += 1
    source_size = max(len(pairs[number][0]) for number in numbers) + 1
    target_size = max(len(pairs[number][1]) for number in numbers) + 1
    sources, targets, labels, rows = [], [], [], []
    for number in numbers:
        source, target = pairs[number]
        sources.append(source + [3] + [0] * (source_size - len(source) - 1))
        padding = target_size - len(target) - 1
        targets.append([2, *target] + [0] * padding)
        labels.append([*target, 3] + [-100] * padding)
        rows.append([row_of[number, place] for place in range(len(target) + 1)] + [0] * padding)
    return sources, targets, labels, rows


def naive_order(pairs: list[tuple[list[int], list[int]]], order: list[int]) -> list[int]:
    """The order sorted by the length of the source, among those of the target, otherwise as it was."""
    by_target = sorted(order, key=lambda number: len(pairs[number][1]))
    return sorted(by_target, key=lambda number: len(pairs[number][0]))


def naive_cuts(pairs: list[tuple[list[int], list[int]]], order: list[int], budget: int) -> list[list[int]]:
    """The order cut into batches of at most `budget` tokens with padding; END counts."""
    batches: list[list[int]] = []
    for number in order:
        tried = [*batches[-1], number] if batches else []
        longest = max((len(side) + 1 for each in tried for side in pairs[each]), default=0)
        if tried and longest * len(tried) <= budget:
            batches[-1] = tried
        else:
            batches.append([number])
    return batches
