"""The figures of numbers: the forest plot, calibration and risk against coverage, and curves over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.drawing import INK, Figure, line_style, series_colour
from labelembed.lab.report.error_analysis import ErrorAnalysis, risk_coverage
from labelembed.lab.report.formatting import listed, number, shortened
from labelembed.lab.report.ranking import best_method, drawn_variants, series_positions
from labelembed.lab.report.table import compare_variants
from labelembed.metrics import PairedComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from pandas import DataFrame

# The accuracy of fewer examples is mostly chance; of more lines, or points of lines, a figure is a grey fog.
_FEWEST_IN_BIN, _MOST_LINES, _MOST_POINTS = 10, 7, 6_000


class _Panel(NamedTuple):
    """One panel of the forest plot; `column` is that of the means in `comparison_rows`."""

    metric: str
    column: str
    scale: float
    decimals: int
    label: str


def _name(variant: VariantRuns, width: int = 30) -> str:
    return fill(shortened(variant.title, 60), width)


def forest_figure(
    comparison: Comparison, rows: DataFrame, reference: VariantRuns | None, *, narrow: bool = False
) -> Figure | None:
    """Returns each variant against the one that decides, in error and calibrated NLL; None where nothing is compared.

    Args:
        comparison: What is drawn.
        rows: Its `comparison_rows`.
        reference: What the verdict's method is held against.
        narrow: For a phone: one panel below the other.
    """
    if reference is None:
        return None
    method, order, split = best_method(comparison), series_positions(comparison), comparison.split
    others = [one for one in drawn_variants(comparison) if one.runs and one.name != reference.name]
    shown = [*sorted(others, key=lambda one: method is None or one.name != method.name), reference]
    differences = {one.name: compare_variants(one, reference, split) for one in shown[:-1]}
    nll, after = ("calibrated_nll", " after temperature scaling") if rows["calibrated_nll_n"].sum() else ("nll", "")
    minus = f"minus that of {shortened(reference.title, 40)}, points"
    first = _Panel("error", f"{split}_error", 100, 2, f"{split} error {minus} (lower is better)")
    if comparison.headline == "bleu":
        first = _Panel("bleu", "bleu", 100, 2, f"{split} BLEU {minus} (higher is better)")
    panels = [first, _Panel(nll, nll, 1, 3, f"NLL{after}, the same difference, nats (lower is better)")]
    panels = [panel for panel in panels if any(panel.metric in of for of in differences.values())]
    if not panels:
        return None
    means = rows.set_index("variant")
    times = [f"{means['time_ratio_mean'].fillna(1.0)[one.name]:.2f}\u00d7" for one in shown]
    width, height = (4.4, 0.72 + 0.42 * len(shown)) if narrow else (11.8, 0.72 + 0.34 * len(shown))

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(len(panels) if narrow else 1, 1 if narrow else len(panels), squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=True):
            names = [*(_name(one, 34) for one in shown[:-1]), f"{_name(reference, 34)} (control)"]
            axes.set_yticks(range(len(shown)), names if narrow or axes is grid[0] else [""] * len(shown))
            axes.get_yticklabels()[0].set_fontweight("bold")
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(shown) - 0.4, -0.6)
            axes.spines["left"].set_visible(False)
            axes.axvline(0, color=INK, lw=0.8, alpha=0.6, zorder=0)
            axes.grid(axis="x", alpha=0.15, linewidth=0.6)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\u2212"))
            axes.set_xlabel(panel.label.replace(", ", ",\n", 1) if narrow else panel.label)
            name, after = panel.metric.removeprefix("calibrated_"), panel.metric.startswith("calibrated_")
            values = {one.name: one.metrics(split, name, calibrated=after) for one in shown}
            dots, ends = [0.0], [0.0]
            for y, one in enumerate(shown):
                ours, theirs = values[one.name], values[reference.name]
                own = [panel.scale * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
                found = differences.get(one.name, {}).get(panel.metric)
                ends += _draw_line(axes, found, own, panel.scale, y, series_colour(order[one.name]))
                dots += own
            axes.set_xlim(*_limits_of(dots, ends))
            text = [number(means[f"{panel.column}_mean"][one.name], panel.decimals, scale=panel.scale) for one in shown]
            columns = [["mean", *text]] + ([["time", *times]] if axes is grid[-1] and len(set(times)) > 1 else [])
            for index, texts in enumerate(columns):
                for y, cell in enumerate(texts, start=-1):
                    at: Any = (1, max(y, -0.85)), (40 + 42 * index, 0), axes.get_yaxis_transform(), "offset points"
                    axes.annotate(cell, *at, ha="right", va="center", alpha=1 if y >= 0 else 0.7)

    caption = (
        "Dots are seeds, the stroke their mean; thick bars are 95 % intervals over seeds, thin ones over seeds and "
        "test examples. A bar that reaches the edge goes on beyond it."
    )
    if len(shown) < len(comparison.finished):
        caption += f" {len(shown)} of {len(comparison.finished)} variants are drawn; all are in the tables."
    spoken = [
        f"{one.title} {number(of[panels[0].metric].difference, panels[0].decimals, scale=panels[0].scale)}"
        for one in shown
        if panels[0].metric in (of := differences.get(one.name, {}))
    ]
    size = (width, height * len(panels)) if narrow else (width, height)
    title, description = f"Each variant against {reference.title}", f"{panels[0].label}: {listed(spoken)}."
    return Figure("forest-narrow" if narrow else "forest", size, title, description, draw, caption)


def _draw_line(
    axes: Axes, found: PairedComparison | None, dots: list[float], scale: float, y: float, colour: str
) -> list[float]:
    """Draws seeds, mean and intervals of one variant; returns where its intervals end."""
    if found is None:
        axes.scatter([0], [y], s=22, marker="D", color=colour, zorder=3)
        return []
    seeds, both = found[2:4], found.joint[:2] if found.joint else (math.nan, math.nan)
    for ends, thick, alpha in ((both, 1.1, 1.0), (seeds, 6, 0.4)):
        axes.plot(scale * np.array(ends), [y, y], color=colour, lw=thick, alpha=alpha, solid_capstyle="butt")
    # Spread by the order of the seeds, never by chance.
    spread = np.linspace(-0.18, 0.18, len(dots)) if len(dots) > 1 else np.zeros(1)
    axes.scatter(dots, y + spread, s=10, color=colour, alpha=0.85, linewidths=0, zorder=5)
    axes.plot([scale * found.difference] * 2, [y - 0.28, y + 0.28], color=colour, lw=2.2, zorder=4)
    return [scale * end for end in (*both, *seeds) if math.isfinite(end)]


def _limits_of(dots: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of the axis: all dots are within; so are the intervals, unless one is far too wide."""
    low, high = min(dots), max(dots)
    reach = 2 * ((high - low) or 1.0)
    low, high = max(min(*dots, *ends), low - reach), min(max(*dots, *ends), high + reach)
    margin = 0.04 * ((high - low) or 1.0)
    return low - margin, high + margin


def calibration_figure(comparison: Comparison, errors: Mapping[str, ErrorAnalysis]) -> Figure | None:
    """Returns accuracy against confidence before and after temperature scaling, and error against coverage."""
    chosen = [one for one in drawn_variants(comparison) if one.name in errors][:_MOST_LINES]
    if not chosen:
        return None
    order, found = series_positions(comparison), {one.name: errors[one.name] for one in chosen}
    panels = {"before temperature scaling": {name: one.reliability for name, one in found.items()}}
    last = {name: one.reliability if one.calibrated is None else one.calibrated for name, one in found.items()}
    if all(one.calibrated is not None for one in found.values()):
        panels["after temperature scaling"] = last
    panels["error against coverage"] = last

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(1, len(panels))
        for axes, (heading, bins) in zip(grid, panels.items(), strict=True):
            axes.set_title(heading, loc="left")
            axes.grid(alpha=0.15, linewidth=0.6)
            for one in chosen:
                known = bins[one.name][:, bins[one.name][0] >= _FEWEST_IN_BIN * errors[one.name].runs]
                line = _risk(one, comparison.split, bins[one.name]) if axes is grid[-1] else known[1:]
                style: dict[str, Any] = {"color": series_colour(order[one.name]), "ls": line_style(order[one.name])}
                axes.plot(*(100 * line), marker=".", lw=1.4, label=_name(one), **style)
            if axes is grid[-1]:
                axes.set(ylim=(0, None), xlabel="coverage: share of examples answered (%)", ylabel="error (%)")
            else:
                axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
                axes.set(xlim=(0, 101), ylim=(0, 102), xlabel="confidence (%)", ylabel="accuracy (%)")
        _add_legend(canvas)

    caption = (
        "Left: below the dotted line the network is over-confident, above it under-confident (bins with fewer than "
        f"{_FEWEST_IN_BIN} examples per run are left out). Right: the error that remains where the least confident "
        "examples are left to a person; lower is better."
    )
    description = f"Accuracy over confidence, and error over coverage, of {listed([one.title for one in chosen])}."
    return Figure("calibration", (11.8, 3.1), "Calibration", description, draw, caption)


def _risk(one: VariantRuns, split: str, bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns coverage and error: at 80, 90, 95 and 100 % where the runs measured it, else by bins of confidence."""
    names = {share: f"error_at_{share}_coverage" for share in (80, 90, 95)} | {100: "error"}
    measured = {share: list(one.metrics(split, name).values()) for share, name in names.items()}
    if not all(measured.values()):
        return risk_coverage(bins)
    return np.array([[share / 100, np.mean(values)] for share, values in measured.items()]).T


def _add_legend(canvas: Canvas) -> None:
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.2)


def curve_figure(comparison: Comparison) -> Figure | None:
    """Returns error (or BLEU) and NLL over the epochs, the training loss where neither is known; None without any."""
    shown, order = drawn_variants(comparison), series_positions(comparison)
    validated = any(np.isfinite(run.curve("validation", "error")).any() for run in comparison.runs)
    split = "validation" if validated else comparison.split
    wanted = {
        f"{split} BLEU": (split, "bleu", 100.0),
        f"{split} error (%)": (split, "error", 100.0),
        f"{split} NLL (nats)": (split, "nll", 1.0),
        "training loss": ("train", "total", 1.0),
    }
    panels: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for heading, (place, name, scale) in wanted.items():
        curves = {one.name: [scale * run.curve(place, name) for run in one.runs.values()] for one in shown}
        known = {variant: [curve for curve in of if np.isfinite(curve).any()] for variant, of in curves.items()}
        if any(known.values()) and len(panels) < (2 if place != "train" else 1):
            panels[heading] = {variant: of for variant, of in known.items() if of}
    every = [curve for by_name in panels.values() for of_runs in by_name.values() for curve in of_runs]
    if not every:
        return None
    light = sum(map(len, every)) <= _MOST_POINTS

    def draw(canvas: Canvas) -> None:
        from matplotlib.ticker import MaxNLocator

        for axes, (heading, by_name) in zip(
            canvas.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for one in shown:
                colour, curves = series_colour(order[one.name]), by_name.get(one.name, [])
                for curve in curves if light and len(curves) > 1 else []:
                    axes.plot(np.arange(1, len(curve) + 1), curve, color=colour, alpha=0.28, linewidth=0.7)
                if curves:  # a run that ended earlier does not bend the mean
                    shortest = min(map(len, curves))
                    mean = np.mean([curve[:shortest] for curve in curves], axis=0)
                    style: dict[str, Any] = {
                        "color": colour,
                        "ls": line_style(order[one.name]) if len(shown) > 1 else "-",
                    }
                    marker = "o" if shortest == 1 else None
                    axes.plot(np.arange(1, shortest + 1), mean, lw=1.9, label=_name(one), marker=marker, **style)
            axes.set_ylim(*_limits([curve for of_runs in by_name.values() for curve in of_runs]))
            axes.set_title(heading, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        if len(shown) > 1:
            _add_legend(canvas)

    caption = (
        ("Each run light, the mean over seeds dark." if light else "The mean over seeds.") if len(shown) > 1 else ""
    )
    if not all(np.isfinite(curve).all() for curve in every):
        caption += " A run without a finite number has a gap, and so has the mean."
    if len({len(curve) for curve in every}) > 1:
        caption += " The runs are of unequal length; a mean ends with the shortest of its runs."
    description = f"Lines of {listed(list(panels))} over the epochs, of {listed([one.title for one in shown])}."
    return Figure("curves", (11.8, 3.1), "Curves over the epochs", description, draw, caption.strip())


def _limits(curves: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Returns the ends of the axis; where the first epochs are far worse than all that matters they lie above it."""
    everything = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    later = np.concatenate([curve[len(curve) // 5 :] for curve in curves])
    lowest, highest = float(everything.min()), float(everything.max())
    last = float(np.nanmax(later)) if np.isfinite(later).any() else highest
    highest = last if last < highest / 2 else highest
    margin = 0.06 * ((highest - lowest) or abs(highest) or 0.01)
    return max(0.0, lowest - margin) if lowest >= 0 else lowest - margin, highest + margin
