"""Learning-rate schedules over the fraction of the budget that is used, so that each arm finishes its own."""

import math

from suite.config import Schedule


def lr_factor(schedule: Schedule, frac: float) -> float:
    """Return the learning rate as a fraction of its peak.

    Args:
        schedule: Which one.
        frac: Fraction of the budget used before the step, in [0, 1].

    Returns:
        In [0, 1]. With a warm-up, the schedule proper runs over the rest of the budget.
    """
    warmup = schedule.warmup_frac
    if frac < warmup:
        return frac / warmup
    rest = (frac - warmup) / (1 - warmup)
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
    if schedule.name == "step":
        return 1.0 if rest < 0.5 else 0.1 if rest < 0.75 else 0.01
    return 1.0
