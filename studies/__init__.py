"""The studies: an explicit table, a file each. Declarations only."""

from studies import digits, hparam_budget, hparam_map, hparam_search, hparam_transfer
from suite.study import Study

REGISTRY: dict[str, Study] = {
    study.name: study
    for study in (digits.STUDY, hparam_search.STUDY, hparam_map.STUDY, hparam_budget.STUDY, hparam_transfer.STUDY)
}

__all__ = ["REGISTRY"]
