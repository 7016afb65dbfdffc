"""How a step scales with the workers, as it was measured (Table 6, Fig 15)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.answers.base import Answer, counts, frame_of, numbers, spread, spread_of, text
from reports.frames import Frames, race_runs, remembered
from reports.scaling import growth, points
from reports.trust import is_trusted

COLUMNS = (
    text("workload", "arm")
    | counts("num_threads")
    | text("mode")
    | counts("num_workers", "batch_size", "num_runs", "num_lost")
    | spread("step_s")
    | numbers("speedup", "efficiency", "efficiency_low", "efficiency_high", "collectives_per_step", "bytes_per_step")
    | text("trusted")
)


@remembered
def table(frames: Frames) -> pd.DataFrame:
    """Return a row an arm, mode and number of workers."""
    return frame_of(_rows(frames), COLUMNS)


def _rows(frames: Frames) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    counted = {(p.key, p.num_workers, p.batch_size): (p.collectives, p.num_bytes) for p in points(frames)}
    runs = race_runs(frames)
    place = ["workload", "arm", "num_threads", "num_workers", "batch_size"]
    lost = runs.fillna({"num_threads": 1.0}).groupby(place)["is_lost"].sum().to_dict()
    trusted = "yes" if is_trusted(frames) else "no"
    for row in growth(frames):
        workload, arm, num_threads = row.key
        collectives, num_bytes = counted[row.key, row.num_workers, row.batch_size]
        yield {
            "workload": workload,
            "arm": arm,
            "num_threads": num_threads,
            "mode": row.kind,
            "num_workers": row.num_workers,
            "batch_size": row.batch_size,
            "num_runs": row.seconds.n,
            "num_lost": lost.get((*row.key, row.num_workers, row.batch_size), 0),
            **spread_of("step_s", row.seconds),
            "speedup": row.speedup.mean,
            "efficiency": row.efficiency.mean,
            "efficiency_low": row.efficiency.low,
            "efficiency_high": row.efficiency.high,
            "collectives_per_step": collectives,
            "bytes_per_step": num_bytes,
            "trusted": trusted,
        }


ANSWER = Answer(
    name="scaling",
    title="Scaling",
    question="How much faster does each arm train on more workers?",
    table=table,
    note="strong: the same batch over all workers; weak: the same batch on each. speedup: samples a second over those "
    "of the fewest workers, paired by seed; efficiency: speedup over how many times as many workers, with its 95 % "
    "interval. collectives and bytes: what a worker takes part in and hands over, mean a step; null where it was not "
    "counted. trusted: whether the study's times passed every check.",
)
