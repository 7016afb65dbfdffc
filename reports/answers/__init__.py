"""The plain tables that studies write: a file an answer, and this table of them all."""

from reports.answers import (
    ablations,
    epoch_time,
    epochs_in_budget,
    fisher_accuracy,
    fisher_histograms,
    kronecker,
    memory,
    pairs,
    paper,
    placebo,
    projection,
    scaling,
    scaling_model,
    schedules,
    searches,
    sensitivity,
    stability,
    standings,
    steadiness,
    time_split,
    time_to_target,
    trajectories,
    trust,
)
from reports.answers.base import Answer

_MODULES = (
    standings,
    pairs,
    searches,
    time_to_target,
    epochs_in_budget,
    placebo,
    schedules,
    ablations,
    sensitivity,
    stability,
    steadiness,
    memory,
    trust,
    epoch_time,
    time_split,
    scaling,
    projection,
    scaling_model,
    kronecker,
    fisher_accuracy,
    fisher_histograms,
    trajectories,
    paper,
)

REGISTRY: dict[str, Answer] = {module.ANSWER.name: module.ANSWER for module in _MODULES}

__all__ = ["REGISTRY", "Answer", "find"]


def find(name: str) -> Answer:
    """Return an answer by its name.

    Args:
        name: As a study declares it.

    Returns:
        The answer.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in REGISTRY:
        raise ValueError(f"unknown answer {name!r}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]
