"""The studies: an explicit table, a file each. Declarations only."""

from studies import digits
from suite.study import Study

REGISTRY: dict[str, Study] = {digits.STUDY.name: digits.STUDY}

__all__ = ["REGISTRY"]
