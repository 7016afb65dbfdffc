"""The points of a whole sweep: which proposer is asked for a trial, and over which space."""

from collections.abc import Mapping, Sequence
from typing import Any

from optimizers.base import SearchSpace
from suite import workloads
from suite.config import Run
from suite.execution.sampling import LEARNING, Point, Proposer, proposer
from suite.execution.selection import by_group, whole_space, window
from suite.plan import extension_of
from suite.study import Tuning

Rows = Mapping[str, Mapping[str, Any]]
Part = tuple[str, str, int]  # workload, arm and extension: what one proposer is for


class Points:
    """Proposes the points of all arms.

    Args:
        tune: The sweep.
        trials: All its planned trials.
        finished: Rows by run id, without those of trials that are done again.
    """

    def __init__(self, tune: Tuning, trials: Sequence[Run], finished: Rows) -> None:
        self._tune, self._trials, self._finished = tune, trials, finished
        self._groups = by_group(trials)
        self._proposers: dict[Part, Proposer] = {}

    def space(self, run: Run) -> SearchSpace:
        """Return what is searched with a trial.

        Args:
            run: The trial.

        Returns:
            The window of its extension; for a sampler that learns, everything up to there.
        """
        runs, number = self._groups[run.workload, run.arm.name], extension_of(self._tune, run.trial or 0)
        find = whole_space if self._tune.sampler in LEARNING else window
        return find(self._tune, runs, number, self._finished)

    def propose(self, run: Run) -> Point:
        """Return the hyperparameters of a trial.

        Args:
            run: The trial.

        Returns:
            A value for each dimension of its space.
        """
        part = self._part(run)
        if part not in self._proposers:
            number = part[2]
            runs = [r for r in self._groups[part[:2]] if extension_of(self._tune, r.trial or 0) == number]
            self._proposers[part] = self._proposer(runs)
        assert run.trial is not None
        return self._proposers[part].propose(run.trial)

    def propose_alone(self, run: Run, finished: Rows) -> Point:
        """Return the hyperparameters of a trial from a sampler that is asked only this once.

        Args:
            run: The trial.
            finished: Rows by run id, those of trials that were finished meanwhile with them.

        Returns:
            A value for each dimension of its space.
        """
        assert run.trial is not None
        return Points(self._tune, self._trials, finished)._proposer([run]).propose(run.trial)

    def observe(self, run: Run, row: Mapping[str, Any] | None) -> None:
        """Tell what a proposed trial came to.

        Args:
            run: The trial.
            row: Of the table ``runs``; ``None`` if there is none.
        """
        assert run.trial is not None
        self._proposers[self._part(run)].observe(run.trial, row)

    def _part(self, run: Run) -> Part:
        return run.workload, run.arm.name, extension_of(self._tune, run.trial or 0)

    def _proposer(self, runs: Sequence[Run]) -> Proposer:
        first = runs[0]
        group = self._groups[first.workload, first.arm.name]
        rows = [self._finished[run.run_id] for run in group if run.run_id in self._finished]
        return proposer(runs, self.space(first), workloads.find(first.workload), rows)
