"""Accuracy against learning rate, batch size, damping, γ and seed (Figs 6 and 23A)."""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms, epochs
from suite.config import Budget
from suite.study import Case, Race, Study

FACTORS = {"1/100": 0.01, "1/10": 0.1, "3": 3.0, "10": 10.0}
DAMPING = {"1/10": 0.1, "10": 10.0}
GAMMAS = (0.1, 0.9)


def _cases(batch_sizes: tuple[int, ...], budget: Budget) -> tuple[Case, ...]:
    return (
        Case(name="base", budget=budget),
        *(Case(name=f"lr x {name}", multiplied={"lr": factor}) for name, factor in FACTORS.items()),
        *(Case(name=f"batch {size}", batch_size=size) for size in batch_sizes),
        *(Case(name=f"damping x {name}", multiplied={"damping": factor}) for name, factor in DAMPING.items()),
        *(Case(name=f"gamma {gamma:g}", hyperparameters={"gamma": gamma}) for gamma in GAMMAS),
    )


STUDY = Study(
    name="stability",
    question="How far may learning rate, batch size, damping and γ be from their best before accuracy is lost?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36), cases=_cases((32, 128), epochs(36))),
    answers=("sensitivity", "stability"),
    paper={
        "workload": "cifar10_resnet50",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, "adahessian", "kfac", "shampoo", weight_decay=5e-4),
        "race": Race(seeds=SEEDS, budget=epochs(200), cases=_cases((128, 512, 1024), epochs(200))),
    },
)
