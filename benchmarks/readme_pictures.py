"""The pictures of the README and the docs: numbers of docs/results.md, the demo's own page, the labels of CIFAR-100.

`make pictures` draws them. They are no benchmark: `python -m benchmarks` leaves them out.
"""

from __future__ import annotations

import argparse
import colorsys
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from labelembed.geometry import LabelGeometry, leaf_order, linkage, read_hierarchy

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
# GitHub's colours of text, lines and its accent.
THEMES = {
    "light": {"ink": "#1f2328", "faint": "#d1d9e0", "clear": "#0969da", "open": "#818b98"},
    "dark": {"ink": "#f0f6fc", "faint": "#3d444d", "clear": "#4493f8", "open": "#9198a1"},
}


class Difference(NamedTuple):
    """A difference to tuned label smoothing as docs/results.md has it: mean, interval over seeds, joint interval."""

    name: str
    cell: str
    better: int  # -1 where less is better

    def numbers(self) -> list[float]:
        """Returns the gain and the ends of its intervals; positive is better."""
        found = [self.better * float(number) for number in re.findall(r"[+-]?\d+\.\d+", self.cell)]
        return [found[0], *(end for low in range(1, len(found), 2) for end in sorted(found[low : low + 2]))]


ACCURACY = [
    Difference("CIFAR-100 features, 16 seeds: online smoothing", "-0.33 [-0.51, -0.15]", -1),
    Difference("label embedding", "-0.30 [-0.51, -0.09]", -1),
    Difference("measured again, 8 seeds: online smoothing", "-0.24 [-0.52, 0.03] [-0.54, 0.05]", -1),
    Difference("label embedding", "-0.37 [-0.73, -0.01] [-0.74, 0.00]", -1),
    Difference("top-5 accuracy, 16 seeds: online smoothing", "+0.78 [0.63, 0.93]", 1),
    Difference("label embedding", "+0.71 [0.52, 0.90]", 1),
    Difference("MNIST, 5 seeds: label embedding", "-0.09 [-0.22, 0.03]", -1),
]
BLEU = [
    Difference("Multi30k en-de, test2016, 3 seeds: label embedding", "+0.73 [0.23, 1.22]", 1),
    Difference("test2017, 3 seeds: label embedding", "+0.07 [-0.78, 0.92]", 1),
]


def require_in_results(differences: list[Difference]) -> None:
    """Raises ValueError where docs/results.md does not have a number that is drawn."""
    results = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    missing = [one.cell for one in differences if one.cell not in results]
    if missing:
        raise ValueError(f"docs/results.md does not have {', '.join(missing)}")


def draw_differences(axes: Axes, differences: list[Difference], colours: dict[str, str]) -> None:
    """Draws a line for each: the mean, the interval over seeds thick, the joint one thin; grey where one holds 0."""
    for place, one in enumerate(differences):
        mean, low, high, *joint = one.numbers()
        colour = colours["clear" if min([low, *joint[:1]]) > 0 or max([high, *joint[1:]]) < 0 else "open"]
        for ends, width in ((joint, 1.3), ((low, high), 4.5)):
            if ends:
                axes.plot(ends, (place, place), color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot(mean, place, "o", color=colour, markersize=7, markeredgecolor="white", markeredgewidth=0.8)
    axes.set_yticks(range(len(differences)), [one.name for one in differences])
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.axvline(0, color=colours["ink"], linewidth=0.8)


def forest(colours: dict[str, str]) -> Figure:
    """Returns the forest plot of the README."""
    require_in_results(ACCURACY + BLEU)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8.6, 4.3), layout="constrained", height_ratios=(len(ACCURACY) + 0.5, len(BLEU) + 0.5)
    )
    draw_differences(above, ACCURACY, colours)
    draw_differences(below, BLEU, colours)
    above.set_xlabel("points of accuracy over tuned label smoothing")
    below.set_xlabel("BLEU over tuned label smoothing")
    for axes in (above, below):
        axes.set_xlim(-1.05, 1.35)
    above.text(1.33, -0.45, "better →", ha="right", va="center", color=colours["ink"], fontsize=9)
    return figure


def tree(geometry: LabelGeometry, colours: dict[str, str], *, dark: bool) -> Figure:
    """Returns the dendrogram of CIFAR-100's labels; a branch and a name have the colour of their group of five."""
    groups = read_hierarchy("cifar100", geometry.names).groups()
    joined = linkage(geometry)
    count = len(geometry.names)
    shades = [colorsys.hls_to_rgb(7 * group % 20 / 20, (0.42, 0.62)[dark], 0.62) for group in range(max(groups) + 1)]
    group_of = dict(enumerate(groups))
    for place, (one, other) in enumerate(joined[:, :2].astype(int)):  # of a branch, where both sides agree
        group_of[count + place] = group_of[one] if group_of[one] == group_of[other] else -1

    def colour_of(branch: int) -> str:
        group = group_of[branch]
        return colours["open"] if group < 0 else mpl.colors.to_hex(shades[group])

    drawn = dendrogram(joined, no_plot=True, link_color_func=colour_of)
    assert drawn["leaves"] == leaf_order(joined)
    nearest, farthest = joined[:, 2].min() * 0.9, joined[:, 2].max()

    def radius(heights: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(heights > 0, 0.92 * (farthest - heights) / (farthest - nearest), 1.0)

    figure, axes = plt.subplots(figsize=(7.4, 7.4), subplot_kw={"projection": "polar"})
    figure.subplots_adjust(0.14, 0.14, 0.86, 0.86)
    step = 2 * np.pi / count
    for places, heights, colour in zip(drawn["icoord"], drawn["dcoord"], drawn["color_list"], strict=True):
        first, _, _, last = (np.array(places) - 5) / 10 * step  # scipy puts leaves at 5, 15, 25, ...
        start, joint, _, end = radius(np.array(heights))
        arc = np.linspace(first, last, 16)
        angles = np.concatenate([[first], arc, [last]])
        axes.plot(angles, np.concatenate([[start], np.full(16, joint), [end]]), color=colour, linewidth=1.2)
    for place, label in enumerate(drawn["leaves"]):
        turned = np.degrees(place * step)
        left = 90 < turned < 270
        axes.text(
            *(place * step, 1.02),
            geometry.names[label].replace("_", " "),
            color=shades[groups[label]],
            fontsize=8.5,
            rotation=turned + 180 * left,
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
        )
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    return figure


def save(figure: Figure, name: str) -> None:
    """Writes ``docs/images/NAME.svg``, the same bytes for the same picture."""
    figure.savefig(IMAGES / f"{name}.svg", transparent=True, metadata={"Date": None})
    plt.close(figure)


def photograph(page: Path) -> None:
    """Takes the first screen of a report in light and in dark, and its labels, as PNG."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, part, height in (
            ("report-light", "", 720),
            ("report-dark", "", 720),
            ("report-labels", "#labels", 640),
        ):
            scheme = "dark" if name.endswith("dark") else "light"
            shown = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme=scheme)
            shown.goto(page.resolve().as_uri() + part)
            shown.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, metavar="REPORT", help="the page of `make demo`, to take its picture")
    parser.add_argument("--cifar100", type=Path, metavar="RUN", help="a run on CIFAR-100, to draw its labels")
    chosen = parser.parse_args()
    for theme, colours in THEMES.items():
        ink = {f"{part}.color": colours["ink"] for part in ("text", "xtick", "ytick")}
        quiet = {"axes.edgecolor": colours["faint"], "axes.labelcolor": colours["ink"]}
        fixed = {"svg.hashsalt": "labelembed", "font.size": 9.5, "axes.spines.right": False, "axes.spines.top": False}
        with mpl.rc_context(ink | quiet | fixed):
            save(forest(colours), f"forest-{theme}")
            if chosen.cifar100:
                geometry = LabelGeometry.load(chosen.cifar100 / "label_geometry.safetensors")
                save(tree(geometry, colours, dark=theme == "dark"), f"cifar100-{theme}")
    if chosen.demo:
        photograph(chosen.demo)


if __name__ == "__main__":
    main()
