"""The four tables as the reports read them: complete, typed, and only the last attempt of each run.

Numbers are float64 with NaN for "null", whatever the source stored, so that no figure asks for dtypes.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from suite.results.schema import TABLES

LOST = ("diverged", "out_of_memory", "failed")
FINISHED = ("completed", "target_reached")  # the statuses that can win a search

_OPTIONS = re.compile(r"( \w+=\S+)+$")
_SOURCE = re.compile(r" \((default|transferred)\)$")


class Tables(Protocol):
    """What ``suite.results.load`` returns: four frames with the columns of ``suite.results.schema``."""

    @property
    def runs(self) -> pd.DataFrame:
        """A row a run."""

    @property
    def epochs(self) -> pd.DataFrame:
        """A row an evaluation."""

    @property
    def steps(self) -> pd.DataFrame:
        """A row a sampled training step."""

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a (step, name, value)."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The prepared tables of a study, or of one workload of it.

    Args:
        runs: A row a run, last attempts only.
        epochs: Their evaluations.
        steps: Their sampled steps.
        metrics: Their diagnostics.
        arms: All arms of the study, sorted: the order that fixes each arm's colour and symbol. Those of which several
            costs were calibrated are there once, without their options.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    steps: pd.DataFrame
    metrics: pd.DataFrame
    arms: tuple[str, ...]


def times(frames: Frames) -> pd.DataFrame:
    """Return the median times of the runs that trained, by purpose and arm, and ``data_share`` of the training time."""
    runs = frames.runs[frames.runs["train_time_s"] > 0]
    names = ["train_time_s", "eval_time_s", "checkpoint_time_s", "warmup_time_s", "total_time_s", "data_share"]
    shares = runs.assign(data_share=runs["data_time_s"] / runs["train_time_s"])
    return shares.groupby(["purpose", "arm"], as_index=False)[names].median()


@dataclass(frozen=True, slots=True)
class Metric:
    """The workload's metric.

    Args:
        name: E.g. ``accuracy``.
        sign: +1 if higher is better, -1 if lower is.
        target: The workload's target, NaN if it has none.
    """

    name: str
    sign: int
    target: float

    @property
    def good(self) -> str:
        """Which direction is better, in words."""
        return "higher is better" if self.sign > 0 else "lower is better"

    def meets(self, value: float) -> bool:
        """Return whether a value reaches the target; true where there is no target."""
        return not self.sign * (value - self.target) < 0


def prepare(tables: Tables) -> Frames:
    """Complete the tables and keep the last attempt of each run.

    Args:
        tables: Frames with the columns of the schema; missing columns are filled with nulls.

    Returns:
        The frames that every other function of this package takes.
    """
    runs = _complete(tables.runs, "runs").sort_values("attempt").drop_duplicates("run_id", keep="last")
    runs = runs.sort_values(["workload", "arm", "purpose", "trial", "seed"], ignore_index=True)
    last = runs[["run_id", "attempt"]]
    epochs, steps, metrics = (
        _complete(getattr(tables, name), name).merge(last, on=["run_id", "attempt"])
        for name in ("epochs", "steps", "metrics")
    )
    return Frames(runs, epochs, steps, metrics, tuple(_arms(runs)))


def by_workload(frames: Frames) -> Iterator[tuple[str, Frames]]:
    """Yield (workload, its frames), those with a race first, then by name; arms keep the order of the whole study."""
    raced = set(race_runs(frames)["workload"])
    groups = sorted(frames.runs.groupby("workload"), key=lambda group: (group[0] not in raced, str(group[0])))
    for workload, runs in groups:
        epochs, steps, metrics = (
            table[table["run_id"].isin(runs["run_id"])] for table in (frames.epochs, frames.steps, frames.metrics)
        )
        yield str(workload), Frames(runs, epochs, steps, metrics, frames.arms)


def metric_of(frames: Frames) -> Metric:
    """Return the metric that the runs were measured by; of several, the first."""
    runs = frames.runs
    name, goal, target = (_first(runs[column]) for column in ("metric_name", "metric_goal", "target"))
    return Metric(str(name or "metric"), -1 if goal == "minimize" else 1, np.nan if target is None else float(target))


def race_runs(frames: Frames) -> pd.DataFrame:
    """Return the runs whose test metric ranks arms: the race, or single runs.

    A run that diverged, ran out of memory, failed or has no finite test metric is marked in the column ``is_lost``
    and has no test metric: it is counted, never averaged.
    """
    runs = frames.runs[frames.runs["purpose"].isin(("race", "single"))].copy()
    runs["is_lost"] = runs["status"].isin(LOST) | ~np.isfinite(runs["test_metric"])
    runs.loc[runs["is_lost"], ["test_metric", "test_loss"]] = np.nan
    return runs


def tune_runs(frames: Frames) -> pd.DataFrame:
    """Return the trials, with the metric that selects among them as ``score``: NaN if the trial did not finish.

    The score is the validation metric at the end, or the test metric for ``splits="paper"``, which has no validation.
    A trial that was stopped early (``is_pruned``) is not lost (``is_lost``), but its metric is one of half a training
    and no candidate for the best.
    """
    runs = frames.runs[frames.runs["purpose"] == "tune"].copy()
    score = runs["val_metric"].where(runs["splits"] != "paper", runs["test_metric"])
    runs["score"] = score.where(runs["status"].isin(FINISHED) & np.isfinite(score))
    runs["is_pruned"] = runs["status"] == "pruned"
    runs["is_lost"] = runs["score"].isna() & ~runs["is_pruned"]
    return runs


def is_tuning_only(frames: Frames) -> bool:
    """Return whether there are trials and no race, as on the other workload of a transfer."""
    return race_runs(frames).empty and not tune_runs(frames).empty


def calibrated_arm(name: str, arms: Collection[str]) -> str:
    """Return the arm behind the name of a calibration: ``adam`` of ``adam foreach=True``, if there is such an arm."""
    origin = _OPTIONS.sub("", name)
    return name if name in arms or origin not in arms else origin


def base_arm(arm: str) -> str:
    """Return the arm behind an entry of the race: ``adam`` of ``adam (default)``."""
    return _SOURCE.sub("", arm)


def calibrations(frames: Frames) -> pd.DataFrame:
    """Return the calibration rows, one an arm, number of workers and batch size, with ``steps_per_epoch``."""
    runs = frames.runs
    keys = ["arm", "num_workers", "batch_size"]
    rates = runs.assign(steps_per_epoch=runs["num_steps"] / runs["num_epochs"].where(runs["num_epochs"] > 0))
    per_epoch = rates.groupby(["num_workers", "batch_size"], dropna=False)["steps_per_epoch"].median().reset_index()
    measured = runs[(runs["purpose"] == "calibrate") & (runs["step_s"] > 0)]
    return measured.drop_duplicates(keys, keep="last").merge(per_epoch, on=["num_workers", "batch_size"], how="left")


def read_json(text: object) -> dict[str, Any]:
    """Return the object of a JSON column; empty where it is null."""
    value = json.loads(text) if isinstance(text, str) and text else {}
    return value if isinstance(value, dict) else {}


def _complete(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the frame with exactly the columns of its table, numbers as float64."""
    full = frame.reindex(columns=[column.name for column in TABLES[table]])
    for column in TABLES[table]:
        if str(column.type) in {"double", "int64"}:
            full[column.name] = pd.to_numeric(full[column.name], errors="coerce").astype("float64")
    full["attempt"] = full["attempt"].fillna(1.0)
    return full


def _arms(runs: pd.DataFrame) -> list[str]:
    """Return the arms; the cost variants of one count as it."""
    is_calibration = runs["purpose"] == "calibrate"
    trained, calibrated = ({*runs.loc[rows, "arm"].dropna()} for rows in (~is_calibration, is_calibration))
    return sorted(trained | {calibrated_arm(name, trained) for name in calibrated})


def _first(values: pd.Series) -> Any:
    """Return the first value that is not null, or None."""
    known = values.dropna()
    return known.iloc[0] if len(known) else None
