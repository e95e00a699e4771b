"""A matplotlib figure: as inline SVG whose colours and letters follow the page, or as a file for a paper.

For the page colours are drawn as stand-ins and replaced by CSS variables afterwards: an SVG file cannot know whether
it will lie on white or on black.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelembed.errors import RunFolderError
from labelembed.report.writing import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE_KINDS = (".pdf", ".svg", ".png")
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


# What every viewer's letters may lack, in the order in which they are asked.
_OTHER_LETTERS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans", "Noto Emoji")
_PAPER_INK = "#1a1a1a"
_on_paper: ContextVar[bool] = ContextVar("on_paper", default=False)


@dataclass(frozen=True)
class Sketch:
    """All that is needed to draw one figure, for the page or for a file.

    Attributes:
        key: Begins every id in the SVG; unique in the page.
        size: Width and height in inches, with letters of 9 points.
        title: What the figure is.
        description: What it shows, for those who do not see it.
        painter: Draws it into an empty matplotlib figure.
        caption: What a reader must know to read it.
        numbers: What is drawn as a table: a row of headings, then the rows; empty where the page has them already.
    """

    key: str
    size: tuple[float, float]
    title: str
    description: str
    painter: Callable[[Figure], None]
    caption: str = ""
    numbers: list[list[Any]] = field(default_factory=list)

    def inline_svg(self) -> str:
        """Returns markup whose colours and letters follow the page."""
        return draw(self.key, self.size, self.title, self.description, self.painter)

    def standalone_svg(self) -> str:
        """Returns the text of an SVG file of its own, dark on white."""
        return _on_white(self.inline_svg())

    def save(self, path: Path, *, width: float | None = None) -> Path:
        """Writes a file of its own, dark on white: PDF, SVG or PNG, as the name ends.

        Args:
            path: The file.
            width: In inches, the letters stay as they are; None: as it was laid out.

        Raises:
            RunFolderError: When the name ends otherwise, or the file cannot be written.
        """
        kind = path.suffix.lower()
        if kind not in FILE_KINDS:
            raise RunFolderError(f"{path}: a figure is written as {', '.join(FILE_KINDS)}; name the file so")
        size = self.size if width is None else (width, self.size[1] * width / self.size[0])
        if kind == ".svg":
            return write_text(path, replace(self, size=size).standalone_svg())
        return write_bytes(path, _drawn_for_paper(self, size, kind))


def _on_white(svg: str) -> str:
    svg = svg.replace("currentColor", _PAPER_INK)
    svg = re.sub(r"var\(--series-\d+, (#\w+)\)", r"\1", svg)
    svg = svg.replace("var(--letters, sans-serif)", "'DejaVu Sans', Verdana, Arial, sans-serif")
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening, rest = svg.split(">", 1)
    paper = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return f'{opening} width="{width}pt" height="{height}pt">{paper}{rest}\n'


def _drawn_for_paper(sketch: Sketch, size: tuple[float, float], kind: str) -> bytes:
    from matplotlib.figure import Figure

    written = io.BytesIO()
    # Without the day on which it was made: the same runs give the same file.
    about = {"CreationDate": None, "Title": sketch.title} if kind == ".pdf" else {"Title": sketch.title}
    token = _on_paper.set(True)
    try:
        with _own_settings(sketch.key), warnings.catch_warnings():
            import matplotlib

            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            matplotlib.rcParams["font.family"] = ["DejaVu Sans", *_installed(_OTHER_LETTERS)]
            matplotlib.rcParams["pdf.fonttype"] = 42  # letters that a reader can mark and search
            figure = Figure(figsize=size, layout="constrained")
            sketch.painter(figure)
            figure.savefig(written, format=kind[1:], dpi=300, metadata=about)
    finally:
        _on_paper.reset(token)
    return written.getvalue()


def _installed(fonts: tuple[str, ...]) -> list[str]:
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [font for font in fonts if font in there]


def series_colour(position: int) -> str:
    """Returns the colour of the series at a position, on the page its stand-in; 0 is the baseline's grey."""
    return SERIES[series_number(position)] if _on_paper.get() else f"#0102{series_number(position):02x}"


def add_legend(figure: Figure, handles: list[Any] | None = None, labels: list[str] | None = None) -> None:
    """Puts the legend beside the axes, of a figure for one column of a paper below them."""
    narrow = figure.get_size_inches()[0] < 5
    place = "outside lower left" if narrow else "outside right upper"
    chosen: dict[str, Any] = {} if handles is None or labels is None else {"handles": handles, "labels": labels}
    chosen |= {"loc": place, "frameon": False, "handlelength": 3.2, "labelspacing": 0.5 if narrow else 0.8}
    figure.legend(**chosen)


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
    # Hundredths of a point are seen by nobody, and half of the size.
    svg = re.sub(r'(?<= d=")[^"]*', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found.group()), svg)
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
