"""The results of a study as people hold them: five frames."""

from collections.abc import Callable, Collection
from functools import cached_property

import pandas as pd


class Results:
    """The tables as pandas frames, each read when it is first asked for; the columns: :mod:`suite.results.schema`.

    While a study runs, a table that is asked for later may have runs that an earlier one does not have yet.

    Args:
        read: Returns a table by its name.
    """

    def __init__(self, read: Callable[[str], pd.DataFrame]) -> None:
        self._read = read

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row a run."""
        return self._read("runs")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row an evaluation."""
        return self._read("epochs")

    @cached_property
    def steps(self) -> pd.DataFrame:
        """A row a sampled training step."""
        return self._read("steps")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row a (step, name, value)."""
        return self._read("metrics")

    @cached_property
    def arrays(self) -> pd.DataFrame:
        """A row a (step, name, row, column, value)."""
        return self._read("arrays")

    def only(self, run_ids: Collection[str]) -> "Results":
        """Return the rows of some runs.

        Args:
            run_ids: Which.

        Returns:
            The tables without all other runs.
        """

        def read(name: str) -> pd.DataFrame:
            frame: pd.DataFrame = getattr(self, name)
            return frame[frame["run_id"].isin(run_ids)]

        return Results(read)
