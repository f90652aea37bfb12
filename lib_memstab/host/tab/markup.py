"""What the tab shows, as HTML: sentences, lines in columns, tables and pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
"""Of pictures in the tab; enough to read, and quickly drawn."""


@dataclass(frozen=True)
class Link:
    """A cell of a table that opens a file, which the host must give to the page."""

    text: str
    file: Path


def sentence(text: str) -> str:
    """A sentence, or nothing."""
    return f"<p>{escape(text)}</p>" if text else ""


def plain(text: str) -> str:
    """Lines in columns, as a terminal has them."""
    return f'<pre style="overflow-x: auto; font-size: 85%">{escape(text)}</pre>' if text else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str | Link]]) -> str:
    """A table; a row with fewer cells than heads gives its last one the rest of the line."""
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    for row in rows:
        spans = [1] * (len(row) - 1) + [len(heads) - len(row) + 1]
        lines.append("".join(f'<td colspan="{span}">{_told(cell)}</td>' for cell, span in zip(row, spans, strict=True)))
    return f'<table class="memstab-table">{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _told(cell: str | Link) -> str:
    # A name that is not Unicode, or breaks a line, cannot be asked for by a page.
    if isinstance(cell, Link) and str(cell.file).isprintable():
        return f'<a href="file={escape(quote(str(cell.file)))}" target="_blank">{escape(cell.text)}</a>'
    return escape(cell.text if isinstance(cell, Link) else cell)


def picture(figure: Figure, words: str) -> str:
    """A figure; `words` say what it shows. It replaces an earlier one without a flash."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    width, height = (round(DOTS_PER_INCH * side) for side in figure.get_size_inches())
    data = base64.b64encode(drawn.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" decoding="sync" '
        f'alt="{escape(words)}" style="max-width: 100%; height: auto">'
    )
