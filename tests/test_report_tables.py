"""The tables of the page as Markdown, LaTeX and CSV: the same numbers to the last digit."""

from __future__ import annotations

import csv
import re

import pytest

from labelembed.errors import RunFolderError
from labelembed.report import comparison_rows, load_comparison, write_report
from labelembed.report.page import report_tables
from labelembed.report.table_export import latex_text, markdown_text
from tests.made_cli import succeed
from tests.made_runs import make_comparison

ERRORS = {
    "one_hot": dict(enumerate([0.20, 0.22, 0.21, 0.19, 0.23, 0.21])),
    "label_smoothing smoothing=0.4": dict(enumerate([0.18, 0.19, 0.20, 0.17, 0.20, 0.20])),
}


@pytest.fixture
def folder(tmp_path):
    return make_comparison(tmp_path, ERRORS)


def _page_cells(folder):
    html = write_report(folder).read_text(encoding="utf-8")
    tables = re.findall(r'<table[^>]* data-table="([\w-]+)">(.*?)</table>', html, flags=re.DOTALL)
    return {
        name: [
            [" ".join(re.sub("<[^>]+>", "", cell).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body.replace("\n", " "), flags=re.DOTALL)[1:]
        ]
        for name, body in tables
    }


def test_markdown_and_latex_have_the_cells_of_the_page(folder):
    page = _page_cells(folder)
    markdown = write_report(folder, format="markdown").read_text(encoding="utf-8")
    latex = write_report(folder, format="latex").read_text(encoding="utf-8")
    tables = report_tables(load_comparison(folder), comparison_rows(load_comparison(folder)))
    assert [table.key for table in tables] == ["metrics", "differences", "other-metrics", "speed", "cost"]
    for table in tables:
        for line, shown in zip(table.lines, page[table.key], strict=True):
            cells = [line.name, *(cell.text for cell in line.cells)]
            assert [text.replace("\u2212", "-").replace("\u2013", "-") for text in shown] == cells
            assert f"| {' | '.join(map(markdown_text, cells))} |" in markdown
            assert " & ".join(map(latex_text, cells)) + r" \\" in latex
    assert "-2.94 to -1.06" in markdown
    assert "$-$2.94 to $-$1.06" in latex


def test_what_is_a_sign_of_its_own_is_escaped():
    assert (
        latex_text("a_b 5 % & $x$ {c} ~^\\")
        == r"a\_b 5 \% \& \$x\$ \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )
    assert markdown_text("a|b <i> *c* `d`") == r"a\|b \<i\> \*c\* \`d\`"


def test_csv_has_every_number_in_full_precision(folder):
    with write_report(folder, format="csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = comparison_rows(load_comparison(folder))
    assert float(lines[1]["test_error_mean"]) == rows[1].measures["test_error"].mean
    assert float(lines[1]["interval_low"]) == rows[1].differences["error"].interval_low


def test_command_writes_the_format(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert succeed("report", folder, "--format", "latex").out.strip().endswith("report.tex")
    assert succeed("report", folder, "--format", "markdown", "-o", "mine.md").out.strip() == "mine.md"
    with pytest.raises(RunFolderError, match=r"unknown format 'word'.*there are: csv, html, latex, markdown"):
        write_report(folder, format="word")
