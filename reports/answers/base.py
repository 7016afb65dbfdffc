"""What every answer shares: its declaration, tables with fixed columns, and the conditions that rows belong to."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports import stats
from reports.frames import Frames, Part, parts, race_runs

Columns = dict[str, str]  # name → dtype

BASELINE = "sgd"  # the arm that others are measured against
PLACE = ["workload", "batch_size", "num_workers", "num_threads"]  # beside the arm, what a step's cost depends on


@dataclass(frozen=True, slots=True)
class Answer:
    """A plain table that answers a question from stored results.

    Args:
        name: As a study declares it, and the name of its file.
        title: In sentence case.
        question: What it answers, one sentence.
        table: Pure function of the frames of a whole study: the same columns whatever there is, nothing averaged over
            lost runs or over cases.
        note: How to read it.
    """

    name: str
    title: str
    question: str
    table: Callable[[Frames], pd.DataFrame]
    note: str


def text(*names: str) -> Columns:
    """Return columns of text."""
    return dict.fromkeys(names, "object")


def counts(*names: str) -> Columns:
    """Return columns of whole numbers."""
    return dict.fromkeys(names, "Int64")


def numbers(*names: str) -> Columns:
    """Return columns of numbers."""
    return dict.fromkeys(names, "float64")


def spread(quantity: str) -> Columns:
    """Return the columns that :func:`spread_of` fills."""
    return numbers(*(f"{name}_{quantity}" for name in ("mean", "std", "low", "high")))


def spread_of(quantity: str, value: stats.Estimate) -> dict[str, float]:
    """Return mean, standard deviation and 95 % interval as cells."""
    return {f"{name}_{quantity}": getattr(value, name) for name in ("mean", "std", "low", "high")}


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Return rows as a frame with exactly these columns.

    Args:
        rows: Cells by column; what is left out is null.
        columns: With their types.

    Returns:
        Text is empty where it is null.
    """
    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name, dtype in columns.items():
        if dtype == "object":
            frame[name] = frame[name].astype("object").where(frame[name].notna(), "").map(str).astype("object")
        else:
            values = pd.to_numeric(frame[name], errors="coerce").astype("float64").replace([np.inf, -np.inf], np.nan)
            frame[name] = values.astype(dtype)  # type: ignore[call-overload]
    return frame


def raced(frames: Frames) -> Iterator[Part]:
    """Yield the parts of a study that have race runs."""
    return (part for part in parts(frames) if len(race_runs(part.frames)))


def settings(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the conditions of runs of one part, as cells.

    Args:
        runs: Rows of ``runs``; they differ in arm and seed.

    Returns:
        Of each the first value that is known.
    """
    names = ["workload", "case", "batch_size", "num_workers", "num_threads", "budget", "schedule"]
    known = {name: runs[name].dropna() for name in names}
    return {name: values.iloc[0] if len(values) else None for name, values in known.items()}


def by_arm(runs: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    """Return a column of race runs by arm and seed.

    Args:
        runs: Of one part, as :func:`reports.frames.race_runs` marks them.
        column: Which.

    Returns:
        By arm a series over its seeds; NaN where a run was lost, nothing where it is not there yet.
    """
    kept = runs.assign(value=runs[column].where(~runs["is_lost"]))
    grouped = kept.groupby(["arm", "seed"])["value"].agg(lambda values: values.mean(skipna=False))
    return {str(arm): grouped.loc[arm] for arm in sorted(kept["arm"].unique()) if arm in grouped.index}


def reference_of(runs: pd.DataFrame, preferred: str = BASELINE) -> str | None:
    """Return the arm that others are measured against: the preferred one, else the one that started first.

    Args:
        runs: Of one part; controls and placebos are no reference.
        preferred: Its name, where it is there.

    Returns:
        ``None`` without runs.
    """
    own = runs[~runs["source"].isin(("placebo", "control"))]
    if own.empty or (own["arm"] == preferred).any():
        return preferred if len(own) else None
    starts = pd.to_datetime(own["started_at"], utc=True)
    return str(own.assign(start=starts).sort_values(["start", "arm"])["arm"].iloc[0])


def last_values(frames: Frames, prefix: str) -> pd.DataFrame:
    """Return the last value of each metric of each run, for the names that begin so.

    Args:
        frames: Prepared frames.
        prefix: Of the names.

    Returns:
        A row a run that has one, indexed by ``run_id``; a column a name, without the prefix.
    """
    found = frames.metrics[frames.metrics["name"].astype("object").str.startswith(prefix, na=False)]
    last = found.sort_values("step").drop_duplicates(["run_id", "name"], keep="last")
    table = last.pivot(index="run_id", columns="name", values="value")
    return table.rename(columns=lambda name: str(name).removeprefix(prefix))
