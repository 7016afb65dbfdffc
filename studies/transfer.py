"""From pretrained weights (Table 4): the race from weights of another task, beside the one from random ones.

At the quick scale the study trains them itself: the network learns by how many quarters an image is turned, and reads
digits then, with a tenth of the learning rates that are best from random weights. The paper's SGD and Adam have one,
too; its AdaFisher has the same rate.
"""

from studies.recipes import DIGITS, NAMES, SEEDS, TRANSFER, arms, epochs, seconds, time_of
from suite.config import Arm
from suite.study import Case, Pretraining, Race, Study

NETWORKS = ("resnet50", "resnet101", "densenet121", "mobilenetv3")
ROTATIONS = Pretraining(
    workload="digits_rotation", arm=Arm(name="adam", optimizer="adam", fixed={"lr": 3e-3}), budget=epochs(40)
)

STUDY = Study(
    name="transfer",
    question="Which optimizer makes most of pretrained weights in the same training time?",
    workload="digits",
    arms=arms(DIGITS, *NAMES),
    batch_size=64,
    race=Race(
        budget=seconds(4),
        placebos=True,
        cases=(Case(name="random"), Case(name="pretrained", multiplied={"lr": 0.1}, pretraining=ROTATIONS)),
    ),
    answers=("standings", "placebo", "paper"),
    paper={
        "workload": "cifar10_resnet50_pretrained",
        "batch_size": 256,
        "arms": arms(TRANSFER, weight_decay=1e-4),
        "race": Race(
            seeds=SEEDS,
            budget=time_of("adafisher", 50),
            placebos=True,
            cases=tuple(
                Case(name=name, workload=name)
                for name in (f"cifar{classes}_{network}_pretrained" for classes in (10, 100) for network in NETWORKS)
            ),
        ),
    },
)
