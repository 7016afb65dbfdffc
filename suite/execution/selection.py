"""What finished trials say: which point wins, whether it lies on an edge, and where a sweep goes on if so."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from optimizers import Categorical, Float
from optimizers.base import SearchSpace
from suite import workloads
from suite.config import Run
from suite.errors import UsageError
from suite.execution.job import configure
from suite.plan import extension_of, placebo_point, race_runs, tuning_runs
from suite.results.spaces import edges, hull
from suite.study import Study, Tuning

Rows = Mapping[str, Mapping[str, Any]]
Group = tuple[str, str]  # workload and arm: one sweep of one arm

COMPLETED = ("completed", "target_reached")


def due(runs: Sequence[Run], finished: Rows, retry: Collection[str] = ()) -> list[Run]:
    """Return what is planned, minus what is done.

    Args:
        runs: Planned.
        finished: Rows by run id.
        retry: Statuses of runs that are to be done again.

    Returns:
        In the order of the plan.
    """
    return [run for run in runs if run.run_id not in finished or finished[run.run_id].get("status") in retry]


def by_group(trials: Sequence[Run]) -> dict[Group, list[Run]]:
    """Return the trials of each arm on each workload.

    Args:
        trials: Of a study.

    Returns:
        In the order of the plan.
    """
    groups: dict[Group, list[Run]] = {}
    for run in trials:
        groups.setdefault((run.workload, run.arm.name), []).append(run)
    return groups


def best_row(runs: Sequence[Run], finished: Rows) -> Mapping[str, Any] | None:
    """Return the row of an arm's best trial.

    Args:
        runs: All trials of the arm on one workload; those that are not finished are left out.
        finished: Rows by run id.

    Returns:
        The best validation metric at the end, of equals the lower validation loss, then the earlier trial; ``None`` if
        no trial completed.
    """
    sign = -1 if workloads.find(runs[0].workload).metric_goal == "maximize" else 1
    rows = [finished[run.run_id] for run in runs if run.run_id in finished]
    candidates = [row for row in rows if row["status"] in COMPLETED]
    return min(candidates, key=lambda row: (sign * row["val_metric"], row["val_loss"], row["trial"]), default=None)


def best_point(runs: Sequence[Run], finished: Rows) -> dict[str, Any] | None:
    """Return the hyperparameters of an arm's best trial.

    Args:
        runs: All trials of the arm on one workload.
        finished: Their rows by run id.

    Returns:
        The searched hyperparameters of the winner; ``None`` if no trial completed.
    """
    best = best_row(runs, finished)
    if best is None:
        return None
    values = json.loads(best["hyperparameters"])
    return {name: values[name] for name in runs[0].arm.search_space or {}}


@dataclass(frozen=True, slots=True)
class Winner:
    """What an arm races with.

    Args:
        point: Hyperparameters over the arm's own; ``None`` if no trial completed.
        cost: Columns of the race that say what the search for them took.
    """

    point: dict[str, Any] | None
    cost: Mapping[str, Any]


def winners(study: Study, finished: Rows) -> dict[tuple[str, str], Winner]:
    """Return what the arms of a study race with.

    Args:
        study: The study.
        finished: Rows by run id.

    Returns:
        By arm and source, as its races name them.

    Raises:
        UsageError: If an arm's sweep is not finished.
    """
    entries = dict.fromkeys((run.arm.name, run.source) for run in race_runs(study))
    groups = by_group(tuning_runs(study, num_extensions(study, finished)))
    arms = {arm.name: arm for arm in study.arms}
    chosen: dict[tuple[str, str], Winner] = {}
    for arm, source in entries:
        if study.tune is None or source == "default":
            cost = {} if study.tune is None else {"num_tuning_trials": 0, "tuning_time_s": 0.0}
            chosen[arm, source] = Winner({}, cost)
            continue
        workload = study.tune.transfer_from if source == "transferred" else study.workload
        runs = groups[workload or "", arm]
        missing = due(runs, finished)
        if missing:
            raise UsageError(
                f"arm {arm!r} has no winner yet: {len(missing)} of {len(runs)} trials are missing; "
                f"run `fisherbench sweep {study.name}` first, or give values with --given {arm}.lr=…"
            )
        spent = sum(finished[run.run_id].get("train_time_s") or 0.0 for run in runs)
        point = best_point(runs, finished)
        if source == "placebo" and point is not None:
            point = placebo_point(arms[arm], point)
        chosen[arm, source] = Winner(point, {"num_tuning_trials": len(runs), "tuning_time_s": spent})
    return chosen


def outdated(study: Study, races: Sequence[Run], finished: Rows) -> list[Run]:
    """Return the races that were run with another winner than the sweep has now, as when it was extended.

    Args:
        study: The study.
        races: Planned.
        finished: Rows by run id.

    Returns:
        In the order of the plan; none while the sweep is not finished.
    """
    won = {"winner", "transferred", "placebo", "control"}
    done = [run for run in races if run.purpose == "race" and run.source in won and run.run_id in finished]
    if not done or study.tune is None or due(tuning_runs(study, num_extensions(study, finished)), finished):
        return []
    chosen = winners(study, finished)
    points = {run.run_id: chosen[run.arm.name, run.source].point or {} for run in done}
    used = {run.run_id: json.loads(finished[run.run_id]["hyperparameters"]) for run in done}
    return [run for run in done if not points[run.run_id].items() <= used[run.run_id].items()]


def num_extensions(study: Study, finished: Rows) -> int:
    """Return how often a sweep has to extend itself, as far as its finished trials say.

    Args:
        study: The study.
        finished: Rows by run id.

    Returns:
        At most ``max_extensions``; an extension is for every arm, whichever arm's best trial lies on an edge.
    """
    number, tune = 0, study.tune
    while tune and number < tune.max_extensions:
        trials = tuning_runs(study, number)
        if due(trials, finished):
            break
        groups = by_group(trials).values()
        if all(window(tune, r, number + 1, finished) == whole_space(tune, r, number, finished) for r in groups):
            break
        number += 1
    return number


def whole_space(tune: Tuning, runs: Sequence[Run], number: int, finished: Rows) -> SearchSpace:
    """Return all that an arm's sweep has searched.

    Args:
        tune: The sweep.
        runs: The arm's trials on one workload.
        number: Of the last extension that counts; 0: none.
        finished: Rows by run id.

    Returns:
        The declared space together with the window of each extension.
    """
    spaces = [window(tune, runs, k, finished) for k in range(number + 1)]
    whole = hull(as_json(space) for space in spaces)
    return {name: replace(atom, **whole[name]) for name, atom in spaces[0].items()}


def window(tune: Tuning, runs: Sequence[Run], number: int, finished: Rows) -> SearchSpace:
    """Return what an extension of an arm's sweep searches.

    Args:
        tune: The sweep.
        runs: The arm's trials on one workload.
        number: Of the extension, from 1; 0: the space as declared.
        finished: Rows by run id.

    Returns:
        All that was searched before; of that, a range on whose edge the best trial lies is moved beyond it by half of
        its width, on its own scale, if the optimizer takes such values.
    """
    if number == 0:
        return runs[0].arm.search_space or {}
    space = whole_space(tune, runs, number - 1, finished)
    point = best_point([run for run in runs if extension_of(tune, run.trial or 0) < number], finished)
    found = edges(as_json(space), point) if point else {}
    return {name: _moved(runs[0], name, atom, found.get(name)) for name, atom in space.items()}


def _moved(run: Run, name: str, atom: Float | Categorical, end: str | None) -> Float | Categorical:
    """Return a range moved beyond one of its ends, or as it is where that cannot be."""
    if end is None or isinstance(atom, Categorical):
        return atom
    scale, back = (math.log, math.exp) if atom.log else (float, float)
    low, high = scale(atom.low), scale(atom.high)
    shift = (high - low) / 2 if end == "high" else (low - high) / 2
    low, high = (float(f"{back(bound + shift):.12g}") for bound in (low, high))
    try:
        for bound in (low, high):
            configure(run, {name: bound})
    except UsageError:
        return atom
    return Float(low=low, high=high, log=atom.log)


def as_json(space: SearchSpace) -> dict[str, dict[str, Any]]:
    """Return a space as the results hold it."""
    return {name: asdict(atom) for name, atom in space.items()}
