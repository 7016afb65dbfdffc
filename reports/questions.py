"""The questions that people ask of a study's results, each answered by a plain data frame.

>>> import reports
>>> study = reports.load("results/digits")  # doctest: +SKIP
>>> study.leaderboard()  # doctest: +SKIP
>>> study.compare("adafisher", "adam")  # doctest: +SKIP
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from reports import answers
from reports.frames import Frames, parts, prepare
from suite.results import Results
from suite.results import load as load_results

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Questions:
    """Stored results, and questions to them.

    Every answer has one row a thing that was compared, with the workload and the case that it belongs to: nothing is
    averaged over either. What the columns mean is in ``reports.answers.find(name).note`` and ``docs/reports.md``.

    Args:
        results: Of one study.
    """

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def runs(self) -> pd.DataFrame:
        """A row a run, as ``suite.results`` has it."""
        return self.results.runs

    @property
    def epochs(self) -> pd.DataFrame:
        """A row an evaluation."""
        return self.results.epochs

    @property
    def steps(self) -> pd.DataFrame:
        """A row a sampled training step."""
        return self.results.steps

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a (step, name, value)."""
        return self.results.metrics

    @property
    def arrays(self) -> pd.DataFrame:
        """A row a (step, name, row, column, value)."""
        return self.results.arrays

    @cached_property
    def frames(self) -> Frames:
        """The tables as the reports read them: complete, typed, last attempts only."""
        return prepare(self.results)

    def answer(self, name: str) -> pd.DataFrame:
        """Return a plain table.

        Args:
            name: One of ``reports.answers.REGISTRY``.

        Returns:
            Its columns whatever there is; no rows where nothing was measured.

        Raises:
            ValueError: If there is none of that name.
        """  # noqa: DOC502
        return answers.find(name).table(self.frames)

    def leaderboard(self) -> pd.DataFrame:
        """Return what each arm reached, and whether the best one is resolved against it."""
        return self.answer("standings")

    def stability(self) -> pd.DataFrame:
        """Return how steady each arm is: basin widths, diverged runs, loss spikes, spread over the seeds."""
        return self.answer("steadiness")

    def time_to_target(self) -> pd.DataFrame:
        """Return how soon each arm reached the target, runs that never did counted as censored."""
        return self.answer("time_to_target")

    def memory(self) -> pd.DataFrame:
        """Return what each arm keeps in memory: measured by category where a ledger was kept, and predicted."""
        return self.answer("memory")

    def epoch_time(self) -> pd.DataFrame:
        """Return what an epoch of each arm takes, and how much more than one of SGD."""
        return self.answer("epoch_time")

    def compare(self, first: str, second: str) -> pd.DataFrame:
        """Return how two arms differ: a row a case and quantity.

        Args:
            first: Name of an arm.
            second: Name of another; differences are first minus second.

        Returns:
            Their rows of the table of all pairs, by whose number the tests stay corrected; no row where one of the two
            did not race.

        Raises:
            ValueError: If an arm is not of this study, or both are the same.
        """
        for arm in (first, second):
            if arm not in self.frames.arms:
                raise ValueError(f"unknown arm {arm!r}; known: {', '.join(self.frames.arms)}")
        if first == second:
            raise ValueError(f"an arm is compared with another, but got {first!r} twice")
        pairs = self.answer("pairs")
        as_named = pairs[(pairs["first"] == first) & (pairs["second"] == second)]
        turned = pairs[(pairs["first"] == second) & (pairs["second"] == first)]
        turned = turned.assign(
            first=first,
            second=second,
            difference=-turned["difference"],
            p_first_is_better=1 - turned["p_first_is_better"],
        )
        return pd.concat([as_named, turned]).sort_index().reset_index(drop=True)

    def figure(self, name: str, workload: str | None = None, case: str | None = None) -> "go.Figure":
        """Return a figure of the report.

        Args:
            name: One of ``reports.figures.FIGURES``.
            workload: Which, where the study has several and the figure is of one; ``None``: the first.
            case: Likewise.

        Returns:
            A plotly figure; one without traces says what is missing.

        Raises:
            ValueError: If there is no such figure, workload or case.
        """
        from reports.figures import FIGURES

        if name not in FIGURES:
            raise ValueError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
        spec = FIGURES[name]
        if spec.is_of_the_study:
            return spec.draw(self.frames)
        found = list(parts(self.frames))
        wanted = [p for p in found if workload in {None, p.workload} and case in {None, p.case}]
        if not wanted and (found or workload or case):
            known = ", ".join(f"{p.workload} {p.case}".strip() for p in found)
            raise ValueError(f"no part of the study is workload {workload!r}, case {case!r}; known: {known}")
        return spec.draw(wanted[0].frames if wanted else self.frames)


def load(uri: str | os.PathLike[str]) -> Questions:
    """Load the results of a study.

    Args:
        uri: Its directory, or any URI that ``pyarrow.fs`` knows.

    Returns:
        Its tables, and answers.

    Raises:
        UsageError: If it is no results directory, or of a newer schema.
    """  # noqa: DOC502
    return Questions(load_results(uri))
