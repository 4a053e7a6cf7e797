"""The report of a run: one HTML file with its curves and facts, which needs no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxembed.training.plot import HEALTH, SPEED, Records, plot_run, plot_values

PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
        color: #222 }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2rem }}
table {{ border-collapse: collapse; font-size: 14px }} img {{ max-width: 100% }}
th, td {{ text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #ddd;
          vertical-align: top; overflow-wrap: anywhere }}
</style></head><body>
<h1>{title}</h1>
{sections}
</body></html>
"""

Rows = Sequence[Sequence[Any]]


def write_report(
    file: Path,
    title: str,
    records: Records,
    metric: str,
    tables: Mapping[str, Mapping[str, Any] | Rows],
) -> Path:
    """Writes the page: pictures of the records, and a table for each heading.

    A table is a mapping of names to values, or rows of which the first is the header.

    >>> import tempfile
    >>> records = [{"step": 1, "kind": "train", "loss": 0.5}]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "report.html"
    ...     page = write_report(file, "mine", records, "", {"Data": {"rows": 2}}).read_text()
    >>> "<td>rows</td><td>2</td>" in page
    True
    """
    stream = io.BytesIO()
    plot_run(records, metric, stream)
    sections = [_image("Loss and evaluation", stream)]
    for heading, names in (("Embedding health", HEALTH), ("Throughput", SPEED)):
        names = [  # several tasks have a health each
            name
            for name in dict.fromkeys(name for record in records for name in record)
            if name.rpartition("/")[2] in names
        ]
        stream = io.BytesIO()
        if plot_values(records, names, stream):
            sections.append(_image(heading, stream))
    sections += [_table(heading, table) for heading, table in tables.items() if table]
    page = PAGE.format(title=html.escape(title), sections="\n".join(sections))
    partial = file.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(file)


def _image(heading: str, stream: io.BytesIO) -> str:
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<h2>{heading}</h2>\n<img alt="{heading}" src="data:image/png;base64,{data}">'


def _table(heading: str, table: Mapping[str, Any] | Rows) -> str:
    header, rows = None, table
    if isinstance(table, Mapping):
        rows = list(table.items())
    else:
        header, *rows = table
    lines = ["<tr>" + "".join(f"<th>{_cell(x)}</th>" for x in header) + "</tr>"] if header else []
    lines += ["<tr>" + "".join(f"<td>{_cell(x)}</td>" for x in row) + "</tr>" for row in rows]
    return f"<h2>{html.escape(heading)}</h2>\n<table>\n" + "\n".join(lines) + "\n</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return html.escape(", ".join(map(str, value)))
    return html.escape(str(value))
