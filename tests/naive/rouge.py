"""ROUGE as Lin (2004) defines it: lists of n-grams crossed off one by one, and the recursion of the subsequence."""

import functools


def naive_tokens(line, level):
    if level == "word":
        return line.split()
    return [letter for letter in line if not letter.isspace()]


def naive_n_grams(tokens, n):
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def naive_common(hypothesis, reference):
    """Every n-gram of the reference is matched at most once."""
    left = list(reference)
    common = 0
    for gram in hypothesis:
        if gram in left:
            left.remove(gram)
            common += 1
    return common


def naive_longest_common_subsequence(one, other):
    @functools.cache
    def length(i, j):
        if i == 0 or j == 0:
            return 0
        if one[i - 1] == other[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    return length(len(one), len(other))


def naive_f1(common, of_hypothesis, of_reference):
    precision = common / of_hypothesis if of_hypothesis else 0.0
    recall = common / of_reference if of_reference else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def naive_sentence_rouge(hypothesis, reference, level):
    """Returns {metric: F1} of one sentence and one reference."""
    one, other = naive_tokens(hypothesis, level), naive_tokens(reference, level)
    found = {}
    for n in (1, 2):
        grams, wanted = naive_n_grams(one, n), naive_n_grams(other, n)
        found[f"rouge{n}"] = naive_f1(naive_common(grams, wanted), len(grams), len(wanted))
    common = naive_longest_common_subsequence(tuple(one), tuple(other))
    found["rougeL"] = naive_f1(common, len(one), len(other))
    return found


def naive_rouge(hypotheses, references, level):
    """Returns {metric: F1}, means over the sentences, each by its best reference."""
    means = {}
    for name in ("rouge1", "rouge2", "rougeL"):
        best = []
        for row, hypothesis in enumerate(hypotheses):
            best.append(max(naive_sentence_rouge(hypothesis, lines[row], level)[name] for lines in references))
        means[name] = sum(best) / len(best)
    return means
