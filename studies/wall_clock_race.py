"""The wall-clock race (Tables 2, 3, 5, 8, 12, 13, 14; 4 is ``transfer``): who is best after the same training time?

At the paper's scale the hyperparameters are the published ones, of which the learning rates differ by task; at the
quick scale all arms are tuned alike. AdaFisher as released races against its placebo, SGD that takes the same steps
without curvature; AdaFisher as the paper defines it against SGD that was tuned with as many trials.
"""

from collections.abc import Iterator

from studies.recipes import CCT, CNN, LANGUAGE, NAMES, SEEDS, VIT, Values, arms, seconds, time_of, untuned
from suite.study import Case, Race, Study, Tuning

FRACTIONS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0}  # of the budget, each with a schedule of its own
QUICK_S = 14.0  # a step may take less in a long run than when arms take turns: a quarter is still 3 s
EPOCHS, LANGUAGE_EPOCHS, IMAGENET_EPOCHS = 200.0, 50.0, 90.0
ONE = (1,)  # initialization, on the larger data sets

CNNS = {"resnet18": 5e-4, "resnet50": 5e-4, "resnet101": 5e-4, "densenet121": 5e-4, "mobilenetv3": 1e-5}  # decay
TRANSFORMERS: dict[str, tuple[float, Values]] = {
    "swin_t": (1e-2, VIT),
    "focalnet": (5e-2, VIT),
    "cct_2_3x2": (6e-2, CCT),
}


def _case(
    workload: str,
    values: Values,
    weight_decay: float,
    reference: str,
    budget: float,
    seeds: tuple[int, ...] = SEEDS,
) -> Case:
    own = {name: {**fixed, "weight_decay": weight_decay} for name, fixed in values.items()}
    return Case(name=workload, workload=workload, arms=own, budget=time_of(reference, budget), seeds=seeds)


def _paper_cases() -> Iterator[Case]:
    """Yield the rows of the tables."""
    for classes in (10, 100):
        for variant in ("_cutout", ""):  # Tables 2 and 13a
            for network, decay in CNNS.items():
                yield _case(f"cifar{classes}_{network}{variant}", CNN, decay, "adafisher", EPOCHS)
            for network, (decay, values) in TRANSFORMERS.items():
                yield _case(f"cifar{classes}_{network}{variant}", values, decay, "adafisherw", EPOCHS)
    yield _case("tiny_imagenet_resnet50", CNN, 5e-4, "adafisher", EPOCHS, ONE)  # Table 12
    yield _case("tiny_imagenet_swin_b", VIT, 1e-2, "adafisherw", EPOCHS, ONE)
    compared = {name: CNN[name] for name in ("adam", "kfac", "shampoo", "adafisher", "adafisher-released")}
    yield _case("imagenet_resnet50", compared, 1e-4, "adam", IMAGENET_EPOCHS, ONE)  # Table 3
    for text in ("wikitext2_gpt", "ptb_gpt"):  # Table 5
        yield _case(text, LANGUAGE, 0.1, "adafisherw", LANGUAGE_EPOCHS)
    for name, fraction in FRACTIONS.items():
        if fraction != 1:
            whole = _case("cifar10_resnet18", CNN, 5e-4, "adafisher", fraction * EPOCHS)
            yield Case(name=f"{whole.name}, {name} x the budget", arms=whole.arms, budget=whole.budget)


STUDY = Study(
    name="wall_clock_race",
    question="Which optimizer is best after the same training time, at which budget, and was it the curvature?",
    workload="digits",
    arms=untuned(*NAMES),
    batch_size=64,
    tune=Tuning(num_trials=6, budget=seconds(3)),
    race=Race(
        budget=seconds(QUICK_S),
        placebos=True,
        cases=(
            *(Case(name=f"{name} x the budget", budget=seconds(f * QUICK_S)) for name, f in FRACTIONS.items()),
            Case(name="Cutout", workload="digits_cutout", budget=seconds(QUICK_S / 2)),
        ),
    ),
    answers=("standings", "time_to_target", "epochs_in_budget", "placebo", "paper"),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms({**VIT, **CNN}),
        "tune": None,
        "race": Race(seeds=SEEDS, budget=time_of("adafisher", EPOCHS), placebos=True, cases=tuple(_paper_cases())),
    },
)
