"""Hyperparameters that several studies fix: at scale ``paper`` the published ones, at ``quick`` those of a sweep."""

from collections.abc import Mapping
from typing import Any

from suite.config import Arm, Budget

Values = Mapping[str, Mapping[str, Any]]  # by name of the arm

OPTIMIZERS = {"adafisher-released": "adafisher_released", "adafisherw-released": "adafisher_released"}
NAMES = ("sgd", "adam", "adafisher", "adafisher-released")  # the arms that most studies compare
SEEDS = (1, 2, 3, 4, 5)  # the paper has five random initializations on CIFAR

# The winners of the space that `hparam_search` searches, to two digits: digits, 450 steps, 10 Sobol points an arm.
DIGITS: Values = {
    "sgd": {"lr": 0.085, "momentum": 0.55},
    "adam": {"lr": 2e-3},
    "adafisher": {"lr": 0.069, "damping": 0.05, "gamma": 0.56},
    "adafisher-released": {"lr": 2e-4, "damping": 8e-4, "gamma": 0.6},
    "kfac": {"lr": 0.01, "damping": 0.018},
    "shampoo": {"lr": 0.079, "damping": 1e-5},
    "adahessian": {"lr": 0.068, "hessian_power": 0.67},
    "eva": {"lr": 0.17, "damping": 0.5},
}

# Table 9 (CNNs): learning rates; damping, γ, momentum and Hessian power are the optimizers' defaults, which are the
# paper's where it states them.
CNN: Values = {
    "sgd": {"lr": 0.1},
    "adam": {"lr": 1e-3},
    "adahessian": {"lr": 0.15},
    "kfac": {"lr": 0.3},
    "shampoo": {"lr": 0.3},
    "adafisher": {"lr": 1e-3},
    "adafisher-released": {"lr": 1e-3},
}
FIXED_EPOCHS: Values = {**CNN, "adafactor": {"lr": 1e-3}, "eva": {"lr": 0.3}}  # Eva's is K-FAC's: the paper names none
VIT: Values = {
    "sgd": {"lr": 0.01},
    "adamw": {"lr": 1e-4},
    "adahessian": {"lr": 0.01},
    "kfac": {"lr": 0.003},
    "shampoo": {"lr": 0.003},
    "adafisherw": {"lr": 1e-3},
}
CCT: Values = {**VIT, "adamw": {"lr": 5.5e-5}}
TRANSFER: Values = {
    "sgd": {"lr": 0.01},
    "adam": {"lr": 1e-4},
    "adahessian": {"lr": 0.15},
    "kfac": {"lr": 0.3},
    "shampoo": {"lr": 0.03},
    "adafisher": {"lr": 1e-3},
    "adafisher-released": {"lr": 1e-3},
}
LANGUAGE: Values = {
    "adamw": {"lr": 5e-5},
    "adahessian": {"lr": 0.015},
    "shampoo": {"lr": 0.003},
    "adafisherw": {"lr": 1e-4},
}


def arms(values: Values, *names: str, **common: Any) -> tuple[Arm, ...]:  # noqa: ANN401
    """Return arms with fixed hyperparameters.

    Args:
        values: Of each arm.
        *names: Those that are wanted; none: all.
        **common: Hyperparameters of all of them.

    Returns:
        In the order of the names.
    """
    return tuple(
        Arm(name=name, optimizer=OPTIMIZERS.get(name, name), fixed={**values[name], **common})
        for name in names or values
    )


def untuned(*names: str) -> tuple[Arm, ...]:
    """Return arms that fix nothing, for a sweep.

    Args:
        *names: Of the arms.

    Returns:
        In their order.
    """
    return tuple(Arm(name=name, optimizer=OPTIMIZERS.get(name, name)) for name in names)


def time_of(reference: str, epochs: float) -> Budget:
    """Return the time that an arm needs for some epochs, as the paper's budgets are."""
    return Budget(kind="wall_clock_of", amount=epochs, reference=reference)


def epochs(amount: float) -> Budget:
    """Return a budget in epochs."""
    return Budget(kind="epochs", amount=amount)


def seconds(amount: float) -> Budget:
    """Return a budget in seconds of training."""
    return Budget(kind="wall_clock", amount=amount)
