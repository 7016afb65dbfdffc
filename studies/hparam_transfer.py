"""Tune on one workload, race on another: what is a winner worth elsewhere, beside defaults and tuning at home?"""

from studies.recipes import NAMES, untuned
from suite.config import Budget
from suite.study import Race, Study, Tuning

STUDY = Study(
    name="hparam_transfer",
    question="Is an optimizer tuned on another workload better than with its defaults, and how far from tuned here?",
    workload="digits",
    arms=untuned(*NAMES),
    batch_size=64,
    tune=Tuning(num_trials=8, budget=Budget(kind="wall_clock", amount=3), transfer_from="iris"),
    race=Race(
        seeds=(1, 2, 3),
        sources=("winner", "default", "transferred"),
        budget=Budget(kind="wall_clock", amount=3.5),
    ),
    paper={
        "workload": "cifar100_resnet18",
        "batch_size": 256,
        "tune": Tuning(
            num_trials=16,
            sampler="grid",
            space="paper-cnn",
            budget=Budget(kind="epochs", amount=50),
            transfer_from="cifar10_resnet18",
        ),
        "race": Race(
            seeds=(1, 2, 3, 4, 5),
            sources=("winner", "default", "transferred"),
            budget=Budget(kind="wall_clock_of", amount=200, reference="adafisher"),
        ),
    },
)
