"""Performance profiles: how often each of several arms is close to the best, over many problems."""

import numpy as np
import pandas as pd


def performance_profile(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the share of problems that each arm solves within a factor of the best arm on the same problem.

    Dolan and Moré (2002), "Benchmarking optimization software with performance profiles", equations 2.1 and 2.2. A
    problem that no arm solves counts as unsolved by all. A factor is relative to the arms of the table: without one of
    them the others may stand in another order.

    Args:
        costs: A row a problem, a column an arm; >= 0, lower is better, NaN or infinity where not solved.

    Returns:
        Shares in [0, 1], a column an arm, indexed by the factors >= 1 at which one of them changes, 1 always among
        them; no rows for no problems.
    """
    solved = costs.where(np.isfinite(costs))
    best = solved.min(axis=1)
    factors = solved.div(best, axis=0).mask(solved.eq(best, axis=0), 1.0)
    steps = np.unique([1.0, *factors.to_numpy()[np.isfinite(factors)]]) if len(costs) else np.array([])
    return pd.DataFrame({arm: [(factors[arm] <= step).mean() for step in steps] for arm in costs}, index=steps)
