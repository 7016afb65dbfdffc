"""The pure expansion of a study into its runs: the same in every process, and after every restart."""

from collections.abc import Collection

from suite.config import Run
from suite.plan.arms import placebo_point, resolve_search_space
from suite.plan.costs import calibration_of, calibrations, cost_key, place_of, profiles, searched_costs
from suite.plan.runs import extension_of, extension_size, pretrainings, race_runs, tuning_runs
from suite.study import STAGES, Study

__all__ = [
    "calibration_of",
    "calibrations",
    "cost_key",
    "expand",
    "extension_of",
    "extension_size",
    "place_of",
    "placebo_point",
    "pretrainings",
    "profiles",
    "race_runs",
    "resolve_search_space",
    "searched_costs",
    "tuning_runs",
]


def expand(study: Study, stages: Collection[str] = STAGES, extensions: int = 0) -> list[Run]:
    """Return every run of a study, each once, in the order in which they are done.

    Calibrations come before the runs whose budgets they turn into steps, pretrainings before those that begin with
    their weights. Trials alternate over the arms, races over the seeds, so that slow drift of the machine falls on all
    arms alike.

    Args:
        study: A study.
        stages: Only these, ``tune`` or ``race``.
        extensions: How often its sweep has extended itself.

    Returns:
        Its runs; a pure function of the arguments.
    """
    runs: list[Run] = []
    if "tune" in stages:
        trials = tuning_runs(study, extensions)
        runs += [*calibrations(trials), *trials]
    if "race" in stages:
        races = race_runs(study)
        runs += [*pretrainings(study), *calibrations(races), *profiles(study, races), *races]
    return list({run.run_id: run for run in runs}.values())
