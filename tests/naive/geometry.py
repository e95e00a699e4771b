"""Agreement of distances, as the textbooks define it: loops over pairs."""

import math


def naive_tau_b(one, other):
    """(concordant - discordant) / sqrt((pairs - ties in one) (pairs - ties in other)); None where undefined."""
    concordant = discordant = untied_one = untied_other = 0
    for i in range(len(one)):
        for j in range(i):
            first = (one[i] > one[j]) - (one[i] < one[j])
            second = (other[i] > other[j]) - (other[i] < other[j])
            concordant += first * second > 0
            discordant += first * second < 0
            untied_one += first != 0
            untied_other += second != 0
    if untied_one == 0 or untied_other == 0:
        return None
    return (concordant - discordant) / math.sqrt(untied_one * untied_other)


def naive_agreement(learned, reference):
    """The mean over labels of tau-b between their rows, themselves left out; and each label's tau or None."""
    taus = []
    for label in range(len(learned)):
        others = [other for other in range(len(learned)) if other != label]
        taus.append(naive_tau_b([learned[label][o] for o in others], [reference[label][o] for o in others]))
    defined = [tau for tau in taus if tau is not None]
    return (math.fsum(defined) / len(defined) if defined else math.nan), taus


def naive_path_lengths(parents, names):
    """Edges between labels in a tree given as {child: parent}: up both ways to the first common ancestor."""

    def way_up(node):
        way = [node]
        while parents.get(way[-1]) is not None:
            way.append(parents[way[-1]])
        return way

    table = []
    for one in names:
        row = []
        for other in names:
            up, down = way_up(one), way_up(other)
            row.append(min(up.index(node) + down.index(node) for node in up if node in down))
        table.append(row)
    return table


def naive_average_linkage(distances):
    """Heights at which groups join, smallest mean distance between members first."""
    groups = [[label] for label in range(len(distances))]
    heights = []
    while len(groups) > 1:
        best = None
        for i in range(len(groups)):
            for j in range(i):
                pairs = [distances[a][b] for a in groups[i] for b in groups[j]]
                mean = math.fsum(pairs) / len(pairs)
                if best is None or mean < best[0]:
                    best = (mean, i, j)
        height, i, j = best
        heights.append(height)
        groups[j] += groups.pop(i)
    return heights


def naive_cosine(first, second):
    lengths = [math.sqrt(max(sum(value**2 for value in vector), 1e-12)) for vector in (first, second)]
    return sum(a * b for a, b in zip(first, second, strict=True)) / (lengths[0] * lengths[1])
