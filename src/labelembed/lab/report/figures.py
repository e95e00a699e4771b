"""The figures of numbers: the forest plot, calibration and risk against coverage, and curves over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.drawing import INK, Figure, line_style, series_colour
from labelembed.lab.report.error_analysis import ErrorAnalysis, calibration_gap, risk_coverage
from labelembed.lab.report.formatting import interval, listed, number, shortened
from labelembed.lab.report.ranking import best_method, drawn_variants, series_positions
from labelembed.lab.report.table import compare_variants, epoch_seconds, shared_machine, timed_against
from labelembed.metrics import PairedComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# The accuracy of fewer examples is mostly chance.
_FEWEST_IN_BIN = 10
# Of more points the lines of each run are a grey fog, and the page is heavy.
_MOST_POINTS = 3_000


class _Line(NamedTuple):
    """One variant of one panel: its mean as text, the difference to the control and that of each seed, as shown."""

    text: str
    difference: PairedComparison | None
    seeds: list[float]


# ------------------------------------------------------------------------------------------------------------ forest


def forest_figure(comparison: Comparison, reference: VariantRuns | None, *, narrow: bool = False) -> Figure | None:
    """Returns each variant against the one that decides, in error and calibrated NLL; None where nothing is compared.

    Args:
        comparison: What is drawn.
        reference: What the verdict's method is held against.
        narrow: For a phone: one panel below the other.
    """
    if reference is None:
        return None
    method, order = best_method(comparison), series_positions(comparison)
    shown = [one for one in drawn_variants(comparison) if one.runs and one.name not in (reference.name,)]
    shown.sort(key=lambda one: method is None or one.name != method.name)
    shown.append(reference)
    differences = {one.name: compare_variants(one, reference, comparison.split) for one in shown[:-1]}
    panels = _panels(comparison, shown, reference, differences)
    if not panels or not any(line.difference for _, _, _, lines in panels for line in lines):
        return None
    times = _times(comparison, shown)
    width, row = (4.4, 0.42) if narrow else (11.8, 0.34)
    height = 0.72 + row * len(shown)
    sizes = (width, height * len(panels)) if narrow else (width, height)

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(len(panels) if narrow else 1, 1 if narrow else len(panels), squeeze=False).ravel()
        for index, (axes, (label, scale, decimals, lines)) in enumerate(zip(grid, panels, strict=True)):
            names = [fill(shortened(one.title, 60), 34) for one in shown]
            names[-1] += " (control)"
            axes.set_yticks(range(len(shown)), names if narrow or index == 0 else [""] * len(shown))
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(shown) - 0.4, -0.6)
            axes.spines["left"].set_visible(False)
            axes.axvline(0, color=INK, lw=0.8, alpha=0.6, zorder=0)
            axes.grid(axis="x", alpha=0.15, linewidth=0.6)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\u2212"))
            axes.set_xlabel(label.replace(", ", ",\n", 1) if narrow else label)
            axes.set_xlim(*_range(lines, scale))
            columns = [("mean", [line.text for line in lines])]
            columns += [("time", times)] if index == len(panels) - 1 and any(times) else []
            for place, (heading, texts) in enumerate(columns):
                x = 1.13 + 0.14 * place
                for y, text in enumerate([heading, *texts], start=-1):
                    at = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
                    axes.text(x, y if y >= 0 else -0.85, text, alpha=1 if y >= 0 else 0.7, **at)
            for y, (one, line) in enumerate(zip(shown, lines, strict=True)):
                _draw_line(axes, line, y, series_colour(order[one.name]), scale)
            axes.get_yticklabels()[0].set_fontweight("bold")

    joint = any(line.difference and line.difference.joint for _, _, _, lines in panels for line in lines)
    caption = "Dots are seeds, the stroke their mean; thick bars are 95 % intervals over seeds"
    caption += ", thin ones over seeds and test examples. " if joint else ". "
    caption += f"Left of 0 is better than {reference.title}" if comparison.headline == "error" else ""
    caption += ". Bars that reach the edge go on." if any(_is_cut(lines, scale) for _, scale, _, lines in panels) else "."
    if len(shown) < len(comparison.finished):
        caption += f" {len(shown)} of {len(comparison.finished)} variants are drawn; all are in the tables."
    spoken = [
        f"{one.title}: {number(line.difference.difference, decimals, scale=scale)}"
        f" (95 % interval {interval(line.difference[2:4], decimals, scale=scale)})"
        for label, scale, decimals, lines in panels[:1]
        for one, line in zip(shown, lines, strict=True)
        if line.difference
    ]
    description = f"{panels[0][0]}. {listed(spoken)}."
    key = "forest-narrow" if narrow else "forest"
    caption = caption.replace(". .", ".").replace("..", ".")
    return Figure(key, sizes, f"Each variant against {reference.title}", description, draw, caption)


def _panels(
    comparison: Comparison, shown: list[VariantRuns], reference: VariantRuns, differences: Mapping[str, Any]
) -> list[tuple[str, float, int, list[_Line]]]:
    """Returns label, scale, decimals and lines of each panel."""
    split, is_bleu = comparison.split, comparison.headline == "bleu"
    calibrated = any(one.metrics(split, "nll", calibrated=True) for one in shown)
    wanted = [("bleu" if is_bleu else "error", 100.0, 2), ("calibrated_nll" if calibrated else "nll", 1.0, 3)]
    better = "higher" if is_bleu else "lower"
    labels = {
        "error": f"{split} error minus that of {shortened(reference.title, 40)}, points (lower is better)",
        "bleu": f"{split} BLEU minus that of {shortened(reference.title, 40)}, points ({better} is better)",
        "calibrated_nll": "NLL after temperature scaling, the same difference, nats",
        "nll": "NLL, the same difference, nats",
    }
    panels = []
    for metric, scale, decimals in wanted:
        name, after = metric.removeprefix("calibrated_"), metric.startswith("calibrated_")
        theirs = reference.metrics(split, name, calibrated=after)
        lines = []
        for one in shown:
            ours = one.metrics(split, name, calibrated=after)
            mean = sum(ours.values()) / len(ours) if ours else None
            text = number(mean, decimals, scale=scale) + (" %" if metric == "error" and ours else "")
            seeds = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
            lines.append(_Line(text, differences.get(one.name, {}).get(metric), seeds))
        if any(line.seeds for line in lines):
            panels.append((labels[metric], scale, decimals, lines))
    return panels


def _times(comparison: Comparison, shown: list[VariantRuns]) -> list[str]:
    """Returns the time of an epoch of each variant as a ratio to cross entropy, or the baseline."""
    timed, about = timed_against(comparison), "\u2248" if shared_machine(comparison) else ""
    texts = []
    for one in shown:
        ratios = [
            ours / theirs
            for seed, run in one.runs.items()
            if timed is not None and seed in timed.runs
            if (ours := epoch_seconds(run)) and (theirs := epoch_seconds(timed.runs[seed]))
        ]
        is_unit = timed is not None and one.name == timed.name
        texts.append("1\u00d7" if is_unit else f"{about}{np.mean(ratios):.2f}\u00d7" if ratios else "")
    return texts


def _ends(line: _Line) -> list[float]:
    if line.difference is None:
        return []
    both = [*line.difference[2:4], *(line.difference.joint[:2] if line.difference.joint else ())]
    return [end for end in both if math.isfinite(end)]


def _range(lines: list[_Line], scale: float) -> tuple[float, float]:
    """Returns the ends of the axis: all dots and 0 are within; so are the intervals, unless one is far too wide."""
    dots = [0.0, *(one for line in lines for one in line.seeds)]
    ends = [*dots, *(end for line in lines for end in _ends(line))]
    reach = 2 * ((max(dots) - min(dots)) or 0.01)
    low, high = max(min(ends), min(dots) - reach), min(max(ends), max(dots) + reach)
    margin = 0.04 * ((high - low) or 1.0)
    return scale * (low - margin), scale * (high + margin)


def _is_cut(lines: list[_Line], scale: float) -> bool:
    low, high = _range(lines, scale)
    return any(not low <= scale * end <= high for line in lines for end in _ends(line))


def _draw_line(axes: Axes, line: _Line, y: float, colour: str, scale: float) -> None:
    found = line.difference
    if found is None:
        axes.scatter([0] if line.seeds else [], [y] if line.seeds else [], s=22, marker="D", color=colour, zorder=3)
        return
    if found.joint is not None:
        axes.plot([scale * end for end in found.joint[:2]], [y, y], color=colour, lw=1.1, zorder=1)
    if math.isfinite(found.interval_low):
        ends = [scale * found.interval_low, scale * found.interval_high]
        axes.plot(ends, [y, y], color=colour, lw=6, alpha=0.4, solid_capstyle="butt", zorder=2)
    # Spread by the order of the seeds, never by chance.
    spread = np.linspace(-0.18, 0.18, len(line.seeds)) if len(line.seeds) > 1 else np.zeros(1)
    axes.scatter(scale * np.array(line.seeds), y + spread, s=10, color=colour, alpha=0.85, linewidths=0, zorder=5)
    mean = scale * found.difference
    axes.plot([mean, mean], [y - 0.28, y + 0.28], color=colour, lw=2.2, zorder=4)


# ------------------------------------------------------------------------------------------------------- calibration


def calibration_figure(comparison: Comparison, errors: Mapping[str, ErrorAnalysis]) -> Figure | None:
    """Returns accuracy against confidence before and after temperature scaling, and error against coverage."""
    chosen = [one for one in drawn_variants(comparison) if one.name in errors][:7]
    if not chosen:
        return None
    order = series_positions(comparison)
    scaled = all(errors[one.name].calibrated is not None for one in chosen)
    panels = ["before temperature scaling", *(["after temperature scaling"] if scaled else []), "error against coverage"]

    def bins(one: VariantRuns, *, after: bool) -> NDArray[np.float64]:
        analysis = errors[one.name]
        return analysis.calibrated if after and analysis.calibrated is not None else analysis.reliability

    def draw(canvas: Canvas) -> None:
        for axes, heading in zip(canvas.subplots(1, len(panels)), panels, strict=True):
            axes.set_title(heading, loc="left")
            axes.grid(alpha=0.15, linewidth=0.6)
            for one in chosen:
                found, position = bins(one, after=scaled and heading != panels[0]), order[one.name]
                style: dict[str, Any] = {"color": series_colour(position), "linestyle": line_style(position), "lw": 1.4}
                style["label"] = fill(shortened(one.title, 60), 30)
                if heading == panels[-1]:
                    coverage, risk = 100 * _risk(one, comparison, found)
                    axes.plot(coverage, risk, marker=".", **style)
                else:
                    known = found[0] >= _FEWEST_IN_BIN * errors[one.name].runs
                    axes.plot(*(100 * found[1:, known]), marker=".", **style)
            if heading != panels[-1]:
                axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
                axes.set(xlim=(0, 101), ylim=(0, 102), xlabel="confidence (%)", ylabel="accuracy (%)")
            else:
                axes.set(ylim=(0, None), xlabel="coverage: share of examples answered (%)", ylabel="error (%)")
        handles, labels = canvas.axes[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.2)

    caption = (
        "Left: below the dotted line the network is over-confident, above it under-confident (bins with fewer than "
        f"{_FEWEST_IN_BIN} examples per run are left out). Right: the error that remains where the least confident "
        "examples are left to a person; lower is better."
    )
    gaps = [f"{one.title} {number(calibration_gap(bins(one, after=True)), 1, scale=100)} %" for one in chosen]
    description = f"Mean distance of accuracy from confidence{' after temperature scaling' if scaled else ''}: "
    return Figure("calibration", (11.8, 3.1), "Calibration", description + listed(gaps) + ".", draw, caption)


def _risk(one: VariantRuns, comparison: Comparison, bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns coverage and error: at 80, 90, 95 and 100 % where the runs measured it, else by bins of confidence."""
    measured = {
        share: one.metrics(comparison.split, "error" if share == 100 else f"error_at_{share}_coverage").values()
        for share in (80, 90, 95, 100)
    }
    if all(measured.values()):
        return np.array([[share / 100, np.mean(list(values))] for share, values in measured.items()]).T
    return risk_coverage(bins)


# ------------------------------------------------------------------------------------------------------------ curves


def curve_figure(comparison: Comparison) -> Figure | None:
    """Returns error (or BLEU) and NLL over the epochs, and the training loss where neither is known; None without any."""
    wanted = [(comparison.speed_split, "bleu"), (comparison.speed_split, "error"), (comparison.speed_split, "nll")]
    shown = drawn_variants(comparison)
    panels = [(split, name) for split, name in wanted if _curves(shown, split, name)]
    panels = panels[:2] or [(split, name) for split, name in [("train", "total")] if _curves(shown, split, name)]
    if not panels:
        return None
    order, one_variant = series_positions(comparison), len(comparison.variants) == 1
    curves = {panel: _curves(shown, *panel) for panel in panels}
    every = [curve for by_name in curves.values() for of_runs in by_name.values() for curve in of_runs]
    shaded = sum(len(curve) for curve in every) > _MOST_POINTS * len(panels)
    words = {"error": "error (%)", "bleu": "BLEU", "nll": "NLL (nats)", "total": "loss"}

    def draw(canvas: Canvas) -> None:
        from matplotlib.ticker import MaxNLocator

        for axes, (split, name) in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            scale = 1 if name in ("nll", "total") else 100
            for variant, of_runs in curves[split, name].items():
                colour, table = series_colour(order[variant]), scale * _together(of_runs)
                epochs = np.arange(1, table.shape[1] + 1)
                if len(table) > 1 and shaded:
                    low, high = np.fmin.reduce(table), np.fmax.reduce(table)
                    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
                for curve in table if len(table) > 1 and not shaded else ():
                    axes.plot(epochs, curve, color=colour, alpha=0.28, linewidth=0.7)
                # A run that ended earlier does not bend the mean.
                mean = table[:, : min(map(len, of_runs))].mean(axis=0)
                label = next(fill(shortened(one.title, 60), 30) for one in shown if one.name == variant)
                style = "-" if one_variant else line_style(order[variant])
                marker = "o" if len(mean) == 1 else None
                axes.plot(epochs[: len(mean)], mean, color=colour, linestyle=style, lw=1.9, label=label, marker=marker)
            axes.set_ylim(*_limits([scale * curve for of_runs in curves[split, name].values() for curve in of_runs]))
            title = "training loss" if name == "total" else f"{split} {words[name]}"
            axes.set_title(title, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        if not one_variant:
            handles, labels = canvas.axes[0].get_legend_handles_labels()
            canvas.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.2)

    caption = "" if one_variant else "Each run light, the mean over seeds dark."
    caption = "Shaded from the lowest to the highest run, the mean over seeds dark." if shaded else caption
    if not all(np.isfinite(curve).all() for curve in every):
        caption += " A run without a finite number has a gap, and so has the mean."
    if len({len(curve) for curve in every}) > 1:
        caption += " The runs are of unequal length; a mean ends with the shortest of its runs."
    ends = {name: float(np.mean([curve[np.isfinite(curve)][-1] for curve in of])) for name, of in curves[panels[0]].items()}
    titles = {one.name: one.title for one in shown}
    spoken = listed([f"{titles[name]} {end:.3g}" for name, end in ends.items()])
    description = f"Lines over epochs. Mean {' '.join(panels[0])} in the last epoch: {spoken}."
    return Figure("curves", (11.8, 3.1), "Curves over the epochs", description, draw, caption.strip())


def _curves(shown: list[VariantRuns], split: str, name: str) -> dict[str, list[NDArray[np.float64]]]:
    curves = {one.name: [run.curve(split, name) for run in one.runs.values()] for one in shown}
    known = {variant: [curve for curve in of_runs if np.isfinite(curve).any()] for variant, of_runs in curves.items()}
    return {variant: of_runs for variant, of_runs in known.items() if of_runs}


def _together(curves: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns curves of any length as one table [runs, epochs], nan where one has ended or has a gap."""
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return table


def _limits(curves: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Returns the ends of the axis; where the first epochs are far worse than all that matters they lie above it."""
    everything = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    later = np.concatenate([curve[len(curve) // 5 :] for curve in curves])
    lowest, highest = float(everything.min()), float(everything.max())
    last = float(np.nanmax(later)) if np.isfinite(later).any() else highest
    highest = last if last < highest / 2 else highest
    margin = 0.06 * ((highest - lowest) or abs(highest) or 0.01)
    return max(0.0, lowest - margin) if lowest >= 0 else lowest - margin, highest + margin
