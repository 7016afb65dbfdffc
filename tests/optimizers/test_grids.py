"""The paper's grids, as Sections D.2.1, D.2.3 and D.3.3 print them."""

import pytest

from optimizers import REGISTRY, Float

# fmt: off
LEARNING_RATES = {
    "paper-cnn": (
        0.0001, 0.0003, 0.0005, 0.0009, 0.001, 0.003, 0.005, 0.009,
        0.01, 0.03, 0.05, 0.09, 0.1, 0.3, 0.5, 0.9,
    ),
    "paper-vit": (0.001, 0.0015, 0.003, 0.005, 0.01, 0.015, 0.03, 0.05, 0.1, 0.15, 0.3),
    "paper-transfer": (
        0.00001, 0.000015, 0.00003, 0.0001, 0.00015, 0.0003, 0.001, 0.0015, 0.003, 0.01, 0.015, 0.03, 0.1, 0.15, 0.3,
    ),
    "paper-language": (
        0.00001, 0.000015, 0.00003, 0.00005, 0.0001, 0.00015, 0.0003, 0.0005, 0.001, 0.0015, 0.003, 0.005,
        0.01, 0.015, 0.03, 0.05, 0.1, 0.15, 0.3,
    ),
}
DAMPING = (0.0001, 0.0003, 0.0005, 0.0009, 0.001, 0.003, 0.005, 0.009, 0.01, 0.03, 0.05, 0.09)
SHAMPOO_DAMPING = (1e-6, 3e-6, 5e-6, 9e-6, 1e-5, 3e-5, 5e-5, 9e-5, 1e-4, 3e-4, 5e-4, 9e-4)
GAMMA = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
MOMENTUM = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HESSIAN_POWER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# fmt: on
OF_ADAFISHER = {"damping": DAMPING, "gamma": GAMMA}
OWN = {  # beside the learning rate
    "sgd": {"momentum": MOMENTUM},
    "adafisher": OF_ADAFISHER,
    "adafisherw": OF_ADAFISHER,
    "adafisher_released": OF_ADAFISHER,
    "adahessian": {"hessian_power": HESSIAN_POWER},
    "kfac": {"damping": DAMPING},
    "shampoo": {"damping": SHAMPOO_DAMPING},
}


@pytest.mark.parametrize("task", LEARNING_RATES)
@pytest.mark.parametrize("name", REGISTRY)
def test_grids_are_those_of_the_paper(name, task):
    space = REGISTRY[name].space(task)
    assert {key: atom.choices for key, atom in space.items()} == {"lr": LEARNING_RATES[task], **OWN.get(name, {})}


@pytest.mark.parametrize("space", ["default", "wide"])
@pytest.mark.parametrize("name", [name for name, own in OWN.items() if "gamma" in own])
def test_ranges_of_gamma_hold_both_readings_of_the_average(name, space):
    """The paper's values as the weight of the new factor, and as that of the old: 0.8 or 0.2, 0.99 or 0.01."""
    atom = REGISTRY[name].space(space)["gamma"]
    assert isinstance(atom, Float)
    assert not atom.log
    assert all(atom.low <= value <= atom.high for value in (*GAMMA, 0.2, 0.01))
