"""How steady each arm is: how far its good settings reach, how often it diverges or spikes, what a seed moves."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.frames import Frames, Part, metric_of, parts, race_runs, tune_runs

SETTINGS = ("lr", "damping", "gamma")

COLUMNS = (
    text("workload", "case", "arm")
    | counts("num_trials", "num_runs")
    | numbers(*(f"{name}_basin_decades" for name in SETTINGS))
    | numbers("diverged_share", "mean_spike_rate")
    | counts("num_seeds")
    | numbers("std_test_metric")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm that was tuned or raced, part by part."""
    return frame_of((row for part in parts(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part."""
    trials, runs = tune_runs(part.frames), race_runs(part.frames)
    losses = part.frames.steps.sort_values("step").groupby("run_id")["loss"]
    spikes = losses.agg(stats.spike_rate)
    sign = metric_of(part.frames).sign
    for arm in sorted({*trials["arm"], *runs["arm"]}):
        tried, raced = trials[trials["arm"] == arm], runs[runs["arm"] == arm]
        finished = stats.estimate(raced["test_metric"])
        yield {
            "workload": part.workload,
            "case": part.case,
            "arm": arm,
            "num_trials": len(tried),
            "num_runs": len(raced),
            "diverged_share": stats.divergence_rate([*tried["status"], *raced["status"]]),
            "mean_spike_rate": stats.estimate(
                raced.loc[~raced["is_lost"], "run_id"].map(spikes).to_numpy(dtype="float64")
            ).mean,
            "num_seeds": finished.n,
            "std_test_metric": finished.std,
        } | {f"{name}_basin_decades": _basin(tried, name, sign) for name in SETTINGS}


def _basin(trials: pd.DataFrame, setting: str, sign: int) -> float:
    """Return the basin width along a setting; NaN where the trials did not move it."""
    if trials[setting].nunique() < 2:
        return float("nan")
    return stats.basin_width(trials[setting], trials["score"], sign=sign)


ANSWER = Answer(
    name="steadiness",
    title="Steadiness",
    question="How much does each arm forgive: wrong settings, and another seed?",
    table=table,
    note="Basins: decades between the lowest and the highest value among the trials within 2 % of the arm's best "
    "score, whatever their other settings; a lower bound with few trials, empty where trials did not move the "
    "setting. Widths compare only between arms that were searched over ranges as wide. diverged_share: of all "
    "trials and race runs that did not fail. mean_spike_rate: over the race runs that finished, the share of "
    "their sampled training losses above twice the median of the nine before. std_test_metric: over the num_seeds "
    "race runs that finished, all of one setting.",
)
