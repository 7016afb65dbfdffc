"""Questions to the tables, for those who would rather type than program."""

from collections.abc import Callable

import pandas as pd

from suite.errors import UsageError, known

_FORMATS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "table": lambda frame: frame.to_string(index=False).encode(),
    "csv": lambda frame: frame.to_csv(index=False, lineterminator="\n").rstrip("\n").encode(),
    "json": lambda frame: frame.to_json(orient="records", date_format="iso", double_precision=15).encode(),
    "parquet": lambda frame: bytes(frame.to_parquet(index=False)),
}
FORMATS = tuple(_FORMATS)


def query(frame: pd.DataFrame, where: str | None = None, columns: str | None = None) -> pd.DataFrame:
    """Return the rows and columns that are asked for.

    Args:
        frame: A table of results.
        where: A pandas query of the columns, which may call their methods: trusted as the user's own code is;
            ``None``: all rows.
        columns: Names, separated by commas; ``None``: all columns.

    Returns:
        The selection.

    Raises:
        UsageError: If the query cannot be read, or a column is unknown.
    """
    if where:
        try:
            answer = frame.query(where, local_dict={}, global_dict={})
        except Exception as error:  # pandas raises whatever its parser meets
            raise UsageError(f"the query {where!r} cannot be answered: {error}") from error
        if not isinstance(answer, pd.DataFrame):
            raise UsageError(f"the query {where!r} cannot be answered: it is no condition on rows")
        frame = answer
    names = [name.strip() for name in columns.split(",")] if columns is not None else list(frame.columns)
    if len({*names}) < len(names):
        raise UsageError(f"a column is asked for twice: {columns}")
    for name in names:
        if name not in frame.columns:
            raise UsageError(known("column", name, frame.columns))
    return frame[names]


def render(frame: pd.DataFrame, fmt: str) -> bytes:
    """Return a frame as the content of a file.

    Args:
        frame: Any.
        fmt: One of :data:`FORMATS`.

    Returns:
        Text in UTF-8, without a newline at its end, or a Parquet file.

    Raises:
        UsageError: If the format is unknown.
    """
    if fmt not in _FORMATS:
        raise UsageError(known("format", fmt, _FORMATS))
    return _FORMATS[fmt](frame)
