"""The results of a study in a directory, local or on any ``pyarrow.fs`` URI: the only durable truth.

```
study.json              which study this is, and the schema's version
plan.json               what was planned last: the question, the runs, the configuration
runs/<run_id>-<n>.parquet   a finished run, written whole: one row, the long tables nested in it
tables/<table>.parquet  the finished runs folded into one file per table
checkpoints/<run_id>.pt runs under way
weights/<run_id>.pt     networks that others begin with
lock                    held by the process at work
```
"""

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from suite.errors import UsageError
from suite.results.folder import TEMPORARY, Folder, MissingError
from suite.results.results import Results
from suite.results.schema import KEY, SCHEMA_VERSION, TABLES, arrow_schema

_LONG_TABLES = tuple(table for table in TABLES if table != "runs")
_KEY_NAMES = [column.name for column in KEY]
_MARKER = "study.json"
_PLAN = "plan.json"
_VERSION_KEY = b"schema_version"
MAX_FOLDS = 3  # of another process, while tables are read once


def load(uri: str | os.PathLike[str]) -> Results:
    """Load the results of a study.

    Args:
        uri: Its directory, or any URI that ``pyarrow.fs`` knows.

    Returns:
        The finished runs; of several attempts at a run, the last. A table is read when it is asked for: a UsageError
        then says which file is damaged, or of a newer schema.

    Raises:
        UsageError: If it is no results directory.
    """  # noqa: DOC502
    return Store(uri).load()


class Store:
    """Reads and writes the results directory of one study.

    Args:
        uri: A local path, or any URI that ``pyarrow.fs`` knows.
        study: Name of the study that it is, or shall become, the directory of; ``None`` opens an existing one.

    Raises:
        UsageError: If the directory is not this study's, or not a results directory, or of a newer schema.
    """  # noqa: DOC502

    def __init__(self, uri: str | os.PathLike[str], study: str | None = None) -> None:
        self.folder = Folder(str(uri))
        self.uri = self.folder.uri
        self.study = self._open(study)

    def _open(self, study: str | None) -> str:
        """Return the name of the study; nothing is written before :meth:`create`."""
        if self.folder.has(_MARKER):
            return self._check_marker(study)
        if study is None:
            raise UsageError(f"{self.uri!r} is not a results directory: it has no {_MARKER}")
        if self.folder.names():
            raise UsageError(f"{self.uri!r} is not empty and not a results directory: it has no {_MARKER}")
        return study

    def _check_marker(self, study: str | None) -> str:
        marker = self._read_json(_MARKER)
        version, name = marker.get("schema_version"), marker.get("study")
        if not isinstance(version, int) or not isinstance(name, str):
            raise UsageError(f"{self.folder.path(_MARKER)!r} is damaged: it names no study and schema_version")
        self._check_version(version, _MARKER)
        if study is not None and study != name:
            raise UsageError(f"{self.uri!r} holds the study {name!r}, not {study!r}; choose another --results")
        return name

    def write(self, run: Mapping[str, Any], long: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """Write a finished run, whole or not at all.

        Args:
            run: Its row of the table ``runs``; columns left out are null.
            long: Its rows of the other tables, without the key.

        Raises:
            UsageError: If a column is not in the schema.
        """  # noqa: DOC502
        _check_columns("runs", run)
        row = dict(run)
        for table in _LONG_TABLES:
            row[table] = [dict(r) for r in long.get(table, ())]
            for r in row[table]:
                _check_columns(table, r)
        content = _to_parquet(pa.Table.from_pylist([row], schema=_run_file_schema()))
        self.create()
        self.folder.write(_file_name(run["run_id"], run["attempt"]), content)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write what is planned, for the report.

        Args:
            plan: JSON-serialisable: ``question``, ``run_ids`` and ``study``, its configuration.
        """
        self.folder.write(_PLAN, json.dumps(plan, indent=2).encode())

    def read_plan(self) -> dict[str, Any]:
        """Read what was planned last.

        Returns:
            As it was written; empty if there was no plan.

        Raises:
            UsageError: If it is damaged.
        """
        if not self.folder.has(_PLAN):
            return {}
        plan = self._read_json(_PLAN)
        kinds = {"question": str, "run_ids": list, "study": dict}
        if not all(isinstance(plan.get(name), kind) for name, kind in kinds.items()):
            raise UsageError(f"{self.folder.path(_PLAN)!r} is damaged: it needs question, run_ids and study")
        answers = plan["study"].get("answers", [])
        if not isinstance(answers, list) or not all(isinstance(name, str) for name in answers):
            raise UsageError(f"{self.folder.path(_PLAN)!r} is damaged: its answers are no list of names")
        return plan

    def _read_json(self, name: str) -> dict[str, Any]:
        content = self.folder.read(name)
        try:
            value = json.loads(content)
        except ValueError as error:
            raise UsageError(f"{self.folder.path(name)!r} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise UsageError(f"{self.folder.path(name)!r} is damaged: it holds no JSON object")
        return value

    def load(self) -> Results:
        """Read the folded tables and the newer files: each table when it is asked for.

        Returns:
            The tables; of several attempts at a run, the last. A damaged file is said where its table is asked for.
        """
        return Results(lambda name: _to_pandas(self._tables((name,))[name], name))

    def finished(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the finished runs.

        Returns:
            By run id, the last attempt of each.
        """
        return {row["run_id"]: row for row in self._tables(("runs",))["runs"].to_pylist()}

    def has(self, run_id: str, attempt: int) -> bool:
        """Whether there is an unfolded file of an attempt at a run.

        Args:
            run_id: Of the run.
            attempt: Its number.

        Returns:
            Whether it is there.
        """
        return self.folder.has(_file_name(run_id, attempt))

    def create(self) -> None:
        """Write the marker that makes the directory a results directory, if it is not one yet."""
        if not self.folder.has(_MARKER):
            marker = {"schema_version": SCHEMA_VERSION, "study": self.study}
            self.folder.write(_MARKER, json.dumps(marker, indent=2).encode())

    def unfolded(self) -> list[tuple[str, int]]:
        """List the attempts at runs that have not been folded yet.

        Returns:
            Run ids and attempts, in order.
        """
        stems = (name.removesuffix(".parquet").rpartition("-") for name in self.folder.names("runs", ".parquet"))
        return [(run_id, int(attempt)) for run_id, _, attempt in stems if attempt.isascii() and attempt.isdigit()]

    def read_run(self, run_id: str, attempt: int) -> dict[str, Any]:
        """Read the row of one unfolded attempt at a run.

        Args:
            run_id: Of the run.
            attempt: Its number.

        Returns:
            Its row of the table ``runs``.
        """
        name = _file_name(run_id, attempt)
        row: dict[str, Any] = self._read(name, arrow_schema("runs").names).to_pylist()[0]
        return row

    def fold(self) -> None:
        """Fold the finished runs into one file per table; what was folded and is written is then removed.

        A crash at any moment leaves every run in at least one place; ``load`` reads each once. One process folds.
        """
        for name in self.folder.names("runs", TEMPORARY):  # of a process that was killed while it wrote
            self.folder.remove(f"runs/{name}")
        attempts = self.unfolded()
        for table, content in self._tables(tuple(TABLES)).items() if attempts else ():
            self.folder.write(f"tables/{table}.parquet", _to_parquet(content))
        for attempt in attempts:
            self.folder.remove(_file_name(*attempt))

    def _tables(self, names: tuple[str, ...]) -> dict[str, pa.Table]:
        """Return tables as they are at one moment, though another process may fold meanwhile."""
        for _ in range(MAX_FOLDS):
            try:
                return self._tables_now(names)
            except MissingError:  # folded since it was listed: what was folded is read again
                continue
        return self._tables_now(names)

    def _tables_now(self, names: tuple[str, ...]) -> dict[str, pa.Table]:
        """Return tables, each run once: of its last attempt the newer file, else what was folded."""
        files = self._read_run_files(names)
        folded = {name: self._folded(name) for name in names}
        keys = folded["runs"] if "runs" in folded else self._folded("runs", _KEY_NAMES)
        attempts: dict[str, tuple[int, bool]] = {}
        for is_file, source in ((False, keys), (True, files["runs"])):
            for run_id, attempt in zip(*(source[c].to_pylist() for c in _KEY_NAMES), strict=True):
                attempts[run_id] = max(attempts.get(run_id, (0, False)), (attempt, is_file))
        kept = {
            is_file: [f"{run_id}-{attempt}" for run_id, (attempt, place) in attempts.items() if place == is_file]
            for is_file in (False, True)
        }
        return {
            name: pa.concat_tables([_only(files[name], kept[True]), _only(folded[name], kept[False])]) for name in names
        }

    def _folded(self, table: str, columns: list[str] | None = None) -> pa.Table:
        name = f"tables/{table}.parquet"
        whole = arrow_schema(table)
        schema = pa.schema([whole.field(column) for column in columns or whole.names])
        if not self.folder.has(name):
            return schema.empty_table()
        try:
            return self._read(name, schema.names).cast(schema)
        except pa.ArrowInvalid as error:
            raise UsageError(f"{self.folder.path(name)!r} has a column of another type: {error}") from error

    def _read_run_files(self, tables: tuple[str, ...]) -> dict[str, pa.Table]:
        """Return tables of the unfolded files; ``runs`` with its key alone where it is not asked for."""
        long = [table for table in tables if table != "runs"]
        own = arrow_schema("runs").names if "runs" in tables else _KEY_NAMES
        names = [_file_name(*attempt) for attempt in self.unfolded()]
        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(lambda name: self._read(name, [*own, *long]), names))
        whole = pa.concat_tables(parts) if parts else _run_file_schema().empty_table()
        return {"runs": whole.select(own), **{table: _unnest(whole, table) for table in long}}

    def _read(self, name: str, columns: list[str]) -> pa.Table:
        try:
            file = pq.ParquetFile(pa.BufferReader(self.folder.read(name)))
            version = int((file.schema_arrow.metadata or {})[_VERSION_KEY])
            self._check_version(version, name)
            # a thread a file, not a column: files of a run are small
            table = file.read(columns=columns, use_threads=name.startswith("tables/"))
            table = table.replace_schema_metadata(None)
            return (_with_new_columns(table) if version < SCHEMA_VERSION else table).select(columns)
        except (ValueError, KeyError, OSError) as error:
            if isinstance(error, UsageError):
                raise
            reason = str(error).splitlines()[0]
            path = self.folder.path(name)
            raise UsageError(f"{path!r} is truncated or not a results file: {reason}") from error

    def _check_version(self, version: int, name: str) -> None:
        if version > SCHEMA_VERSION:
            path = self.folder.path(name)
            raise UsageError(
                f"{path!r} has schema version {version}, but this fisherbench reads up to {SCHEMA_VERSION}"
            )


def _file_name(run_id: str, attempt: int) -> str:
    return f"runs/{run_id}-{attempt}.parquet"


def _to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _with_new_columns(table: pa.Table) -> pa.Table:
    """Return rows of an older schema with the columns, and the nested tables, that it lacked, null."""
    for field in _run_file_schema():
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _run_file_schema() -> pa.Schema:
    nested = []
    for table in _LONG_TABLES:
        inner = [f for f in arrow_schema(table) if f.name not in _KEY_NAMES]
        nested.append(pa.field(table, pa.list_(pa.struct(inner))))
    return pa.schema([*arrow_schema("runs"), *nested])


def _unnest(whole: pa.Table, table: str) -> pa.Table:
    """Turn the nested rows of a long table into its flat form, with the key of their run."""
    schema = arrow_schema(table)
    if whole.num_rows == 0:
        return schema.empty_table()
    nested = whole[table].combine_chunks()
    parents = pc.list_parent_indices(nested)
    flat = pa.Table.from_struct_array(pc.list_flatten(nested)) if len(parents) else None
    columns = {name: whole[name].take(parents) for name in _KEY_NAMES}
    for field in schema:
        if field.name not in columns:
            columns[field.name] = flat[field.name] if flat is not None else pa.array([], field.type)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _only(table: pa.Table, keys: list[str]) -> pa.Table:
    """Return the rows of these runs' attempts, each ``<run_id>-<attempt>``."""
    names = pc.binary_join_element_wise(table["run_id"], table["attempt"].cast(pa.string()), "-")
    return table.filter(pc.is_in(names, value_set=pa.array(keys, pa.string())))


def _check_columns(table: str, row: Mapping[str, Any]) -> None:
    unknown = set(row) - {column.name for column in TABLES[table]}
    if unknown:
        raise UsageError(f"the schema of {table!r} has no column {', '.join(sorted(unknown))}")


def _to_pandas(table: pa.Table, name: str) -> pd.DataFrame:
    """Return a frame whose null integers and booleans stay what they are, ordered by key and step."""
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get)
    order = ["started_at", "run_id"] if name == "runs" else [*_KEY_NAMES, "step"]
    ordered: pd.DataFrame = frame.sort_values(order, kind="stable", ignore_index=True)
    return ordered
