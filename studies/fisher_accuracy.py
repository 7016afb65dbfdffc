"""The diagonal of F̃ against the true Fisher (Fig 12 D), exact over the classes and by Monte-Carlo labels."""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms, epochs
from suite.study import Race, Study

STUDY = Study(
    name="fisher_accuracy",
    question="How near is AdaFisher's diagonal, or Adam's second moment, to that of the true Fisher?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36), diagnostics=("fisher_accuracy",)),
    answers=("fisher_accuracy", "standings"),
    paper={
        "workload": "mnist_cnn",
        "batch_size": 64,
        "arms": arms(CNN, *NAMES),
        "race": Race(seeds=SEEDS[:3], budget=epochs(10), diagnostics=("fisher_accuracy",)),
    },
)
