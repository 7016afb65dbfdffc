"""Strong and weak scaling over data-parallel workers (Table 6, Fig 15): time, communication, accuracy."""

from studies.recipes import CNN, DIGITS, arms, epochs, seconds
from suite.study import Case, Race, Study

NAMES = ("sgd", "adam", "adafisher", "adafisher-released", "kfac")

STUDY = Study(
    name="scaling",
    question="How does each optimizer's step scale with workers, what does it send, and when do more workers not pay?",
    workload="digits",
    arms=arms(DIGITS, *NAMES[:4]),
    batch_size=128,
    race=Race(
        budget=seconds(3.5),
        isolation="machine",
        control="sgd",
        profile=True,
        cases=(
            Case(name="1 worker"),
            Case(name="2 workers, strong", num_workers=2),
            Case(name="2 workers, weak", num_workers=2, batch_size=256),
        ),
    ),
    answers=("scaling", "projection", "scaling_model", "trust", "paper"),
    paper={
        "workload": "imagenet_resnet50",
        "batch_size": 256,
        "arms": arms(CNN, *NAMES, weight_decay=1e-4),
        "race": Race(
            seeds=(1,),
            budget=epochs(90),
            isolation="machine",
            control="sgd",
            profile=True,
            cases=(
                *(Case(name=f"{k} GPUs, weak", num_workers=k, batch_size=256 * k) for k in (1, 2, 3, 4)),
                *(Case(name=f"{k} GPUs, strong", num_workers=k, budget=epochs(1)) for k in (2, 4)),
            ),
        ),
    },
)
