"""Where the numbers come from: configuration, versions, hardware and commit."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reports import text
from reports.frames import Frames, read_json
from reports.tables import Table

COLUMNS = {
    "hostname": "Host",
    "hardware": "Hardware",
    "num_workers": "Workers",
    "num_threads": "Threads per worker",
    "batch_size": "Batch size",
    "budget": "Budget",
    "sampler": "Sampler",
    "pruner": "Pruner",
    "source": "Source of the hyperparameters",
    "schedule": "Schedule",
    "splits": "Splits",
    "sync_batchnorm": "Synchronized BatchNorm",
    "schema_version": "Results schema",
}


def provenance(frames: Frames, given: Mapping[str, Any] | None = None) -> Table:
    """Return the facts that the caller gives, then those that the runs recorded.

    Args:
        frames: Prepared frames of the whole study.
        given: Facts of the caller, nested mappings allowed.

    Returns:
        A row a fact; of a fact with several values, all of them.
    """
    facts = [*flatten(given or {}), *_settings(frames.runs), *_environment(frames.runs), *_times(frames.runs)]
    return Table("Provenance", ("Fact", "Value"), tuple(facts))


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings as (dotted name, text)."""
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value):
            for number, part in enumerate(value):
                yield from flatten(part, f"{name}.{part.get('name', number)}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, text.NOTHING if value is None else str(value)


def _settings(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the settings of the runs that are columns."""
    for column, name in COLUMNS.items():
        values = sorted(runs[column].dropna().unique())
        if values:
            yield name, "; ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _environment(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the entries of the environments, each with its distinct values."""
    values: dict[str, dict[str, None]] = {}
    for environment in runs["environment"].dropna().unique():
        for name, value in flatten(read_json(environment)):
            values.setdefault(name, {})[value] = None
    for name, distinct in values.items():
        yield name, "; ".join(distinct)


def _times(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield when the runs were made and how long they took together."""
    start, end = runs["started_at"].dropna(), runs["finished_at"].dropna()
    if len(start) and len(end):
        yield "First run started", f"{start.min():%Y-%m-%d %H:%M:%S %Z}"
        yield "Last run finished", f"{end.max():%Y-%m-%d %H:%M:%S %Z}"
    yield "Time of all runs, with evaluations", text.seconds(runs["total_time_s"].sum())
