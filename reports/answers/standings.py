"""The standings: what each arm reached, case by case."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports import stats
from reports.answers.base import Answer, counts, frame_of, numbers, raced, settings, spread, spread_of, text
from reports.frames import Frames, Metric, Part, race_runs
from reports.race import Standing, race

NEAR = 0.9  # of the target

COLUMNS = (
    text("workload", "case", "budget", "schedule")
    | counts("batch_size", "num_workers")
    | text("arm", "source", "metric")
    | counts("num_runs", "num_lost")
    | spread("test_metric")
    | numbers("mean_test_loss", "std_test_loss", "mean_budget_time_s", "mean_train_time_s")
    | text("against_best")
    | numbers("difference_from_best", "p_holm", "target")
    | text("reaches_nine_tenths_of_target")
)


def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm of every case, in the order of its race."""
    return frame_of((row for part in raced(frames) for row in _rows(part)), COLUMNS)


def is_near(metric: Metric, mean: float) -> bool:
    """Return whether a mean reaches nine tenths of the target; of a metric that falls, the target over that."""
    return Metric(metric.name, metric.sign, metric.target * NEAR**metric.sign).meets(mean)


def _rows(part: Part) -> Iterator[dict[str, Any]]:
    """Yield the rows of a case."""
    runs, result = race_runs(part.frames), race(part.frames)
    verdicts = result.against_best()
    best = next((standing.arm for standing in result.competitors), None)
    pairs = {c.second: (-c.difference, c.p_holm) for c in result.comparisons if c.first == best}
    pairs |= {c.second: (-c.difference, c.p_holm) for c in result.controls}
    for standing in result.standings:
        own = runs[runs["arm"] == standing.arm]
        kept = own[~own["is_lost"]]
        difference, p_holm = pairs.get(standing.arm, (None, None))
        yield {
            **settings(own),
            "arm": standing.arm,
            "source": standing.source,
            "metric": result.metric.name,
            "num_runs": standing.num_runs,
            "num_lost": standing.num_lost,
            **spread_of("test_metric", standing.metric),
            "mean_test_loss": standing.loss.mean,
            "std_test_loss": standing.loss.std,
            "mean_budget_time_s": stats.estimate(kept["budget_time_s"]).mean,
            "mean_train_time_s": stats.estimate(kept["train_time_s"]).mean,
            "against_best": verdicts.get(standing.arm, ""),
            "difference_from_best": difference,
            "p_holm": p_holm,
            "target": result.metric.target,
            "reaches_nine_tenths_of_target": _near(result.metric, standing),
        }


def _near(metric: Metric, standing: Standing) -> str:
    """Return whether an arm comes near the target, where that can be said."""
    if not standing.metric.n or metric.target != metric.target:
        return ""
    return "yes" if is_near(metric, standing.metric.mean) else "no"


ANSWER = Answer(
    name="standings",
    title="Standings",
    question="What does each arm reach when the budget is spent, and is the best one resolved against it?",
    table=table,
    note="Mean, standard deviation and 95 % interval over the seeds that finished; a lost run (diverged, out of "
    "memory, failed) is counted, never averaged, and its arm stands below those that lost fewer and is not tested. "
    "The verdict is that of the paired test against the arm with the best mean, Holm-corrected over all pairs of arms "
    "of the case; a control is tested against its own arm alone. budget_time_s is the time charged, train_time_s the "
    "time measured. Nine tenths of the target: of a metric that falls, the target over 0.9.",
)
