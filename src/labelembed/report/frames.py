"""Numbers of runs and comparisons as pandas DataFrames, and as a notebook shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labelembed.report.formatting import NOTHING
from labelembed.report.run_checks import number_in

if TYPE_CHECKING:
    from pandas import DataFrame

SPLITS = ("train", "validation", "test")


def flat_epoch(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a journal's line with a key for each measure: ``validation_error``."""
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            flat |= {f"{key}_{name}": part for name, part in value.items()}
        elif key not in SPLITS:  # an epoch without measures has None there, and no numbers
            flat[key] = value
    return flat


def data_frame(rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """Returns rows of equal keys as a DataFrame; None where there is no number becomes NaN."""
    import pandas  # here, so that `import labelembed` stays light

    frame = pandas.DataFrame(list(rows))
    # A column without one number is of numbers all the same, as in the CSV file read back.
    return frame.astype({column: "float64" for column in frame if frame[column].isna().all()})


def short(value: object) -> str:
    """Returns a number in four digits, and a dash for anything else."""
    known = number_in(value)
    return NOTHING if known is None else f"{known:.4g}"


def html_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a small table of cells as HTML."""
    import pandas

    return str(pandas.DataFrame(list(lines), columns=list(headings)).to_html(index=False, border=0))
