"""A matplotlib figure as inline SVG whose colours and letters follow the page, light or dark.

Colours are drawn as stand-ins and replaced by CSS variables afterwards: an SVG file cannot know whether it
will lie on white or on black.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010101"
LINE_STYLES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (7, 1.5, 1.4, 1.5)),
    (0, (1.4, 1)),
    (0, (9, 2)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
)
# Told apart by colour-blind readers, on white (the page has lighter ones for black); after the last one the
# first is used again, with another line style.
SERIES = ("#4d4d4d", "#0067a5", "#c04c00", "#00795a", "#a04a86", "#8a6200", "#4a54b8")

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "text.parse_math": False,
    "image.composite_image": False,
}


# Pixels of a side that a table is drawn with at least.
_LEAST_PIXELS = 300


def cells(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float, float, float]]:
    """Returns a square table [C, C] with each cell as a block of pixels, and the `extent` that keeps its place.

    Viewers other than browsers smooth a picture that they enlarge, whatever it says, and ten cells become a blur.
    """
    count = len(table)
    times = -(-_LEAST_PIXELS // count)
    blocks = table.repeat(times, axis=0).repeat(times, axis=1)
    return blocks, (-0.5, count - 0.5, count - 0.5, -0.5)


@dataclass(frozen=True)
class Drawing:
    """A figure for the page.

    Attributes:
        svg: Markup that can stand in the page, with its own title and description.
        caption: What a reader must know to read it.
    """

    svg: str
    caption: str


def series_colour(position: int) -> str:
    """Returns the stand-in for the colour of the series at a position; 0 is the baseline's grey."""
    return f"#0102{series_number(position):02x}"


def line_style(position: int) -> str | tuple[int, tuple[float, ...]]:
    """Returns the line style of the series at a position; it changes where the colours begin again."""
    return LINE_STYLES[(position + position // len(SERIES)) % len(LINE_STYLES)]


def series_number(position: int) -> int:
    """Returns which of the page's colours ``--series-<number>`` the series at a position has."""
    return position if position < len(SERIES) else 1 + (position - len(SERIES)) % (len(SERIES) - 1)


@contextmanager
def _own_settings(key: str) -> Iterator[None]:
    import matplotlib

    # From the defaults, not from what the user has set: the same runs give the same page everywhere.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        matplotlib.rcParams["svg.hashsalt"] = key
        yield


def draw(key: str, size: tuple[float, float], title: str, description: str, painter: Callable[[Figure], None]) -> str:
    """Returns the SVG of what `painter` draws into a new figure.

    Args:
        key: Begins every id in the SVG; unique in the page.
        size: Width and height in inches of 72 units.
        title: What the figure is.
        description: What it shows, for those who do not see it.
        painter: Draws.
    """
    from matplotlib.figure import Figure

    written = io.StringIO()
    with _own_settings(key), warnings.catch_warnings():
        # The letters are the browser's; that matplotlib's font lacks one changes a width, no more.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=size, layout="constrained")
        painter(figure)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _for_the_page(written.getvalue(), key, title, description)


def _for_the_page(svg: str, key: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    # Its only rule, for everything in the page, would not stay inside the figure.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{key}-", svg)
    svg = svg.replace(INK, "currentColor")
    for position, colour in enumerate(SERIES):
        svg = svg.replace(f"#0102{position:02x}", f"var(--series-{position}, {colour})")
    # The page's own letters; matplotlib's font is hardly anywhere installed.
    svg = svg.replace("'DejaVu Sans'", "var(--letters, sans-serif)")
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    opening = re.sub(r'\s(width|height)="[^"]*pt"', "", head.group())
    opening = opening[:-1] + f' role="img" stroke-linejoin="round" aria-labelledby="{key}-title {key}-description">'
    about = f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-description">{escape(description)}</desc>'
    return opening + about + svg[head.end() :].strip()
