"""Stop trials early that do worse than others did at the same part of the budget: Optuna's pruners, asked meanwhile.

Off unless a study asks for it, and said in the report: an early loss misleads where the learning rate still falls.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import optuna
import ray
from optuna.trial import Trial, TrialState

from suite import workloads
from suite.config import Run
from suite.execution.sampling import outcome, percent_used
from suite.execution.selection import Group
from suite.results import Store
from suite.training.outcome import Watch

Rows = Mapping[str, Mapping[str, Any]]
Curves = Mapping[str, Sequence[tuple[int, float]]]

PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    # at a quarter and at a half of the budget the better half goes on
    "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=25, reduction_factor=2),
    # from the middle of the budget on, if worse than the median of at least four finished trials at the same point
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=50),
}


class Judge:
    """Knows the curves of all trials and says which one is to stop; lives in a process of its own, an actor of Ray.

    Args:
        pruner: A key of :data:`PRUNERS`.
        trials: All planned trials.
        rows: Finished trials by run id.
        curves: Steps and validation metrics of their evaluations, by run id.
    """

    def __init__(self, pruner: str, trials: Iterable[Run], rows: Rows, curves: Curves) -> None:
        self._studies: dict[Group, optuna.Study] = {}
        self._under_way: dict[str, Trial] = {}
        self._runs = {run.run_id: run for run in trials}
        for run in self._runs.values():
            goal = workloads.find(run.workload).metric_goal
            group = _group(run)
            if group not in self._studies:
                self._studies[group] = optuna.create_study(pruner=PRUNERS[pruner](), direction=goal)
        for run_id in self._runs.keys() & rows.keys() & curves.keys():
            self._recall(self._runs[run_id], rows[run_id], curves[run_id])

    def _recall(self, run: Run, row: Mapping[str, Any], curve: Sequence[tuple[int, float]]) -> None:
        """Take note of a trial that was finished in an earlier start."""
        for step, metric in curve:
            self.is_over(run.run_id, step / row["num_steps"] * percent_used(row) / 100, metric)
        self.finish(run.run_id, row)

    def is_over(self, run_id: str, frac: float, metric: float) -> bool:
        """Take note of an evaluation.

        Args:
            run_id: Of the trial.
            frac: Fraction of its budget used.
            metric: On the validation split.

        Returns:
            Whether the trial is to stop.
        """
        trial = self._under_way.get(run_id)
        if trial is None:
            trial = self._under_way[run_id] = self._studies[_group(self._runs[run_id])].ask()
        trial.report(metric, round(100 * frac))
        return trial.should_prune()

    def finish(self, run_id: str, row: Mapping[str, Any]) -> None:
        """Take note of the end of a trial.

        Args:
            run_id: Of the trial.
            row: Of the table ``runs``.
        """
        trial = self._under_way.pop(run_id, None)
        if trial is not None:
            run = self._runs[run_id]
            state, value = outcome(row, workloads.find(run.workload))
            self._studies[_group(run)].tell(trial, None if state == TrialState.PRUNED else value, state)


def _group(run: Run) -> Group:
    return run.workload, run.arm.name


def start_judge(pruner: str, trials: Iterable[Run], rows: Rows, store: Store) -> Any:  # noqa: ANN401
    """Start the judge of a sweep in a process of its own.

    Args:
        pruner: ``none``, or a key of :data:`PRUNERS`.
        trials: All planned trials.
        rows: Finished trials by run id.
        store: Where their curves are.

    Returns:
        A handle of Ray; ``None`` where nothing is pruned.
    """
    if pruner == "none":
        return None
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Judge)
    curves = {
        str(run_id): list(zip(curve["step"], curve["val_metric"], strict=True))
        for run_id, curve in store.load().epochs.groupby("run_id")
    }
    return actor.remote(pruner, list(trials), rows, curves)


def watch_for(judge: Any, run: Run) -> Watch | None:  # noqa: ANN401
    """Return what a trial's loop asks at its evaluations.

    Args:
        judge: From :func:`start_judge`.
        run: The trial.

    Returns:
        The question to the judge; ``None`` where nothing is pruned.
    """
    if judge is None:
        return None
    return lambda frac, metric: bool(ray.get(judge.is_over.remote(run.run_id, frac, metric)))
