"""The pictures of the README and the docs: the evidence, the demo's own page, the labels of CIFAR-100.

`make pictures` draws them. They are no benchmark: `python -m benchmarks` leaves them out.
"""

from __future__ import annotations

import argparse
import colorsys
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from benchmarks.evidence.figure import forest
from labelembed.geometry import LabelGeometry, linkage, read_hierarchy

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
EVIDENCE = ROOT / "benchmarks" / "evidence" / "results"
# GitHub's colours of text, lines and its accent.
THEMES = {
    "light": {"ink": "#1f2328", "faint": "#d1d9e0", "clear": "#0969da", "open": "#818b98"},
    "dark": {"ink": "#f0f6fc", "faint": "#3d444d", "clear": "#4493f8", "open": "#9198a1"},
}


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
            save(forest(EVIDENCE, "long", colours), f"forest-{theme}")
            if chosen.cifar100:
                geometry = LabelGeometry.load(chosen.cifar100 / "label_geometry.safetensors")
                save(tree(geometry, colours, dark=theme == "dark"), f"cifar100-{theme}")
    if chosen.demo:
        photograph(chosen.demo)


if __name__ == "__main__":
    main()
