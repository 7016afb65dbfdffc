"""Peak memory by batch size (Fig 23B): measured, and predicted without the hardware. Each run in a fresh process."""

from studies.recipes import CNN, DIGITS, arms, epochs
from suite.config import Budget
from suite.study import Case, Race, Study

NAMES = ("sgd", "adam", "adafisher", "kfac")


def _cases(batch_sizes: tuple[int, ...]) -> tuple[Case, ...]:
    return tuple(Case(name=f"batch {size}", batch_size=size) for size in batch_sizes)


STUDY = Study(
    name="memory",
    question="What memory does each optimizer need at which batch size, what goes where, and was it foreseen?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(40), isolation="process", diagnostics=("memory",), cases=_cases((64, 256))),
    answers=("memory",),
    paper={
        "workload": "cifar10_resnet50",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, "adafisher-released", "shampoo", "adahessian"),
        "race": Race(
            seeds=(1, 2, 3),
            budget=Budget(kind="steps", amount=300),
            isolation="process",
            diagnostics=("memory",),
            cases=_cases((128, 256, 512, 1024)),
        ),
    },
)
