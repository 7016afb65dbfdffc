"""The A/A control: one arm races against itself. Whatever is told apart here is noise, or a fault of ours."""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms
from suite.config import Budget
from suite.study import Race, Study

STUDY = Study(
    name="control",
    question="Is an optimizer told apart from itself, after the same time by the running clock?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=Budget(kind="wall_clock", amount=4, mode="live"), control="sgd"),
    answers=("standings", "pairs", "trust"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, weight_decay=5e-4),
        "race": Race(seeds=SEEDS, budget=Budget(kind="wall_clock", amount=1200, mode="live"), control="sgd"),
    },
)
