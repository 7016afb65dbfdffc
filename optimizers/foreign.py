"""Any optimizer class by its dotted path: ``torch.optim.NAdam``, ``pytorch_optimizer.Lamb``, one of a user's own.

What it takes is read from its constructor: each keyword with a default that JSON can hold becomes a hyperparameter, of
the kind that its annotation says. Whether it can be an arm at all is tried: one step on a linear layer.
"""

import difflib
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field, fields, make_dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from . import kinds
from .base import OptimizerSpec, SearchSpace, require, trainable

# Classes whose step differentiates the gradient; nothing about the class itself says so.
NEED_GRAPH = {"pytorch_optimizer.AdaHessian", "pytorch_optimizer.SophiaH"}

_INSTALL = {"pytorch_optimizer": "; pip install 'fisherbench[peers]'"}


class ForeignConfig:
    """Base of the configurations: values are of the kinds that the constructor's annotations say.

    A sequence may be given as a list, and as a text: ``betas=0.9,0.99``, as on the command line or in a
    :class:`~optimizers.base.Categorical`; the text is kept as it is.

    Raises:
        ValueError: If a value is of another kind.
    """  # noqa: DOC502

    __slots__ = ()
    _path: ClassVar[str]
    _kinds: ClassVar[Mapping[str, Any]]

    def __post_init__(self) -> None:
        for name, kind in self._kinds.items():
            value = getattr(self, name)
            require(kinds.fits(kinds.read(value, kind), kind), name, kinds.words(kind), value)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    def __reduce__(self) -> tuple[Any, ...]:  # the class is made anew in each process
        return _revive, (self._path, {name: getattr(self, name) for name in self._kinds})


class ForeignSpec(OptimizerSpec):
    """The specification of a class that was not written for us: values and protocol are tried before they are used."""

    def configure(self, **hyperparameters: object) -> Any:  # noqa: ANN401
        """Return the configuration with these hyperparameters over the defaults.

        Args:
            **hyperparameters: Fields of ``config``.

        Returns:
            An instance of ``config`` with which the class takes a step on a linear layer.

        Raises:
            ValueError: If a name is no field of ``config``, a value is of the wrong kind, or no step can be taken.
        """  # noqa: DOC502
        for name in hyperparameters:
            self.check_field(name)
        config = self.config(**{**self.defaults, **hyperparameters})
        _try_step(self, config)
        return config

    def needs_graph(self, optimizer: Optimizer) -> bool:
        """Return whether the next ``backward`` has to create a graph.

        Args:
            optimizer: Built by this specification; ``update_period`` is how pytorch_optimizer calls the steps from one
                double backward to the next.

        Returns:
            What to pass to ``loss.backward`` as ``create_graph``.
        """
        step = optimizer.param_groups[0].get("step", 0)
        return super().needs_graph(optimizer) and bool(step % getattr(optimizer, "update_period", 1) == 0)


def spec_of(
    path: str,
    *,
    create_graph: bool | None = None,
    search_space: SearchSpace | None = None,
    spaces: Mapping[str, SearchSpace] | None = None,
    defaults: Mapping[str, Any] | None = None,
    cost_fields: Collection[str] | None = None,
    reference: str = "",
    build: Callable[[nn.Module, Any], Optimizer] | None = None,
) -> OptimizerSpec:
    """Return the specification of an optimizer class.

    Args:
        path: ``package.module.Class``.
        create_graph: Whether its step needs ``loss.backward(create_graph=True)``; default: as :data:`NEED_GRAPH` says.
        search_space: What a sweep searches by default; a sweep refuses an empty one.
        spaces: Further search spaces by name.
        defaults: Hyperparameters other than the constructor's own.
        cost_fields: Hyperparameters that change what a step costs; default: all but real numbers.
        reference: The paper, one line.
        build: ``build(model, config) -> Optimizer``, for a class that needs more than the parameters; it finds the
            constructor's keywords with :func:`keywords`.

    Returns:
        The specification, under the name ``path``.

    Raises:
        ValueError: If there is no such class, it is no optimizer, its constructor or its protocol is one that a
            training loop cannot serve, or a search space, a default or a cost field names no hyperparameter.
    """  # noqa: DOC502
    kind, config = _described(path)
    if build is None:
        _check_constructor(path, kind)
    _check_protocol(path, kind)
    root = kind.__module__.partition(".")[0]
    return ForeignSpec(
        name=path,
        config=config,
        build=build or functools.partial(_build, kind),
        search_space=search_space or {},
        spaces=spaces or {},
        defaults=defaults or {},
        cost_fields=frozenset(_costs(config) if cost_fields is None else cost_fields),
        create_graph=f"{root}.{kind.__name__}" in NEED_GRAPH if create_graph is None else create_graph,
        reference=reference,
    )


def keywords(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the keyword arguments of the constructor.

    Args:
        config: Configuration of an optimizer given by its path.

    Returns:
        Values by keyword; sequences that were given as texts are tuples.
    """
    return {name: kinds.read(getattr(config, name), kind) for name, kind in config._kinds.items()}


def class_of(path: str) -> type[Optimizer]:
    """Return an optimizer class.

    Args:
        path: ``package.module.Class``.

    Returns:
        The class.

    Raises:
        ValueError: If there is none, or it is no optimizer.
    """
    name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        package = str(getattr(error, "name", None))
        raise ValueError(f"no optimizer {path!r}: {error}{_INSTALL.get(package, '')}") from error
    kind = getattr(module, attribute, None)
    if kind is None:
        classes = {each.lower(): each for each, value in vars(module).items() if _is_optimizer(value)}
        near = difflib.get_close_matches(attribute.lower(), classes, n=8) or classes
        known = ", ".join(classes[each] for each in near) or "none"
        raise ValueError(f"no optimizer {path!r}: {name} has no {attribute!r}; known: {known}")
    if not _is_optimizer(kind):
        raise ValueError(f"{path!r} must be a subclass of torch.optim.Optimizer, but is {kind!r}")
    return kind  # type: ignore[no-any-return]


def _build(kind: type[Optimizer], model: nn.Module, config: ForeignConfig) -> Optimizer:
    return kind([{"params": trainable(model)}], **keywords(config))


def _costs(config: Any) -> list[str]:  # noqa: ANN401
    """Return the hyperparameters that are no real numbers: intervals, switches, choices."""
    return [name for name, kind in config._kinds.items() if not kinds.has_reals(kind)]


def _revive(path: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return _described(path)[1](**values)


@functools.cache
def _described(path: str) -> tuple[type[Optimizer], type]:
    """Return the class of a path and the dataclass of its hyperparameters."""
    kind = class_of(path)
    try:
        parameters = inspect.signature(kind, eval_str=True).parameters
    except Exception as error:  # an annotation may be anything
        raise ValueError(f"the constructor of {path} cannot be read: {error}") from error
    known = {name: annotation for name, each in parameters.items() if (annotation := kinds.kind_of(each))}
    config = make_dataclass(
        f"{kind.__name__}Config",
        [(name, Any, field(default=parameters[name].default)) for name in known],
        bases=(ForeignConfig,),
        namespace={"_path": path, "_kinds": known, "__doc__": f"Hyperparameters of {path}."},
        frozen=True,
        kw_only=True,
        slots=True,
    )
    return kind, config


def _is_optimizer(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Optimizer)


def _check_constructor(path: str, kind: type[Optimizer]) -> None:
    required = _required(inspect.signature(kind).parameters.values())
    if required != ["params"]:
        raise ValueError(
            f"{path} is built from {', '.join(required) or 'nothing'}, not from params alone; "
            "give optimizers.foreign.spec_of a build of your own"
        )


def _check_protocol(path: str, kind: type[Optimizer]) -> None:
    if needed := _required(inspect.signature(kind.step).parameters.values())[1:]:
        raise ValueError(f"{path} needs a {needed[0]} at each step, which a loop of one forward and backward has not")
    if hasattr(kind, "train") and hasattr(kind, "eval"):
        raise ValueError(
            f"{path} is evaluated with other weights than it trains: its train() and eval() are not called"
        )


def _required(parameters: Iterable[inspect.Parameter]) -> list[str]:
    """Return the names of the arguments that have to be given."""
    rest = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [each.name for each in parameters if each.default is each.empty and each.kind not in rest]


def _try_step(spec: OptimizerSpec, config: ForeignConfig) -> None:
    """Refuse a configuration with which no step can be taken; it leaves the random numbers of torch as they are."""
    layer = nn.utils.skip_init(nn.Linear, 3, 2)
    nn.init.eye_(layer.weight)
    nn.init.ones_(layer.bias)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            optimizer = spec.build(layer, config)
            layer(torch.ones(1, 3)).square().sum().backward(create_graph=spec.create_graph)
            if not torch.distributed.is_initialized():  # a step may communicate
                optimizer.step()
    except Exception as error:  # whatever the class raises is its refusal
        values = {each: getattr(config, each.name) for each in fields(spec.config)}
        changed = [f"{each.name}={value!r}" for each, value in values.items() if value != each.default]
        having = f" with {', '.join(changed)}" if changed else ""
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{spec.name}{having} cannot train a linear layer: {type(error).__name__}: {reason}"
        ) from error
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(f"{spec.name} has no learning rate that a schedule could set")
