"""The default study: four arms tuned and raced on scikit-learn's digits, on two CPU cores, in minutes."""

from studies.recipes import NAMES, untuned
from suite.config import Budget
from suite.study import Race, Study, Tuning

STUDY = Study(
    name="digits",
    question="On a small CNN, which optimizer is best after the same training time, each tuned with the same trials?",
    workload="digits",
    arms=untuned(*NAMES),
    batch_size=64,
    tune=Tuning(num_trials=12, budget=Budget(kind="wall_clock", amount=4)),
    race=Race(seeds=(1, 2, 3), num_workers=2, budget=Budget(kind="wall_clock", amount=12)),
    answers=("standings", "pairs", "time_to_target", "searches", "steadiness"),
)
