"""AdaFisher over a grid of learning rate, damping and γ: where it trains, and where it diverges."""

from optimizers import Categorical
from suite.config import Arm, Budget
from suite.study import Study, Tuning

SPACE = {
    "lr": Categorical(choices=(1e-4, 1e-3, 1e-2, 1e-1)),
    "damping": Categorical(choices=(1e-4, 1e-3, 1e-2)),
    "gamma": Categorical(choices=(0.2, 0.8, 0.99)),
}
FINE_SPACE = {
    "lr": Categorical(choices=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "damping": Categorical(choices=(1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "gamma": Categorical(choices=(0.01, 0.2, 0.5, 0.8, 0.9, 0.99)),
}


def arms(space: dict[str, Categorical]) -> tuple[Arm, ...]:
    """Return both numerics of AdaFisher over the same space."""
    return (
        Arm(name="adafisher", optimizer="adafisher", search_space=space),
        Arm(name="adafisher-released", optimizer="adafisher_released", search_space=space),
    )


STUDY = Study(
    name="hparam_map",
    question="For which learning rates, dampings and γ does AdaFisher train, in both of its numerics?",
    workload="digits",
    arms=arms(SPACE),
    batch_size=64,
    answers=("searches", "steadiness"),
    tune=Tuning(num_trials=36, sampler="grid", budget=Budget(kind="wall_clock", amount=3)),
    paper={
        "workload": "cifar10_resnet18",
        "batch_size": 256,
        "arms": arms(FINE_SPACE),
        "tune": Tuning(num_trials=360, sampler="grid", budget=Budget(kind="epochs", amount=50)),
    },
)
