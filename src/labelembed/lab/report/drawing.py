"""A matplotlib figure: as inline SVG whose colours and letters follow the page, or as a file for a paper."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labelembed.lab.errors import RunFolderError
from labelembed.lab.report.writing import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE_KINDS = (".pdf", ".svg", ".png")
#: Letters and axes; on the page the colour of its text.
INK = "#1a1b1c"
#: Told apart by colour-blind readers, on white (the page has lighter ones for black); after the last one the first is
#: used again, with another line style.
SERIES = ("#4d4d4d", "#0067a5", "#c04c00", "#00795a", "#a04a86", "#8a6200", "#4a54b8")
LINE_STYLES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (7, 1.5, 1.4, 1.5)),
    (0, (1.4, 1)),
    (0, (9, 2)),
    (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
)
# What most viewers' letters lack, in the order in which they are tried.
_LETTERS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans", "Noto Emoji")
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters that a reader can mark and search
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
    "image.composite_image": False,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
_SETTINGS |= dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6)


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
        svg = self._svg(self.size).replace(INK, "currentColor")
        for position, colour in enumerate(SERIES):
            svg = svg.replace(colour, f"var(--series-{position}, {colour})")
        # The page's own letters; matplotlib's font is hardly anywhere installed.
        svg = svg.replace("'DejaVu Sans'", "var(--letters, sans-serif)")
        return re.sub(r'\s(width|height)="[^"]*pt"', "", svg, count=2)

    def standalone_svg(self, size: tuple[float, float] | None = None) -> str:
        """Returns the text of an SVG file of its own, dark on white, in another size where one is given (inches)."""
        opening, rest = self._svg(size or self.size).split(">", 1)
        letters = "'DejaVu Sans', Verdana, Arial, sans-serif"
        return f'{opening}><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'.replace("'DejaVu Sans'", letters)

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
            return write_text(path, self.standalone_svg(size))
        # Without the day on which it was made: the same runs give the same file.
        about = {"Title": self.title} | ({"CreationDate": None} if kind == ".pdf" else {})
        return write_bytes(path, self._drawn(size, kind[1:], dpi=300, metadata=about))

    def _drawn(
        self,
        size: tuple[float, float],
        kind: str,
        *,
        dpi: float | Literal["figure"] = "figure",
        metadata: dict[str, Any],
    ) -> bytes:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.figure import Figure

        written = io.BytesIO()
        # From the defaults, not from what the user has set: the same runs give the same file everywhere.
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS)
            matplotlib.rcParams["svg.hashsalt"] = self.key
            there = {font.name for font in font_manager.fontManager.ttflist}
            # The letters of an SVG are the viewer's; that matplotlib's font lacks one changes a width, no more.
            letters = _LETTERS[:1] if kind == "svg" else _LETTERS
            matplotlib.rcParams["font.family"] = [font for font in letters if font in there]
            figure = Figure(figsize=size, layout="constrained")
            self.painter(figure)
            figure.savefig(written, format=kind, transparent=kind == "svg", dpi=dpi, metadata=metadata)
        return written.getvalue()

    def _svg(self, size: tuple[float, float]) -> str:
        key, svg = self.key, self._drawn(size, "svg", metadata={"Date": None}).decode()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
        # Its only rule, for everything in the page, would not stay inside the figure.
        svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, count=1, flags=re.DOTALL)
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
        svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{key}-", svg)
        # Hundredths of a point are seen by nobody, and half of the size.
        svg = re.sub(r'(?<= d=")[^"]*', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found.group()), svg)
        opening, rest = svg.split(">", 1)
        opening += f' role="img" stroke-linejoin="round" aria-labelledby="{key}-title {key}-description">'
        opening += f'<title id="{key}-title">{escape(self.title)}</title>'
        return f'{opening}<desc id="{key}-description">{escape(self.description)}</desc>{rest.strip()}'


def series_number(position: int) -> int:
    """Returns which of the page's colours ``--series-<number>`` the series at a position has."""
    return position if position < len(SERIES) else 1 + (position - len(SERIES)) % (len(SERIES) - 1)


def series_colour(position: int) -> str:
    """Returns the colour of the series at a position; 0 is the baseline's grey."""
    return SERIES[series_number(position)]


def line_style(position: int) -> str | tuple[int, tuple[float, ...]]:
    """Returns the line style of the series at a position; it changes where the colours begin again."""
    return LINE_STYLES[(position + position // len(SERIES)) % len(LINE_STYLES)]


# Inches that a line of a legend takes.
_LEGEND_LINE = 0.18


def add_legend(figure: Figure, handles: list[Any] | None = None, labels: list[str] | None = None) -> None:
    """Puts the legend beside the axes, of a figure for one column of a paper below them."""
    width, height = figure.get_size_inches()
    narrow = width < 5
    if narrow:  # the axes keep their room
        found = labels or [
            str(line.get_label()) for axes in figure.axes for line in axes.get_legend_handles_labels()[0]
        ]
        lines = sum(text.count("\n") + 1 for text in found)
        figure.set_size_inches(width, max(height, 0.65 * width) + _LEGEND_LINE * lines)
    place = "outside lower left" if narrow else "outside right upper"
    chosen: dict[str, Any] = {} if handles is None or labels is None else {"handles": handles, "labels": labels}
    chosen |= {"loc": place, "frameon": False, "handlelength": 3.2, "labelspacing": 0.5 if narrow else 0.8}
    figure.legend(**chosen)
