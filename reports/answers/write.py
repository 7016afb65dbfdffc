"""Answers as text: a CSV file for machines, Markdown for people, and cells for the page."""

from collections.abc import Iterable

import pandas as pd

from reports import text
from reports.answers.base import Answer

DIGITS = 4
SETTINGS = (  # columns that are said once where all rows agree
    *("workload", "case", "budget", "schedule", "batch_size", "num_workers", "num_threads"),
    *("source", "metric", "target", "baseline", "reference", "reference_case"),
)
UNITS = {"s": "s", "bytes": "bytes", "db": "dB", "decades": "decades", "steps": "steps"}


def csv_of(frame: pd.DataFrame) -> str:
    """Return a table as CSV, numbers in full, null as nothing.

    Args:
        frame: Of an answer.

    Returns:
        A line of column names, then a line a row.
    """
    return frame.to_csv(index=False, lineterminator="\n")


def markdown_of(answers: Iterable[tuple[Answer, pd.DataFrame]]) -> str:
    """Return answers as one Markdown document.

    Args:
        answers: Each with its table.

    Returns:
        For each its title, question, table and note.
    """
    return "\n\n".join(_section(answer, frame) for answer, frame in answers) + "\n"


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table in Markdown, numbers rounded to what can be read."""
    lines = [_row(map(heading, frame.columns)), _row("---" for _ in frame.columns), *map(_row, cells(frame))]
    return "\n".join(lines)


def latex_table(frame: pd.DataFrame) -> str:
    """Return a table in LaTeX for the package booktabs, numbers rounded to what can be read."""
    rows = [[" ".join(cell.split()) for cell in row] for row in cells(frame)]
    text_only = pd.DataFrame(rows, columns=[heading(name) for name in frame.columns], dtype="object")
    is_number = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns]
    column_format = "".join("r" if number else "l" for number in is_number)
    return text_only.to_latex(index=False, escape=True, column_format=column_format).rstrip("\n")


FOR_PAPERS = {"markdown": markdown_table, "latex": latex_table}


def heading(column: str) -> str:
    """Return a column's name as a heading, its unit in brackets; ``num_runs`` is "Runs"."""
    words, _, unit = column.rpartition("_")
    named = f"{words} ({UNITS[unit]})" if words and unit in UNITS else column
    named = named.removeprefix("num_")
    return (named[:1].upper() + named[1:]).replace("_", " ").replace("p holm", "p (Holm)").replace("P holm", "p (Holm)")


def cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the rows of a table as text, numbers rounded to what can be read.

    Args:
        frame: Of an answer.

    Returns:
        As many cells a row as columns.
    """
    columns = [[_cell(value) for value in frame[name]] for name in frame.columns]
    return list(zip(*columns, strict=True))


def shown(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a table as a person reads it: without columns that say nothing, or the same setting in every row.

    Args:
        frame: Of an answer.

    Returns:
        The columns that are left, all where there are no rows; and a sentence of what all rows share, or nothing.
    """
    if frame.empty:
        return frame, ""
    says = [name for name in frame.columns if (frame[name].notna() & (frame[name] != "")).any()]
    shared = [name for name in says if name in SETTINGS and len(frame) > 1 and frame[name].nunique(dropna=False) == 1]
    items = [f"{heading(name).lower()} {_cell(frame[name].iloc[0])}" for name in shared]
    return frame[[name for name in says if name not in shared]], f"In all rows: {'; '.join(items)}." if items else ""


def _section(answer: Answer, frame: pd.DataFrame) -> str:
    """Return an answer as a section."""
    kept, shared = shown(frame)
    body = markdown_table(kept) if len(kept) else "Nothing yet."
    note = " ".join(filter(None, (_safe(shared), answer.note)))
    return f"## {answer.title}\n\n{answer.question}\n\n{body}\n\n{note}"


def _row(values: Iterable[str]) -> str:
    """Return a line of a table; no cell can end it, or begin HTML."""
    return f"| {' | '.join(map(_safe, values))} |"


def _safe(value: str) -> str:
    """Return text on one line that Markdown takes for nothing else."""
    return " ".join(value.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").split())


def _cell(value: object) -> str:
    """Return a value as text."""
    if isinstance(value, str):
        return value or text.NOTHING
    if pd.isna(value):  # type: ignore[call-overload]
        return text.NOTHING
    return text.number(value, DIGITS) if isinstance(value, float) else f"{value:,}"
