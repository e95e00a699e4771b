"""Figures, inline in the page or as files for a paper: the forest plot, calibration, and curves over the epochs."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelembed.lab.report.comparison import Comparison, VariantRuns
from labelembed.lab.report.decision import best_method, drawn_variants
from labelembed.lab.report.error_analysis import ErrorAnalysis
from labelembed.lab.report.formatting import listed, number, shortened
from labelembed.lab.report.tables import METRICS, compare_variants, write_text
from labelembed.metrics import PairedComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from pandas import DataFrame

#: Letters and axes.
INK = "#1a1b1c"
#: Told apart by colour-blind readers; the first is the baseline's grey.
SERIES = ("#4d4d4d", "#0067a5", "#c04c00", "#00795a", "#a04a86", "#8a6200", "#4a54b8")
_STYLES = ("-", (0, (5, 1.6)), (0, (7, 1.5, 1.4, 1.5)), (0, (1.4, 1)), (0, (9, 2)), (0, (3, 1.2, 1.2, 1.2)), "--")
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters that a reader can mark and search
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "ytick.labelsize"), 9),
    "xtick.labelsize": 8.5,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "text.parse_math", "image.composite_image"), False),
    "axes.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
# The accuracy of fewer examples is mostly chance; more lines of single runs are a grey fog.
_FEWEST_IN_BIN, _MOST_LIGHT = 10, 20
_WIDE, _LOW = 11.8, 3.1  # inches
_COVERAGES = {80: "error_at_80_coverage", 90: "error_at_90_coverage", 95: "error_at_95_coverage", 100: "error"}


@dataclass(frozen=True)
class Figure:
    """All that is needed to draw one figure, in so many inches, for the page or for a file.

    Its key begins every id in the SVG and names the file; its description is for those who do not see it.
    """

    key: str
    size: tuple[float, float]
    description: str
    draw: Callable[[Canvas], None]
    caption: str = ""

    def svg(self, *, inline: bool = False) -> str:
        """Returns an SVG of its own, dark on white; or `inline`, with the width and the letters that the page gives."""
        svg = self._drawn("svg", Date=None).decode()
        # The rule in its style, for everything in the page, would not stay inside the figure.
        unwanted = r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*|<defs>\s*<style.*?</style>\s*</defs>\s*"
        svg = re.sub(unwanted, "", svg[svg.index("<svg") :], flags=re.DOTALL)
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{self.key}-\1"', svg)
        svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{self.key}-", svg)
        # Two decimals of a point are enough, and halve the size.
        svg = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), svg)
        opening, rest = svg.split(">", 1)
        opening += f' role="img" stroke-linejoin="round" aria-label="{escape(self.description)}">'
        if inline:
            opening, letters = re.sub(r'\s(width|height)="[^"]*pt"', "", opening), "var(--letters, sans-serif)"
        else:
            opening += '<rect width="100%" height="100%" fill="#ffffff"/>'
            letters = "'DejaVu Sans', sans-serif"
        return f"{opening}{rest.strip()}\n".replace("'DejaVu Sans'", letters)

    def save(self, folder: Path) -> list[Path]:
        """Writes the figure into a folder as SVG and PDF; raises RunFolderError where it cannot be written."""
        # Without the day on which it was made: the same runs give the same file.
        pdf = self._drawn("pdf", CreationDate=None)
        return [write_text(folder / f"{self.key}.{kind}", of) for kind, of in (("svg", self.svg()), ("pdf", pdf))]

    def _drawn(self, kind: str, **metadata: str | None) -> bytes:
        import matplotlib
        from matplotlib.figure import Figure as Canvas

        written = io.BytesIO()
        # From the defaults, not from what the user has set: the same runs give the same file everywhere.
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS | {"svg.hashsalt": self.key})
            canvas = Canvas(figsize=self.size, layout="constrained")
            self.draw(canvas)
            canvas.savefig(written, format=kind, transparent=kind == "svg", metadata=metadata)
        return written.getvalue()


def _name(variant: VariantRuns, width: int = 34) -> str:
    return fill(variant.title, width, max_lines=2, placeholder="…")


def _line(variant: VariantRuns, drawn: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """Returns how the line of a variant is drawn, with its name for the legend."""
    index = drawn[variant.name]
    return {"color": SERIES[index], "ls": _STYLES[index], "label": _name(variant), **more}


def _add_legend(canvas: Canvas) -> None:
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.2)


def forest_figure(
    comparison: Comparison, rows: DataFrame, reference: VariantRuns | None, *, narrow: bool = False
) -> Figure | None:
    """Returns each variant against the one that decides, in error and calibrated NLL; None where nothing is compared.

    With `narrow`, for a phone, one panel is below the other.
    """
    if reference is None:
        return None
    method, drawn, split = best_method(comparison), drawn_variants(comparison), comparison.split
    others = [one for one in comparison.finished if one.name in drawn and one.name != reference.name]
    shown = [*sorted(others, key=lambda one: method is None or one.name != method.name), reference]
    differences = {one.name: compare_variants(one, reference, split) for one in shown[:-1]}
    minus, better = f"minus that of {shortened(reference.title, 40)}, points", "lower is better"
    panels: dict[str, str] = {comparison.headline: f"{split} error {minus} ({better})"}
    if comparison.headline == "bleu":
        panels = {"bleu": f"{split} BLEU {minus} (higher is better)"}
    scaled = bool(rows["calibrated_nll_n"].sum())
    nll = f"NLL{' after temperature scaling' if scaled else ''}, the same difference, nats ({better})"
    panels |= {"calibrated_nll" if scaled else "nll": nll}
    panels = {metric: label for metric, label in panels.items() if any(metric in of for of in differences.values())}
    if not panels:
        return None
    means = rows.set_index("variant")
    times = [f"{means['time_ratio_mean'].fillna(1.0)[one.name]:.2f}\u00d7" for one in shown]

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(len(panels) if narrow else 1, 1 if narrow else len(panels), squeeze=False).ravel()
        for axes, (metric, label) in zip(grid, panels.items(), strict=True):
            names = [*(_name(one) for one in shown[:-1]), f"{_name(reference)} (control)"]
            axes.set_yticks(range(len(shown)), names if narrow or axes is grid[0] else [""] * len(shown))
            axes.get_yticklabels()[0].set_fontweight("bold")
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(shown) - 0.4, -0.6)
            axes.spines["left"].set_visible(False)
            axes.axvline(0, color=INK, lw=0.8, alpha=0.6, zorder=0)
            axes.grid(axis="x", alpha=0.15, linewidth=0.6)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "\u2212"))
            axes.set_xlabel(label.replace(", ", ",\n", 1) if narrow else label, loc="right" if narrow else "center")
            form, theirs = METRICS[metric], reference.metrics(split, metric)
            for y, one in enumerate(shown):
                ours = one.metrics(split, metric)
                own = [form.scale * (ours[seed] - theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
                paired = differences.get(one.name, {}).get(metric)
                _draw_line(axes, paired, own, form.scale, y, SERIES[drawn.get(one.name, 0)])
            column = means[f"{split}_error_mean" if metric == "error" else f"{metric}_mean"]
            columns = [["mean", *(number(column[one.name], form.decimals, scale=form.scale) for one in shown)]]
            columns += [["time", *times]] if axes is grid[-1] and len(set(times)) > 1 else []
            for index, texts in enumerate(columns):
                for y, cell in enumerate(texts, start=-1):
                    at: Any = (1, max(y, -0.85)), (40 + 42 * index, 0), axes.get_yaxis_transform(), "offset points"
                    axes.annotate(cell, *at, ha="right", va="center", alpha=1 if y >= 0 else 0.7)

    caption = (
        "Dots are seeds, the stroke their mean; thick bars are 95 % intervals over seeds, thin ones over seeds and "
        "test examples."
    )
    if len(shown) < len(comparison.finished):
        caption += f" {len(shown)} of {len(comparison.finished)} variants are drawn; all are in the tables."
    size = (4.4, len(panels) * (0.72 + 0.42 * len(shown))) if narrow else (_WIDE, 0.72 + 0.34 * len(shown))
    description = f"{listed([*panels.values()])}, of {listed([one.title for one in shown])}."
    return Figure("forest-narrow" if narrow else "forest", size, description, draw, caption)


def _draw_line(
    axes: Axes, found: PairedComparison | None, dots: list[float], scale: float, y: float, colour: str
) -> None:
    """Draws seeds, mean and intervals of one variant; an interval far wider than the seeds ends at the edge."""
    if found is None:
        axes.scatter([0], [y], s=22, marker="D", color=colour, zorder=3)
        return
    reach = 3 * max(np.ptp([0.0, *dots]), 1e-9)
    both = found.joint[:2] if found.joint else (math.nan, math.nan)
    for ends, thick, alpha in ((both, 1.1, 1.0), (found[2:4], 6, 0.4)):
        reached = np.clip(scale * np.array(ends), min(dots) - reach, max(dots) + reach)
        axes.plot(reached, [y, y], color=colour, lw=thick, alpha=alpha, solid_capstyle="butt")
    # Spread by the order of the seeds, never by chance.
    spread = np.linspace(-0.18, 0.18, len(dots)) if len(dots) > 1 else np.zeros(1)
    axes.scatter(dots, y + spread, s=10, color=colour, alpha=0.85, linewidths=0, zorder=5)
    axes.plot([scale * found.difference] * 2, [y - 0.28, y + 0.28], color=colour, lw=2.2, zorder=4)


def calibration_figure(comparison: Comparison, errors: Mapping[str, ErrorAnalysis]) -> Figure | None:
    """Returns accuracy against confidence before and after temperature scaling, and error against coverage."""
    drawn, split = drawn_variants(comparison), comparison.split
    chosen = [one for one in comparison.finished if one.name in drawn and one.name in errors]
    if not chosen:
        return None
    before = {one.name: bins for one in chosen if (bins := errors[one.name].reliability) is not None}
    after = {one.name: bins for one in chosen if (bins := errors[one.name].calibrated) is not None}
    panels = {"before temperature scaling": before, "after temperature scaling": after}
    panels = {heading: bins for heading, bins in panels.items() if len(bins) == len(chosen)}
    risks = {one.name: [[*one.metrics(split, name).values()] for name in _COVERAGES.values()] for one in chosen}
    covered = all(all(of) for of in risks.values())

    def draw(canvas: Canvas) -> None:
        grid = canvas.subplots(1, len(panels) + covered, squeeze=False)[0]
        for axes, (heading, bins) in zip(grid, panels.items(), strict=False):
            for one in chosen:
                enough = bins[one.name][0] >= _FEWEST_IN_BIN * errors[one.name].runs
                axes.plot(*(100 * bins[one.name][1:, enough]), **_line(one, drawn, marker=".", lw=1.4))
            axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.set(xlim=(0, 101), ylim=(0, 102), xlabel="confidence (%)", ylabel="accuracy (%)")
            axes.set_title(heading, loc="left")
        for axes in grid[len(panels) :]:
            for one in chosen:
                risk = [100 * np.mean(values) for values in risks[one.name]]
                axes.plot([*_COVERAGES], risk, **_line(one, drawn, marker=".", lw=1.4))
            axes.set(xticks=[*_COVERAGES], ylim=(0, None), ylabel="error (%)")
            axes.set_xlabel("coverage: share of examples answered (%)")
            axes.set_title("error against coverage", loc="left")
        for axes in grid:
            axes.grid(alpha=0.15, linewidth=0.6)
        _add_legend(canvas)

    caption = (
        "Below the dotted line the network is over-confident, above it under-confident (bins with fewer than "
        f"{_FEWEST_IN_BIN} examples per run are left out)."
    )
    if covered:
        caption += (
            " Right, lower is better: the error that remains where the least confident examples are left to a person."
        )
    description = f"Accuracy over confidence, and error over coverage, of {listed([one.title for one in chosen])}."
    return Figure("calibration", (_WIDE, _LOW), description, draw, caption)


def curve_figure(comparison: Comparison) -> Figure | None:
    """Returns error (or BLEU) and NLL over the epochs, the training loss where neither is known; None without any."""
    drawn = drawn_variants(comparison)
    shown = [one for one in comparison.finished if one.name in drawn]
    validated = any(np.isfinite(run.curve("validation", "error")).any() for run in comparison.runs)
    split = "validation" if validated else comparison.split
    wanted = {
        f"{split} BLEU": (split, "bleu", 100.0),
        f"{split} error (%)": (split, "error", 100.0),
        f"{split} NLL (nats)": (split, "nll", 1.0),
        "training loss": ("train", "total", 1.0),
    }
    panels: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    for heading, (source, name, scale) in wanted.items():
        curves = {one.name: [scale * run.curve(source, name) for run in one.runs.values()] for one in shown}
        known = {variant: [curve for curve in of if np.isfinite(curve).any()] for variant, of in curves.items()}
        if any(known.values()) and len(panels) < (2 if source != "train" else 1):
            panels[heading] = known
    if not panels:
        return None

    def draw(canvas: Canvas) -> None:
        from matplotlib.ticker import MaxNLocator

        grid = canvas.subplots(1, len(panels), squeeze=False)[0]
        for axes, (heading, known) in zip(grid, panels.items(), strict=True):
            for one in shown:
                curves = known[one.name]
                for curve in curves[:_MOST_LIGHT] if len(curves) > 1 else []:
                    axes.plot(range(1, len(curve) + 1), curve, color=SERIES[drawn[one.name]], alpha=0.28, lw=0.7)
                if curves:  # a run that ended earlier does not bend the mean
                    mean = np.mean([curve[: min(map(len, curves))] for curve in curves], axis=0)
                    marker = "o" if len(mean) == 1 else None
                    axes.plot(range(1, len(mean) + 1), mean, **_line(one, drawn, lw=1.9, marker=marker))
            later = np.concatenate([curve[len(curve) // 5 :] for of in known.values() for curve in of])
            highest = later[np.isfinite(later)].max(initial=-np.inf)
            if 0 < highest < axes.get_ylim()[1] / 2:  # the first epochs are far worse than all that matters
                axes.set_ylim(top=1.06 * highest)
            axes.set_title(heading, loc="left")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="y", alpha=0.15, linewidth=0.6)
        if len(shown) > 1:
            _add_legend(canvas)

    caption = "Light: each run. Dark: their mean, up to the end of the shortest." if len(comparison.runs) > 1 else ""
    description = f"Lines of {listed(list(panels))} over the epochs, of {listed([one.title for one in shown])}."
    return Figure("curves", (_WIDE, _LOW), description, draw, caption)
