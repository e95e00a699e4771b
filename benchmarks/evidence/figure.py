"""The forest plot of the evidence: each data set's difference from tuned label smoothing, and the mean over all."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evidence.data_sets import DATA_SETS
from benchmarks.evidence.summary import CONTROL, differences, level, mean_with_half

#: The methods drawn, each with its marker and how far beside the line of its data set.
DRAWN = {"online_label_smoothing": ("o", -0.17), "label_embedding": ("s", 0.17)}
#: Of each panel: its title, and where its axis ends. The error is in points: a per cent of a small error says little.
PANELS = {
    "error": ("test error, points", 3.0),
    "nll": ("NLL after temperature scaling, %", 40.0),
}


def forest(results: Path, regime: str, colours: dict[str, str]) -> Figure:
    """Returns the plot, error in points on the left and NLL in per cent of tuned smoothing's on the right.

    Args:
        results: The folder of the results.
        regime: `long` or `short`.
        colours: `ink`, `faint`, `clear` (an interval without 0) and `open`.
    """
    names = [one.name for one in DATA_SETS if one.name in differences(results, regime, "error", CONTROL)]
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 0.31 * len(names) + 1.7), layout="constrained", sharey=True)
    for axes, (metric, (title, widest)) in zip(panels, PANELS.items(), strict=True):
        for method in DRAWN:
            _draw(axes, results, regime, metric, method, names, colours)
        axes.axvline(0, color=colours["ink"], linewidth=0.8)
        axes.axhline(len(names) - 0.5, color=colours["faint"], linewidth=0.8)
        axes.set_xlim(-widest, widest)
        axes.set_title(title, fontsize="medium")
    figure.supxlabel("difference from tuned label smoothing", fontsize="medium")
    panels[0].set_yticks(range(len(names) + 1), [*names, f"mean of {len(names)}"])
    panels[0].set_ylim(len(names) + 0.6, -0.8)
    panels[0].text(
        0.98 * panels[0].get_xlim()[0], -0.6, "← better", ha="left", va="center", color=colours["ink"], fontsize=9
    )
    for method, (marker, _) in DRAWN.items():
        panels[1].plot([], [], marker, color=colours["open"], markersize=6, label=method.replace("_", " "))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, labelcolor=colours["ink"])
    return figure


def _draw(
    axes: Axes, results: Path, regime: str, metric: str, method: str, names: list[str], colours: dict[str, str]
) -> None:
    marker, beside = DRAWN[method]
    found = differences(results, regime, metric, method)
    by_name = {one.name: one for one in DATA_SETS}
    means = []
    for place, name in enumerate(names):
        whole = level(results, by_name[name], regime, metric) if metric == "nll" else 1.0
        one, scale, y = found[name], 100 / whole, place + beside
        colour = colours["clear" if one.shown else "open"]
        for half, width in ((one.corrected, 1.0), (one.half, 3.5)):
            ends = ((one.mean - half) * scale, (one.mean + half) * scale)
            axes.plot(ends, (y, y), color=colour, linewidth=width, solid_capstyle="butt")
        means.append(one.mean * scale)
        axes.plot(means[-1], y, marker, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
    if len(means) > 1:
        mean, half = mean_with_half(means)
        colour, y = colours["clear" if abs(mean) > half else "open"], len(names) + beside
        axes.plot((mean - half, mean + half), (y, y), color=colour, linewidth=3.5, solid_capstyle="butt")
        axes.plot(mean, y, marker, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
