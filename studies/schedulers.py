"""Schedules of the learning rate (Fig 10): does AdaFisher need one, and does the order of the arms hang on it?"""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms, epochs, time_of
from suite.config import Schedule
from suite.study import Case, Race, Study

CASES = tuple(Case(name=name, schedule=Schedule(name=name)) for name in ("cosine", "step", "constant"))

STUDY = Study(
    name="schedulers",
    question="What does each optimizer lose or gain with a cosine, a stepped or no schedule of the learning rate?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36), cases=CASES),
    answers=("schedules", "standings"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, weight_decay=5e-4),
        "race": Race(seeds=SEEDS, budget=time_of("adafisher", 200), cases=CASES),
    },
)
