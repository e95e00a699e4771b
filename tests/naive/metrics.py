"""Metrics and statistics as their papers and textbooks write them: plain loops in float64."""

import itertools
import math
from fractions import Fraction

from scipy import stats

from .cross_entropy import naive_softmax


def naive_top_k_error(logits, labels, k):
    wrong = 0
    for row, label in zip(logits, labels, strict=True):
        best_first = sorted(range(len(row)), key=lambda column: -row[column])  # sorted() is stable
        if label not in best_first[:k]:
            wrong += 1
    return wrong / len(labels)


def naive_negative_log_likelihood(logits, labels):
    losses = []
    for row, label in zip(logits, labels, strict=True):
        top = max(row)
        losses.append(math.log(math.fsum(math.exp(value - top) for value in row)) + top - row[label])
    return math.fsum(losses) / len(losses)


def naive_brier_score(logits, labels):
    scores = []
    for row, label in zip(logits, labels, strict=True):
        for column, probability in enumerate(naive_softmax(row)):
            scores.append((probability - (1.0 if column == label else 0.0)) ** 2)
    return math.fsum(scores) / len(labels)


def naive_reliability(logits, labels, bins):
    """Returns (count, confidence, accuracy) for each bin (b / bins, (b + 1) / bins], nan where empty."""
    found = []
    for index in range(bins):
        confidences, hits = [], 0
        for row, label in zip(logits, labels, strict=True):
            confidence = max(naive_softmax(row))
            if index / bins < confidence <= (index + 1) / bins:
                confidences.append(confidence)
                hits += 1 if list(row).index(max(row)) == label else 0
        count = len(confidences)
        if count:
            found.append((count, math.fsum(confidences) / count, hits / count))
        else:
            found.append((0, math.nan, math.nan))
    return found


def naive_calibration_error(logits, labels, bins):
    found = naive_reliability(logits, labels, bins)
    rows = sum(count for count, _, _ in found)
    return math.fsum(count / rows * abs(accuracy - confidence) for count, confidence, accuracy in found if count)


def naive_macro_f1(predicted, labels):
    scores = []
    for label in sorted({*predicted, *labels}):
        hits = sum(a == b == label for a, b in zip(predicted, labels, strict=True))
        scores.append(2 * hits / (list(predicted).count(label) + list(labels).count(label)))
    return math.fsum(scores) / len(scores)


def naive_balanced_accuracy(predicted, labels):
    recalls = []
    for label in sorted(set(labels)):
        hits = sum(a == b == label for a, b in zip(predicted, labels, strict=True))
        recalls.append(hits / list(labels).count(label))
    return math.fsum(recalls) / len(recalls)


def naive_risk_coverage(wrong, confidence):
    """The risk-coverage curve as the mean over all orders that rank by confidence, ties in every order."""

    def curve(order):
        return [Fraction(sum(wrong[i] for i in order[:k]), k) for k in range(1, len(order) + 1)]

    count = len(wrong)
    ranked = [
        order
        for order in itertools.permutations(range(count))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    risk = [sum(risks) / len(ranked) for risks in zip(*map(curve, ranked), strict=True)]
    best = curve(sorted(range(count), key=lambda i: wrong[i]))
    found = {"aurc": float(sum(risk) / count), "excess_aurc": float(sum(risk) / count - sum(best) / count)}
    for percent in (80, 90, 95):
        kept = next(k for k in range(1, count + 1) if 100 * k >= percent * count)
        found[f"error_at_{percent}_coverage"] = float(risk[kept - 1])
    return found


def naive_area_under_accuracy_curve(errors):
    return naive_mean([1.0 - error for error in errors])


def naive_epochs_to_reach(errors, target):
    for epoch, error in enumerate(errors, start=1):
        if error <= target:
            return epoch
    return None


def naive_epochs_saved(errors, baseline_errors, of_all=False):
    best_epoch, best = 1, baseline_errors[0]
    for epoch, error in enumerate(baseline_errors, start=1):
        if error < best:
            best_epoch, best = epoch, error
    reached = naive_epochs_to_reach(errors, best)
    if reached is None:
        return None
    whole = len(baseline_errors) if of_all else best_epoch
    return (whole - reached) / whole


def naive_mean(values):
    return math.fsum(values) / len(values)


def naive_standard_deviation(values):
    mean = naive_mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def naive_t_interval(differences, confidence):
    n = len(differences)
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * naive_standard_deviation(differences) / math.sqrt(n)
    return naive_mean(differences) - half, naive_mean(differences) + half


def naive_t_p(differences):
    standard_error = naive_standard_deviation(differences) / math.sqrt(len(differences))
    return 2 * stats.t.sf(abs(naive_mean(differences)) / standard_error, len(differences) - 1)


def naive_power(effect, n, level=0.05):
    """Returns the power of the two-sided paired t test for a true mean of `effect` standard deviations."""
    limit, shifted = stats.t.ppf(1 - level / 2, n - 1), stats.nct(n - 1, effect * math.sqrt(n))
    return shifted.sf(limit) + shifted.cdf(-limit)


def naive_holm(p_values):
    """Returns the corrected values straight from the definition: a maximum over all smaller values."""
    known = [p_value for p_value in p_values if p_value is not None]
    corrected = []
    for p_value in p_values:
        if p_value is None:
            corrected.append(None)
            continue
        candidates = []
        for smaller in known:
            if smaller <= p_value:
                not_smaller = sum(1 for other in known if other >= smaller)
                candidates.append(min(1.0, not_smaller * smaller))
        corrected.append(max(candidates))
    return corrected


def naive_joint_interval(differences, confidence):
    """The interval of a mean over seeds and examples: sums of squares and degrees of freedom as a textbook has them."""
    n, total = len(differences), len(differences[0])
    mean = math.fsum(math.fsum(row) for row in differences) / (n * total)
    seed_means = [math.fsum(row) / total for row in differences]
    example_means = [math.fsum(differences[s][i] for s in range(n)) / n for i in range(total)]
    seeds = total * math.fsum((one - mean) ** 2 for one in seed_means) / (n - 1)
    examples = n * math.fsum((one - mean) ** 2 for one in example_means) / (total - 1)
    rest = 0.0
    for s in range(n):
        for i in range(total):
            rest += (differences[s][i] - seed_means[s] - example_means[i] + mean) ** 2
    rest /= (n - 1) * (total - 1)
    parts = [(seeds, n - 1, 1), (examples, total - 1, 1), (rest, (n - 1) * (total - 1), -1)]
    if rest >= min(seeds, examples):  # a variance component below 0
        parts = [max(parts[:2])]
    variance = sum(sign * square for square, _, sign in parts)
    degrees = variance**2 / sum(square**2 / free for square, free, _ in parts)
    halves = []
    for square, free in ((variance, degrees), (seeds, n - 1)):
        halves.append(stats.t.ppf(0.5 + confidence / 2, free) * math.sqrt(square / (n * total)))
    return mean - max(halves), mean + max(halves)
