"""How a step scales with the workers, as it was measured.

Strong scaling keeps the batch over all workers, weak scaling the batch of a worker. Both come down to throughput: with
B_K samples in t_K seconds on K workers, and K₀ the fewest workers measured, the speedup is B_K / t_K over B_K₀ / t_K₀,
and the efficiency the speedup over K / K₀.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from reports import stats
from reports.frames import Frames, calibrated_arm, calibrations, remembered
from reports.trust import is_control, step_times

UNKNOWN_ERROR = 0.05  # relative, of a step time that was measured once

_COUNTS = ["profile/collectives_per_step", "profile/bytes_per_step"]

Key = tuple[str, str, int]  # workload, arm, threads a worker
Place = tuple[Key, int, int]  # and workers, batch over all of them


@dataclass(frozen=True, slots=True)
class Point:
    """A step as it was measured under one condition.

    Args:
        key: Workload, arm, threads a worker.
        num_workers: K.
        batch_size: B, over all workers.
        seconds: By seed.
        collectives: n, of a step; NaN where it was not counted.
        num_bytes: m.
    """

    key: Key
    num_workers: int
    batch_size: int
    seconds: "pd.Series[float]"
    collectives: float
    num_bytes: float

    @property
    def mean(self) -> float:
        """Seconds of a step."""
        return float(self.seconds.mean())

    @property
    def error(self) -> float:
        """Half the 95 % interval of the mean."""
        found = stats.estimate(self.seconds)
        return (found.high - found.low) / 2 if found.n > 1 else UNKNOWN_ERROR * self.mean


@dataclass(frozen=True, slots=True)
class Scaling:
    """How an arm's throughput grew from the fewest workers measured to more.

    Args:
        kind: ``strong`` or ``weak``.
        key: Workload, arm, threads a worker.
        num_workers: K.
        base_workers: The fewest, K₀.
        batch_size: Over all workers.
        seconds: Of a step.
        speedup: Throughput over that of the fewest workers, over common seeds.
        efficiency: Speedup over K / K₀.
    """

    kind: str
    key: Key
    num_workers: int
    base_workers: int
    batch_size: int
    seconds: stats.Estimate
    speedup: stats.Estimate
    efficiency: stats.Estimate


@remembered
def points(frames: Frames) -> tuple[Point, ...]:
    """Return the measured steps by condition: of runs, or where there are none of calibrations.

    Args:
        frames: Of a whole study.

    Returns:
        Without controls.
    """
    runs, costs = step_times(frames), calibrations(frames)
    arms = {str(arm) for arm in runs["arm"]}
    costs = costs.assign(seconds=costs["step_s"], arm=[calibrated_arm(str(arm), arms) for arm in costs["arm"]])
    counted = _counted(frames)
    found: dict[Place, Point] = {}
    for source in (runs, costs):
        for place, own in _by_place(source):
            key, workers, batch = place
            volume = counted.get(place, (0.0, 0.0) if workers == 1 else (math.nan, math.nan))
            seconds = own.assign(seed=own["seed"].fillna(-1)).groupby("seed")["seconds"].mean()
            found.setdefault(place, Point(key, workers, batch, seconds, *volume))
    return tuple(found[place] for place in sorted(found))


def growth(frames: Frames) -> list[Scaling]:
    """Return how throughput grew with the workers, paired by seed.

    Args:
        frames: Of a whole study.

    Returns:
        A row an arm and number of workers, the fewest included.
    """
    found = points(frames)
    return [
        _grown(kind, group[0], point) for kind in ("strong", "weak") for group in groups(found, kind) for point in group
    ]


def _by_place(runs: pd.DataFrame) -> Iterator[tuple[Place, pd.DataFrame]]:
    """Yield the runs of each arm under each condition, without those of controls, and where no cases are mixed."""
    own = runs[~runs["arm"].map(is_control).astype(bool)]
    own = own.assign(num_threads=own["num_threads"].fillna(1))
    for values, group in own.groupby(["workload", "arm", "num_threads", "num_workers", "batch_size"]):
        if group["case"].nunique(dropna=False) > 1:
            continue  # something else differs that may change what a step costs: their mean would be of nothing
        workload, arm, *numbers = values
        threads, workers, batch = (int(float(str(number))) for number in numbers)
        yield ((str(workload), str(arm), threads), workers, batch), group


def _counted(frames: Frames) -> dict[Place, tuple[float, float]]:
    """Return collectives and bytes a step, where they were counted."""
    profiles = frames.runs[frames.runs["purpose"] == "profile"]
    counts = frames.metrics[frames.metrics["name"].isin(_COUNTS)].pivot_table(
        index="run_id", columns="name", values="value", aggfunc="last"
    )
    rows = profiles.merge(counts.reindex(columns=_COUNTS), left_on="run_id", right_index=True)
    return {place: (float(own[_COUNTS[0]].mean()), float(own[_COUNTS[1]].mean())) for place, own in _by_place(rows)}


def groups(found: Sequence[Point], kind: str) -> Iterator[list[Point]]:
    """Yield the points of an arm that scale from one to the next, the fewest workers first; ``strong`` or ``weak``."""
    alike: dict[tuple[Key, float], list[Point]] = {}
    for point in found:
        kept = point.batch_size if kind == "strong" else point.batch_size / point.num_workers
        alike.setdefault((point.key, kept), []).append(point)
    for group in alike.values():
        if len(group) > 1:
            yield sorted(group, key=lambda point: point.num_workers)


def _grown(kind: str, base: Point, point: Point) -> Scaling:
    """Return how throughput grew from one point to another."""
    common = pd.concat([base.seconds, point.seconds], axis=1, join="inner", keys=["base", "own"])
    speedup = point.batch_size / common["own"] / (base.batch_size / common["base"])
    return Scaling(
        kind,
        point.key,
        point.num_workers,
        base.num_workers,
        point.batch_size,
        stats.estimate(point.seconds),
        stats.estimate(speedup),
        stats.estimate(speedup * base.num_workers / point.num_workers),
    )
