"""The Kronecker factors in full (Figs 3, 7, 8 and 9): how diagonal are they, in the middle and at the end?"""

from studies.recipes import CNN, DIGITS, NAMES, SEEDS, arms, epochs
from suite.study import Race, Study

STUDY = Study(
    name="kronecker",
    question="How much of a Kronecker factor lies on its diagonal, which is all that AdaFisher keeps of it?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36), diagnostics=("kronecker_structure",)),
    answers=("kronecker", "standings"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, weight_decay=5e-4),
        "race": Race(seeds=SEEDS[:3], budget=epochs(200), diagnostics=("kronecker_structure",)),
    },
)
