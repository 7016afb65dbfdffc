"""What each arm's search found, and what it cost."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, text
from reports.frames import Frames, Part, metric_of, parts
from reports.sweep import sweep

COLUMNS = (
    text("workload", "case", "arm", "metric")
    | counts("num_trials", "num_lost", "num_pruned")
    | numbers("tuning_time_s", "best_val_metric")
    | counts("best_trial")
    | text("hyperparameters", "on_an_edge")
    | numbers("lr_basin_decades", "diverged_share")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm that was tuned, workload by workload."""
    return frame_of((row for part in parts(frames) for row in _rows(part)), COLUMNS)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part."""
    for search in sweep(part.frames):
        yield {
            "workload": part.workload,
            "case": part.case,
            "arm": search.arm,
            "metric": metric_of(part.frames).name,
            "num_trials": search.num_trials,
            "num_lost": search.num_lost,
            "num_pruned": search.num_pruned,
            "tuning_time_s": search.training_s,
            "best_val_metric": search.best_score,
            "best_trial": search.best_trial,
            "hyperparameters": json.dumps(search.hyperparameters),
            "on_an_edge": ", ".join(f"{name} {end}" for name, end in search.edges.items()),
            "lr_basin_decades": search.lr_basin_decades,
            "diverged_share": search.divergence_rate,
        }


ANSWER = Answer(
    name="searches",
    title="Searches",
    question="What did each arm's search find, where, and after how much training?",
    table=table,
    note="The best trial by its validation metric at the end, among those that ran to their end; tuning_time_s: "
    "measured training time of all trials of the arm. on_an_edge: hyperparameters whose best value lies on an edge of "
    "what was searched, so that the optimum may lie outside. lr_basin_decades: between the learning rates of the "
    "trials within 2 % of the best score, a lower bound with few trials. diverged_share: of the trials that did not "
    "fail.",
)
