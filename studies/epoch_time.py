"""Epoch time by network and optimizer (Fig 24), and where the time of a step goes. Each run alone on its machine."""

from studies.recipes import CNN, DIGITS, arms, epochs, seconds
from suite.study import Case, Race, Study

NAMES = ("sgd", "adam", "adafisher", "adafisher-released", "kfac", "adahessian")
NETWORKS = ("resnet18", "resnet50", "resnet101", "densenet121", "mobilenetv3")

STUDY = Study(
    name="epoch_time",
    question="What does an epoch cost with each optimizer, on which network, and which part of a step is it?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(
        budget=seconds(3.5),
        isolation="machine",
        control="sgd",
        profile=True,
        cases=(Case(name="CNN"), Case(name="perceptron", workload="digits_mlp")),
    ),
    answers=("epoch_time", "time_split", "trust"),
    paper={
        "workload": "cifar100_resnet18",
        "batch_size": 256,
        "arms": arms(CNN),
        "race": Race(
            budget=epochs(5),
            isolation="machine",
            control="sgd",
            profile=True,
            cases=tuple(Case(name=network, workload=f"cifar100_{network}") for network in NETWORKS),
        ),
    },
)
