"""A matplotlib figure: as inline SVG whose colours and letters follow the page, or as a file for a paper."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.lab.report.table import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

#: Letters and axes; on the page the colour of its text.
INK = "#1a1b1c"
#: Told apart by colour-blind readers, on white (the page has lighter ones for black); after the last one the first is
#: used again, with another line style.
SERIES = ("#4d4d4d", "#0067a5", "#c04c00", "#00795a", "#a04a86", "#8a6200", "#4a54b8")
_LINE_STYLES = ("-", (0, (5, 1.6)), (0, (7, 1.5, 1.4, 1.5)), (0, (1.4, 1)), (0, (9, 2)), (0, (3, 1.2, 1.2, 1.2)))
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters that a reader can mark and search
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "ytick.labelsize"), 9),
    "xtick.labelsize": 8.5,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "text.parse_math", "image.composite_image"), False),
    "axes.linewidth": 0.6,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@dataclass(frozen=True)
class Figure:
    """All that is needed to draw one figure, for the page or for a file.

    Attributes:
        key: Begins every id in the SVG and names the file; unique in the page.
        size: Width and height in inches, with letters of 9 points.
        title, description: What it is, and what it shows for those who do not see it.
        draw: Draws it into an empty matplotlib figure.
        caption: What a reader must know to read it.
    """

    key: str
    size: tuple[float, float]
    title: str
    description: str
    draw: Callable[[Canvas], None]
    caption: str = ""

    def inline_svg(self) -> str:
        """Returns markup whose colours and letters follow the page."""
        svg = self._svg().replace(INK, "currentColor")
        for index, colour in enumerate(SERIES):
            svg = svg.replace(colour, f"var(--series-{index}, {colour})")
        # The page's own letters; matplotlib's font is hardly anywhere installed.
        svg = svg.replace("'DejaVu Sans'", "var(--letters, sans-serif)")
        return re.sub(r'\s(width|height)="[^"]*pt"', "", svg, count=2)

    def svg(self) -> str:
        """Returns the text of an SVG file of its own, dark on white."""
        opening, rest = self._svg().split(">", 1)
        letters = "'DejaVu Sans', Verdana, Arial, sans-serif"
        return f'{opening}><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'.replace("'DejaVu Sans'", letters)

    def save(self, folder: Path) -> list[Path]:
        """Writes the figure into a folder as SVG and PDF; raises RunFolderError where it cannot be written."""
        # Without the day on which it was made: the same runs give the same file.
        pdf = self._drawn("pdf", Title=self.title, CreationDate=None)
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

    def _svg(self) -> str:
        key, svg = self.key, self._drawn("svg", Date=None).decode()
        svg = svg[svg.index("<svg") :]
        # The rule in its style, for everything in the page, would not stay inside the figure.
        unwanted = r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*|<defs>\s*<style.*?</style>\s*</defs>\s*"
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
        svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{key}-", svg)
        # Hundredths of a point are seen by nobody, and half of the size.
        svg = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), svg)
        opening, rest = svg.split(">", 1)
        opening += f' role="img" stroke-linejoin="round" aria-labelledby="{key}-title {key}-description">'
        opening += f'<title id="{key}-title">{escape(self.title)}</title>'
        return f'{opening}<desc id="{key}-description">{escape(self.description)}</desc>{rest.strip()}'


def series_colour(index: int) -> str:
    """Returns the colour of a series; 0 is the baseline's grey."""
    return SERIES[index if index < len(SERIES) else 1 + (index - len(SERIES)) % (len(SERIES) - 1)]


def line_style(index: int) -> Any:
    """Returns the line style of a series; it changes where the colours begin again."""
    return _LINE_STYLES[(index + index // len(SERIES)) % len(_LINE_STYLES)]
