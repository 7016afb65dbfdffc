"""How good is the best of k trials? Many random trials of each arm, whose order carries no meaning."""

from studies.recipes import NAMES, untuned
from suite.config import Budget
from suite.study import Study, Tuning

STUDY = Study(
    name="hparam_budget",
    question="How many trials does each optimizer need before its best one is as good as it gets?",
    workload="digits",
    arms=untuned(*NAMES),
    batch_size=64,
    answers=("searches", "steadiness"),
    tune=Tuning(num_trials=12, sampler="random", budget=Budget(kind="wall_clock", amount=3)),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "tune": Tuning(
            num_trials=100, sampler="random", budget=Budget(kind="wall_clock_of", amount=50, reference="sgd")
        ),
    },
)
