"""What diagnostics found in the race, moment by moment, over the seeds: what the answers about curvature share."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports import stats
from reports.answers.base import Columns, counts, numbers, text
from reports.frames import Frames, race_runs

KEYS = ["workload", "case", "arm"]

MOMENT: Columns = text(*KEYS) | counts("moment", "num_runs") | numbers("mean_step", "mean_frac_of_budget")


def of_the_race(table: pd.DataFrame, frames: Frames, prefix: str) -> pd.DataFrame:
    """Return rows of a long table that belong to race runs which finished.

    Args:
        table: ``metrics`` or ``arrays``.
        frames: Prepared frames.
        prefix: Of the names.

    Returns:
        The rows, ``name`` without the prefix, with workload, case, arm, seed, ``frac`` (step over the run's steps) and
        ``moment``: 1 for the first at which its run was looked at, and so on.
    """
    found = table[table["name"].astype("object").str.startswith(prefix, na=False)]
    runs = race_runs(frames)
    runs = runs.loc[~runs["is_lost"], ["run_id", "seed", "num_steps", *KEYS]]
    rows = found.merge(runs, on="run_id")
    return rows.assign(
        name=rows["name"].str.removeprefix(prefix),
        frac=rows["step"] / rows["num_steps"],
        moment=rows.groupby("run_id")["step"].rank(method="dense"),
    )


def by_moment(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the cells of each name at each moment: mean and standard deviation over the runs.

    Args:
        rows: With the columns of :func:`of_the_race` and ``value``, one a run, moment and name.

    Yields:
        The cells of :data:`MOMENT`, ``name``, ``mean`` and ``std``.
    """
    for key, own in rows.groupby([*KEYS, "name", "moment"]):
        found = stats.estimate(own["value"])
        yield {
            **dict(zip([*KEYS, "name", "moment"], key, strict=True)),
            "num_runs": found.n,
            "mean_step": own["step"].mean(),
            "mean_frac_of_budget": own["frac"].mean(),
            "mean": found.mean,
            "std": found.std,
        }
