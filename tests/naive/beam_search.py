"""Beam search of one sentence, hypothesis by hypothesis, and the list of all sequences there are."""

from __future__ import annotations

from itertools import product

PAD, UNKNOWN, BEGIN, END = range(4)
NOTHING = -float("inf")


def naive_penalty(length, alpha):
    """Wu et al. 2016, eq. 14, with the end counted in the length."""
    return ((5 + length) / 6) ** alpha


def naive_beam_search(log_probabilities_of, *, beam, maximum_length, minimum_length=0, length_penalty=0.0):
    """Returns (tokens, score, sum, finished) of the best; `log_probabilities_of(prefix)` gives one row [C]."""
    open_ones = [(0.0, ())]
    finished = []
    for length in range(maximum_length + 1):
        candidates = []
        for place, (total, prefix) in enumerate(open_ones):
            for token, value in enumerate(log_probabilities_of(prefix)):
                if token in (PAD, BEGIN) or value == NOTHING:
                    continue
                if length < minimum_length if token == END else length == maximum_length:
                    continue
                candidates.append((-(total + value), place, -value, token, prefix))
        candidates.sort()
        for cost, _, _, token, prefix in candidates[:beam]:
            if token == END:
                finished.append((prefix, -cost / naive_penalty(length + 1, length_penalty), -cost, True))
        before = open_ones
        open_ones = [(-cost, (*prefix, token)) for cost, _, _, token, prefix in candidates if token != END][:beam]
        if not open_ones:
            if not finished:
                total, prefix = before[0]
                return prefix, total / naive_penalty(length, length_penalty), total, False
            break
        if len(finished) >= beam:
            break
        if finished:
            lengths = range(max(length + 1, minimum_length) + 1, maximum_length + 2)
            reachable = [total / naive_penalty(final, length_penalty) for total, _ in open_ones for final in lengths]
            if max(reachable) <= max(one[1] for one in finished):
                break
    return max(finished, key=lambda one: one[1])


def naive_best_sequence(log_probabilities_of, *, labels, maximum_length, minimum_length=0, length_penalty=0.0):
    """Returns (tokens, score, sum) of the best of all sequences there are."""
    producible = [token for token in range(labels) if token not in (PAD, BEGIN, END)]
    found = []
    for length in range(minimum_length, maximum_length + 1):
        for tokens in product(producible, repeat=length):
            ended = (*tokens, END)
            total = sum(log_probabilities_of(tokens[:place])[token] for place, token in enumerate(ended))
            if total > NOTHING:
                found.append((tokens, total / naive_penalty(len(ended), length_penalty), total))
    return max(found, key=lambda one: one[1])
