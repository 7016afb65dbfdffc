"""The studies: an explicit table, a file each. Declarations only."""

from studies import (
    ablations,
    control,
    digits,
    epoch_time,
    fisher_accuracy,
    fisher_histograms,
    fixed_epochs,
    hparam_budget,
    hparam_map,
    hparam_search,
    hparam_transfer,
    kronecker,
    memory,
    scaling,
    schedulers,
    stability,
    trajectories,
    transfer,
    wall_clock_race,
)
from suite.study import Study

REGISTRY: dict[str, Study] = {
    study.name: study
    for study in (
        digits.STUDY,
        hparam_search.STUDY,
        hparam_map.STUDY,
        hparam_budget.STUDY,
        hparam_transfer.STUDY,
        wall_clock_race.STUDY,
        transfer.STUDY,
        fixed_epochs.STUDY,
        schedulers.STUDY,
        ablations.STUDY,
        stability.STUDY,
        memory.STUDY,
        epoch_time.STUDY,
        scaling.STUDY,
        kronecker.STUDY,
        fisher_accuracy.STUDY,
        fisher_histograms.STUDY,
        trajectories.STUDY,
        control.STUDY,
    )
}

__all__ = ["REGISTRY"]
