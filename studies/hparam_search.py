"""Every registered optimizer tuned alike, winners against defaults: what tuning costs, and what it buys (D.2.1)."""

from optimizers import REGISTRY
from suite.config import Arm, Budget
from suite.study import Race, Study, Tuning

STUDY = Study(
    name="hparam_search",
    question="What does each optimizer reach when all get the same trials, and how much did the tuning buy?",
    workload="digits",
    arms=tuple(Arm(name=name, optimizer=name) for name in REGISTRY),
    batch_size=64,
    tune=Tuning(num_trials=8, budget=Budget(kind="wall_clock", amount=3)),
    race=Race(seeds=(1, 2, 3), sources=("winner", "default"), budget=Budget(kind="wall_clock", amount=3.5)),
    answers=("standings", "searches", "steadiness", "paper"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        # the paper does not say how many points it tried: as many as the smallest of its grids has
        "tune": Tuning(num_trials=16, sampler="grid", space="paper-cnn", budget=Budget(kind="epochs", amount=50)),
        "race": Race(
            seeds=(1, 2, 3, 4, 5),
            sources=("winner", "default"),
            budget=Budget(kind="wall_clock_of", amount=200, reference="adafisher"),
        ),
    },
)
