import pytest

from suite.config import Schedule
from suite.training.schedule import lr_factor

TOLERANCE = 1e-12  # a few roundings in float64

# Schedule, warm-up, fraction of the budget used: fraction of the peak rate.
VALUES = [
    ("constant", 0, 0.0, 1),
    ("constant", 0, 0.99, 1),
    ("cosine", 0, 0.0, 1),
    ("cosine", 0, 1 / 3, 0.75),
    ("cosine", 0, 0.5, 0.5),
    ("cosine", 0, 1.0, 0),
    ("step", 0, 0.0, 1),
    ("step", 0, 0.4999, 1),
    ("step", 0, 0.5, 0.1),
    ("step", 0, 0.7499, 0.1),
    ("step", 0, 0.75, 0.01),
    ("step", 0, 1.0, 0.01),
    ("constant", 0.2, 0.0, 0),
    ("constant", 0.2, 0.1, 0.5),
    ("constant", 0.2, 0.2, 1),
    ("cosine", 0.2, 0.05, 0.25),
    ("cosine", 0.2, 0.2, 1),
    ("cosine", 0.2, 0.6, 0.5),
    ("cosine", 0.2, 1.0, 0),
    ("step", 0.2, 0.59, 1),
    ("step", 0.2, 0.61, 0.1),
    ("step", 0.2, 0.81, 0.01),
]


@pytest.mark.parametrize(("name", "warmup", "frac", "expected"), VALUES)
def test_values(name, warmup, frac, expected):
    schedule = Schedule(name=name, warmup_frac=warmup)
    assert lr_factor(schedule, frac) == pytest.approx(expected, abs=TOLERANCE)
