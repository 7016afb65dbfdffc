"""The five tables as the reports read them: complete, typed, and only the last attempt of each run.

Numbers are float64 with NaN for "null", whatever the source stored, so that no figure asks for dtypes.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from suite.results.schema import TABLES

LOST = ("diverged", "out_of_memory", "failed")
FINISHED = ("completed", "target_reached")  # the statuses that can win a search

SERVING = ("calibrate", "profile", "pretrain")  # purposes of runs that others need, or that time a step
TOLD = ("default", "transferred", "placebo", "control")  # sources that are part of what an entry is called

T = TypeVar("T")

_OPTIONS = re.compile(r"( \w+=\S+)+$")
_SOURCE = re.compile(rf" \(({'|'.join(TOLD)})\)$")
_LONG = tuple(name for name in TABLES if name != "runs")
_COST = ["workload", "num_workers", "num_threads", "batch_size"]  # beside the arm, what a step's cost depends on


class Tables(Protocol):
    """What ``suite.results.load`` returns: five frames with the columns of ``suite.results.schema``."""

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

    @property
    def arrays(self) -> pd.DataFrame:
        """A row a (step, name, row, column, value)."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The prepared tables of a study, or of a part of it.

    Args:
        runs: A row a run, last attempts only.
        epochs: Their evaluations.
        steps: Their sampled steps.
        metrics: Their diagnostics.
        arrays: What they found that is no single number.
        arms: All arms of the study, sorted: the order that fixes each arm's colour and symbol. Those of which several
            costs were calibrated are there once, without their options.
        kept: What :func:`remembered` functions found in these frames.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    steps: pd.DataFrame
    metrics: pd.DataFrame
    arrays: pd.DataFrame
    arms: tuple[str, ...]
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def only(self, runs: pd.DataFrame) -> "Frames":
        """Return the frames of some of the runs.

        Args:
            runs: Rows of ``self.runs``.

        Returns:
            Those rows and theirs of the other tables; all arms, so that each keeps its colour.
        """
        tables = {name: getattr(self, name) for name in _LONG}
        long: dict[str, Any] = {name: t[t["run_id"].isin(runs["run_id"])] for name, t in tables.items()}
        return Frames(runs, **long, arms=self.arms)


def remembered(function: Callable[[Frames], T]) -> Callable[[Frames], T]:
    """Return a function of frames that is computed once: frames never change, and many figures ask alike.

    Args:
        function: Pure.

    Returns:
        The same; a data frame is copied for each who asks.
    """
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def ask(frames: Frames) -> T:
        if name not in frames.kept:
            frames.kept[name] = function(frames)
        found: T = frames.kept[name]
        return found.copy() if isinstance(found, pd.DataFrame) else found

    return ask


@dataclass(frozen=True, slots=True)
class Part:
    """The runs that can be compared: those of one workload under the same conditions.

    Args:
        workload: Name of the workload.
        case: Name of the conditions within the study; empty where it has one alone.
        frames: Its runs, and the calibrations that these were charged by.
    """

    workload: str
    case: str
    frames: Frames


@remembered
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
        tables: Frames with the columns of the schema; missing columns are filled with nulls. What is prepared already
            is returned as it is.

    Returns:
        The frames that every other function of this package takes.
    """
    if isinstance(tables, Frames):
        return tables
    runs = _complete(tables.runs, "runs").sort_values("attempt").drop_duplicates("run_id", keep="last")
    runs = runs.sort_values(["workload", "case", "arm", "purpose", "trial", "seed"], ignore_index=True)
    last = runs[["run_id", "attempt"]]
    long: dict[str, Any] = {
        name: _complete(getattr(tables, name), name).merge(last, on=["run_id", "attempt"]) for name in _LONG
    }
    return Frames(runs, **long, arms=tuple(_arms(runs)))


def parts(frames: Frames) -> Iterator[Part]:
    """Yield the parts of a study: workload by workload, those with a race first, then by name; case by case.

    Cases come in the order in which they were begun. Runs of no case, such as a sweep for all of them, are a part of
    their own; a calibration belongs to every case whose runs it was measured for. What only serves other runs makes
    no part, unless there is nothing else yet.

    Args:
        frames: Of the whole study.

    Yields:
        Parts; arms keep the order of the whole study.
    """
    yield from _parts(frames)


@remembered
def _parts(frames: Frames) -> tuple[Part, ...]:
    """Return the parts of a study."""
    return tuple(_found_parts(frames))


def _found_parts(frames: Frames) -> Iterator[Part]:
    """Yield the parts of a study."""
    raced = set(race_runs(frames)["workload"])
    serves = frames.runs["purpose"].isin(SERVING)
    main = frames.runs if serves.all() else frames.runs[~serves]
    for workload, own in sorted(main.groupby("workload"), key=lambda group: (group[0] not in raced, str(group[0]))):
        runs = frames.runs[frames.runs["workload"] == workload]
        cases = sorted(own["case"].unique(), key=lambda case: _begun(own, case))
        for case in cases:
            part = runs[_belongs(runs, case)] if len(cases) > 1 else runs
            yield Part(str(workload), str(case), frames.only(part))


@remembered
def metric_of(frames: Frames) -> Metric:
    """Return the metric that the runs were measured by; of several, the first."""
    runs = frames.runs
    name, goal, target = (_first(runs[column]) for column in ("metric_name", "metric_goal", "target"))
    return Metric(str(name or "metric"), -1 if goal == "minimize" else 1, np.nan if target is None else float(target))


@remembered
def race_runs(frames: Frames) -> pd.DataFrame:
    """Return the runs whose test metric ranks arms: the race, or single runs.

    A run that diverged, ran out of memory, failed or has no finite test metric is marked in the column ``is_lost``
    and has no test metric: it is counted, never averaged.
    """
    runs = frames.runs[frames.runs["purpose"].isin(("race", "single"))].copy()
    runs["is_lost"] = runs["status"].isin(LOST) | ~np.isfinite(runs["test_metric"])
    runs.loc[runs["is_lost"], ["test_metric", "test_loss"]] = np.nan
    return runs


@remembered
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


@remembered
def is_tuning_only(frames: Frames) -> bool:
    """Return whether there are trials and no race, as on the other workload of a transfer."""
    return race_runs(frames).empty and not tune_runs(frames).empty


def calibrated_arm(name: str, arms: Collection[str]) -> str:
    """Return the arm behind the name of a calibration: ``adam`` of ``adam foreach=True``, if there is such an arm."""
    origin = _OPTIONS.sub("", name)
    return name if name in arms or origin not in arms else origin


def base_arm(arm: str) -> str:
    """Return the arm behind an entry of the race: ``adam`` of ``adam (default)`` or ``adam (control)``."""
    return _SOURCE.sub("", arm)


@remembered
def calibrations(frames: Frames) -> pd.DataFrame:
    """Return the calibration rows, one an arm and setting that changes a step's cost, with ``steps_per_epoch``."""
    runs = frames.runs
    keys = ["workload", "num_workers", "batch_size"]
    rates = runs.assign(steps_per_epoch=runs["num_steps"] / runs["num_epochs"].where(runs["num_epochs"] > 0))
    per_epoch = rates.groupby(keys, dropna=False)["steps_per_epoch"].median().reset_index()
    measured = runs[(runs["purpose"] == "calibrate") & (runs["step_s"] > 0)]
    return measured.drop_duplicates(["arm", *_COST], keep="last").merge(per_epoch, on=keys, how="left")


def read_json(text: object) -> dict[str, Any]:
    """Return the object of a JSON column; empty where it is null, or no JSON."""
    try:
        value = json.loads(text) if isinstance(text, str) and text else {}
    except ValueError:  # of other hands
        return {}
    return value if isinstance(value, dict) else {}


def _complete(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Return the frame with exactly the columns of its table, numbers as float64."""
    full = frame.reindex(columns=[column.name for column in TABLES[table]])
    for column in TABLES[table]:
        if str(column.type) in {"double", "int64"}:
            full[column.name] = pd.to_numeric(full[column.name], errors="coerce").astype("float64")
        if column.name.endswith("_s"):  # no time is infinite
            full[column.name] = full[column.name].replace([np.inf, -np.inf], np.nan)
    full["attempt"] = full["attempt"].fillna(1.0)
    if "case" in full:
        full["case"] = full["case"].astype("object").where(full["case"].notna(), "")
    return full


def _arms(runs: pd.DataFrame) -> list[str]:
    """Return the arms; the cost variants of one count as it."""
    is_calibration = runs["purpose"] == "calibrate"
    trained, calibrated = ({*runs.loc[rows, "arm"].dropna()} for rows in (~is_calibration, is_calibration))
    return sorted(trained | {calibrated_arm(name, trained) for name in calibrated})


def _begun(runs: pd.DataFrame, case: str) -> tuple[pd.Timestamp, str]:
    """Return when the first run of a case began, and its name."""
    start = pd.to_datetime(runs.loc[runs["case"] == case, "started_at"], utc=True).min()
    return pd.Timestamp.max.tz_localize("UTC") if pd.isna(start) else start, case


def _belongs(runs: pd.DataFrame, case: str) -> "pd.Series[bool]":
    """Return which runs of a workload are of a case, or calibrations measured under its settings."""
    own = runs["case"] == case
    known = {*runs.loc[own, _COST].fillna(-1).itertuples(index=False, name=None)}
    fits = pd.Series([row in known for row in runs[_COST].fillna(-1).itertuples(index=False, name=None)], runs.index)
    return own | ((runs["purpose"] == "calibrate") & (runs["case"] == "") & fits.astype(bool))


def _first(values: pd.Series) -> Any:
    """Return the first value that is not null, or None."""
    known = values.dropna()
    return known.iloc[0] if len(known) else None
