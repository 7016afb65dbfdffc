"""Histograms of the Fisher diagonal over training (Figs 4 and 11): first, middle and last layer."""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms, epochs
from suite.study import Race, Study

STUDY = Study(
    name="fisher_histograms",
    question="How does the Fisher diagonal of a layer shift and narrow while each optimizer trains?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36), diagnostics=("fisher_histograms",)),
    answers=("fisher_histograms", "standings"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, weight_decay=5e-4),
        "race": Race(seeds=SEEDS[:3], budget=epochs(200), diagnostics=("fisher_histograms",)),
    },
)
