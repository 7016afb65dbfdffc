"""How good is the best of k trials? Many random trials of each arm, whose order carries no meaning."""

from suite.config import Arm, Budget
from suite.study import Study, Tuning

STUDY = Study(
    name="hparam_budget",
    question="How many trials does each optimizer need before its best one is as good as it gets?",
    workload="digits",
    arms=(
        Arm(name="sgd", optimizer="sgd"),
        Arm(name="adam", optimizer="adam"),
        Arm(name="adafisher", optimizer="adafisher"),
        Arm(name="adafisher-released", optimizer="adafisher_released"),
    ),
    batch_size=64,
    answers=(),  # its page has the curves
    tune=Tuning(num_trials=12, sampler="random", budget=Budget(kind="wall_clock", amount=3)),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "tune": Tuning(
            num_trials=100, sampler="random", budget=Budget(kind="wall_clock_of", amount=50, reference="sgd")
        ),
    },
)
