"""The same epochs for every arm (Table 15, Fig 22): accuracy, and how long the training took."""

from studies.recipes import DIGITS, FIXED_EPOCHS, SEEDS, arms, epochs
from suite.study import Case, Race, Study

NAMES = ("sgd", "adam", "adafisher", "adafisher-released", "kfac", "eva")
NETWORKS = {"resnet18": 5e-4, "mobilenetv3": 1e-5, "resnet50": 5e-4}  # weight decay

STUDY = Study(
    name="fixed_epochs",
    question="Which optimizer is best after the same epochs, and what time does each take for them?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(budget=epochs(36)),
    answers=("standings", "epoch_time", "paper"),
    paper={
        "workload": "cifar100_resnet18",
        "batch_size": 256,
        "arms": arms(FIXED_EPOCHS),
        "race": Race(
            seeds=SEEDS,
            budget=epochs(200),
            isolation="machine",
            cases=tuple(
                Case(
                    name=network,
                    workload=f"cifar100_{network}",
                    batch_size=256,
                    hyperparameters={"weight_decay": decay},
                )
                for network, decay in NETWORKS.items()
            ),
        ),
    },
)
