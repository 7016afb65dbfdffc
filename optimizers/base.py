"""What every optimizer tells the world about itself: its configuration, how it is built, what is searched.

An :class:`OptimizerSpec` is all that a caller needs to know of an optimizer. Search-space atoms are neutral
(no Optuna, no Ray): whoever tunes translates them.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.optim import Optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Float:
    """A real hyperparameter.

    Args:
        low: Smallest value, included; > 0 where ``log``.
        high: Largest value, included.
        log: Whether it is searched on a logarithmic scale.

    Raises:
        ValueError: If the bounds are not finite, not in order, or not positive on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a search range needs finite low < high, but got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic search range needs low > 0, but got low={self.low}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Categorical:
    """A hyperparameter with a few choices, searched without an order.

    Args:
        choices: At least two values, all different; each JSON-serialisable.

    Raises:
        ValueError: If there are fewer than two choices, or two are equal.
    """

    choices: tuple[float | int | str | bool, ...]

    def __post_init__(self) -> None:
        if len(self.choices) < 2:
            raise ValueError(f"a search needs at least two choices, but got {self.choices}")
        if any(one == other for one, other in itertools.combinations(self.choices, 2)):
            raise ValueError(f"a search needs choices that are all different, but got {self.choices}")


def require(is_met: bool, name: str, rule: str, value: object) -> None:
    """Refuse a hyperparameter that breaks its rule.

    Args:
        is_met: Whether the rule holds; comparisons with NaN do not.
        name: The hyperparameter.
        rule: What is asked of it, to follow "must be".
        value: What was given.

    Raises:
        ValueError: If the rule does not hold.
    """
    if not is_met:
        raise ValueError(f"{name} must be {rule}, but got {value!r}")


def require_count(name: str, value: object) -> None:
    """Refuse a hyperparameter that is no whole number >= 1; arguments and error as of :func:`require`."""
    require(type(value) is int and value >= 1, name, "a whole number >= 1", value)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a model that take gradients."""
    return [param for param in model.parameters() if param.requires_grad]


SearchSpace = Mapping[str, Float | Categorical]
DEFAULT_SPACE = "default"

# What several optimizers search. The AdaFisher paper's weight decays lie within: 1e-5 to 5e-4 for CNNs, 1e-2 to 0.1
# for transformers. A decay rate has choices, since 1 - beta is what wants a logarithmic scale: here 0.2, 0.1, 0.05.
WEIGHT_DECAY = Float(low=1e-5, high=1e-1, log=True)
DECOUPLED_WEIGHT_DECAY = Float(low=1e-4, high=0.3, log=True)
BETA = Categorical(choices=(0.8, 0.9, 0.95))


@runtime_checkable
class Refreshing(Protocol):
    """What an optimizer offers some of whose steps refresh something costly, so that they can be timed apart.

    A step has a *level*: 0 where it refreshes nothing, n where it refreshes what the first n intervals are of.

    Attributes:
        refresh_intervals: Steps from one refresh to the next, of each level from 1; each a multiple of the one before.
        refreshed: Level of the last ``step()``.
    """

    refresh_intervals: tuple[int, ...]
    refreshed: int

    def schedule_refresh(self, level: int) -> None:
        """Say, before its forward, what the next step refreshes.

        Args:
            level: Its level.
        """
        ...


def level_shares(refresh_intervals: Sequence[int]) -> dict[int, float]:
    """Return how large a share of all steps each level has, those that have any.

    Args:
        refresh_intervals: As of :class:`Refreshing`; empty where no step refreshes.

    Returns:
        By level, ascending; they sum to 1.
    """
    frequencies = [1.0, *(1 / interval for interval in refresh_intervals), 0.0]
    shares = {level: often - more for level, (often, more) in enumerate(itertools.pairwise(frequencies))}
    return {level: share for level, share in shares.items() if share > 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placebo:
    """The twin of an optimizer that takes steps of the same size without its curvature.

    Args:
        optimizer: Name of the twin in the registry.
        hyperparameters: ``hyperparameters(config)``: the twin's, for a configuration of the optimizer.
    """

    optimizer: str
    hyperparameters: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer as the registry knows it.

    Args:
        name: The name users type, lower case.
        config: The frozen dataclass of its hyperparameters; field names are the keyword arguments of a user.
        build: ``build(model, config) -> Optimizer``, on the bare module (never a DDP wrapper).
        search_space: What a sweep searches by default, the space ``default``; keys are fields of ``config``. Empty for
            an optimizer with nothing to tune, which a sweep refuses.
        spaces: Further search spaces by name, none empty; keys as of ``search_space``.
        defaults: Fields of ``config`` that this entry fixes, for a named preset of a method.
        cost_fields: Fields of ``config`` that change what a step costs in time (intervals, numerics).
        create_graph: Whether ``step()`` needs ``loss.backward(create_graph=True)``, always or at times: see
            :meth:`needs_graph`.
        placebo: Its twin without curvature; ``None`` where none takes steps of the same size.
        reference: The paper, one line.

    Raises:
        ValueError: If a search space, the defaults or the cost fields name no field of ``config``, or if a further
            space is empty or called ``default``.
    """

    name: str
    config: type
    build: Callable[[nn.Module, Any], Optimizer]
    search_space: SearchSpace
    spaces: Mapping[str, SearchSpace] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    cost_fields: frozenset[str] = frozenset()
    create_graph: bool = False
    placebo: Placebo | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        if DEFAULT_SPACE in self.spaces:
            raise ValueError(f"{self.name} gives the space {DEFAULT_SPACE!r} as search_space; rename the one in spaces")
        for name, space in self.spaces.items():
            require(len(space) > 0, f"{self.name}'s search space {name!r}", "of one hyperparameter at least", space)
        searched = itertools.chain(self.search_space, *self.spaces.values())
        for name in (*searched, *self.defaults, *self.cost_fields):
            self.check_field(name)

    def space(self, name: str) -> SearchSpace:
        """Return a search space.

        Args:
            name: ``default`` for ``search_space``, or a key of ``spaces``.

        Returns:
            Atoms by field of ``config``.

        Raises:
            ValueError: If there is none of that name; the message lists the known ones.
        """
        known = {DEFAULT_SPACE: self.search_space, **self.spaces}
        if name not in known:
            raise ValueError(f"{self.name} has no search space {name!r}; known: {', '.join(known)}")
        return known[name]

    def configure(self, **hyperparameters: object) -> Any:  # noqa: ANN401
        """Return the configuration with these hyperparameters over the defaults.

        Args:
            **hyperparameters: Fields of ``config``.

        Returns:
            An instance of ``config``.

        Raises:
            ValueError: If a name is no field of ``config``, or a value breaks the configuration's own rules.
        """  # noqa: DOC502
        defaults = {f.name: f.default for f in fields(self.config)}
        for name, value in hyperparameters.items():
            self.check_field(name)
            is_switch = isinstance(defaults[name], bool)
            require(
                isinstance(value, bool) == is_switch, name, "true or false" if is_switch else "no truth value", value
            )
        return self.config(**{**self.defaults, **hyperparameters})

    def needs_graph(self, optimizer: Optimizer) -> bool:
        """Return whether the next ``backward`` has to create a graph, as a double backward follows.

        Args:
            optimizer: Built by this specification. One that needs a graph at times alone says so by an attribute
                ``needs_graph``.

        Returns:
            What to pass to ``loss.backward`` as ``create_graph``.
        """
        return self.create_graph and bool(getattr(optimizer, "needs_graph", True))

    def check_field(self, name: str) -> None:
        """Refuse a name that is no hyperparameter.

        Args:
            name: Supposed field of ``config``.

        Raises:
            ValueError: If it is none; the message lists the known ones.
        """
        known = [f.name for f in fields(self.config)]
        if name not in known:
            raise ValueError(f"{self.name} has no hyperparameter {name!r}; known: {', '.join(known)}")
