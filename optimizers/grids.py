"""The grids that the AdaFisher paper searched, as data, and the named search spaces made of them.

Martins Gomes et al. (2025), "AdaFisher: Adaptive Second Order Optimization via Fisher Information", ICLR: Sections
D.2.1 (CNNs and ViTs), D.2.3 (transfer) and D.3.3 (language). For transfer and language the paper tells of a search of
the learning rate alone: to repeat that, fix the others in the arm. It took AdamW's learning rates from other papers.
"""

from collections.abc import Mapping

from .base import Categorical, SearchSpace


def _decades(mantissas: tuple[str, ...], exponents: range) -> tuple[float, ...]:
    """Return the mantissas times powers of ten, each the float nearest to the decimal number."""
    return tuple(float(f"{mantissa}e{exponent}") for exponent in exponents for mantissa in mantissas)


TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

# The paper prints "cnn" from 0.0001 up, the others from 0.3 down (so without 0.5), and of all but "vit" only the ends.
LEARNING_RATES: Mapping[str, Categorical] = {
    "cnn": Categorical(choices=_decades(("1", "3", "5", "9"), range(-4, 0))),
    "vit": Categorical(choices=_decades(("1", "1.5", "3", "5"), range(-3, 0))[:-1]),
    "transfer": Categorical(choices=_decades(("1", "1.5", "3"), range(-5, 0))),
    "language": Categorical(choices=_decades(("1", "1.5", "3", "5"), range(-5, 0))[:-1]),  # prints a 0.05, as "vit"
}
DAMPING = Categorical(choices=_decades(("1", "3", "5", "9"), range(-4, -1)))  # λ, of AdaFisher as of K-FAC
SHAMPOO_DAMPING = Categorical(choices=_decades(("1", "3", "5", "9"), range(-6, -3)))
GAMMA = Categorical(choices=(*TENTHS, 0.99))
MOMENTUM = Categorical(choices=(*TENTHS, 1.0))
HESSIAN_POWER = Categorical(choices=(*TENTHS, 1.0))


def paper_spaces(**own: Categorical) -> dict[str, SearchSpace]:
    """Return the search spaces ``paper-cnn``, ``paper-vit``, ``paper-transfer`` and ``paper-language`` of a method.

    Args:
        **own: The grids of its other hyperparameters, which are the same for each task.

    Returns:
        By name, the task's learning rates and these.
    """
    return {f"paper-{task}": {"lr": rates, **own} for task, rates in LEARNING_RATES.items()}
