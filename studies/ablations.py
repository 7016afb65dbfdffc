"""AdaFisher without one of its parts (Fig 12): square root, running average, normalization layers."""

from dataclasses import replace
from typing import Any

from studies.recipes import CNN, DIGITS, SEEDS, Values, arms, epochs, time_of
from suite.config import Arm
from suite.study import Race, Study

PARTS: dict[str, dict[str, Any]] = {
    "adafisher": {},
    "with square root": {"square_root": True},  # A
    "without average": {"ema": False},  # B
    "without norm layers": {"layers": "dense"},  # C
}


def _arms(values: Values, **common: float) -> tuple[Arm, ...]:
    [whole, reference] = arms(values, "adafisher", "sgd", **common)
    variants = (replace(whole, name=name, fixed={**whole.fixed, **part}) for name, part in PARTS.items())
    return (*variants, reference)


STUDY = Study(
    name="ablations",
    question="What does AdaFisher lose without its running average or its normalization layers, or with a square root?",
    workload="digits",
    arms=_arms(DIGITS),
    batch_size=64,
    race=Race(budget=epochs(36)),
    answers=("ablations", "standings"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": _arms(CNN, weight_decay=5e-4),
        "race": Race(seeds=SEEDS, budget=time_of("adafisher", 200)),
    },
)
