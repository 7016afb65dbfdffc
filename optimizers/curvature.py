"""What optimizers with curvature of their own share: checked options, refreshes at an interval, a guarded state dict.

A step is always the same: evaluate the closure, refresh the curvature where it is due, precondition all gradients
together where the method does, move every parameter that has one. A method says how it refreshes, how it moves a
parameter, and what it keeps beside the state by parameter.
"""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .base import require, trainable
from .capture import Capture


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of ``torch.compile`` and ``DistributedDataParallel``, which prefix names.

    It is refused where parameters wait for their first forward, as factors could not be given their shapes.

    Args:
        model: A network, wrapped or bare.

    Returns:
        The bare network.

    Raises:
        ValueError: If it is no module, as where parameters were given, the habit of ``torch.optim``; or if one of its
            parameters is lazy.
    """  # noqa: DOC502
    require(isinstance(model, nn.Module), "the first argument", "the model, not its parameters", type(model).__name__)
    if isinstance(model, DistributedDataParallel):
        return unwrapped(model.module)
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return unwrapped(compiled)
    for param in model.parameters():
        _require_initialized(param)
    return model


class CurvatureOptimizer(Optimizer):
    """The contract of ``torch.optim.Optimizer``, and the loop around a method's refresh and update.

    Args:
        model: The bare network.
        params: Parameters or groups as in ``torch.optim``; None for all trainable parameters of the model.
        config: The method's frozen dataclass of hyperparameters, whose rules every group has to meet.
        group_options: The fields of ``config`` that a group may override.
        refresh_intervals: Steps from one refresh to the next, >= 1, of each level; see :class:`Refreshing`. The first
            step refreshes all.
        capture: What collects statistics of layers, for methods that need it; it collects where a refresh is due.

    Attributes:
        refresh_intervals: Steps from one refresh to the next, of each level.
        refreshed: Level of the last ``step()``; 0 where it refreshed nothing.

    Raises:
        ValueError: If there is no parameter, if one is complex, integer or lazy, or if an option breaks its rule.
    """  # noqa: DOC502

    state_key: str  # under which a state dict holds what belongs to no parameter

    def __init__(
        self,
        model: nn.Module,
        params: ParamsT | None,
        *,
        config: Any,  # noqa: ANN401
        group_options: tuple[str, ...],
        refresh_intervals: tuple[int, ...],
        capture: Capture[Any] | None = None,
    ) -> None:
        self._config = config
        self._group_options = group_options
        self._capture = capture
        self._names = {param: name for name, param in model.named_parameters()}
        self._unchecked: list[nn.Parameter] = []
        self._num_steps = 0
        self._level = len(refresh_intervals)
        self.refresh_intervals = refresh_intervals
        self.refreshed = 0
        options = {name: getattr(config, name) for name in group_options}
        super().__init__(trainable(model) if params is None else params, options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; see ``torch.optim.Optimizer``.

        Args:
            param_group: ``params``, and any option that groups may override.

        Raises:
            ValueError: If an option breaks its rule, or a parameter is complex, integer, lazy or in another group.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            replace(self._config, **{name: group[name] for name in self._group_options})
            for param in group["params"]:
                _require_initialized(param)
                require(param.is_floating_point(), "a parameter's dtype", "real", param.dtype)
        except ValueError:
            self.param_groups.pop()
            raise
        self._unchecked.extend(group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Refresh the curvature where due, then move every parameter that has a gradient.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            The loss of the closure, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._refuse_sparse_gradients()
        self._complete_gradients()
        reached = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for param, _ in reached:
            if not self.state[param]:
                self.state[param] = self._new_state(param)
        self.refreshed = self._level
        if self.refreshed:
            self._refresh(self.refreshed)
            self._warn_of_identities()
        self._precondition(reached)
        for param, group in reached:
            self._update(param, group)
        self._num_steps += 1
        self._schedule_by_interval()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, and drop the statistics that came with them."""
        super().zero_grad(set_to_none)
        if self._capture is not None:
            self._capture.drop()

    def schedule_refresh(self, level: int) -> None:
        """Say, before its forward, what the next step refreshes; the ones after go by the intervals.

        Args:
            level: 0 for nothing, up to the number of intervals.
        """
        self._level = level
        if self._capture is not None:
            self._capture.is_enabled = level > 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as in ``torch.optim``; under :attr:`state_key` the step count and what the method keeps."""
        return {**super().state_dict(), self.state_key: {"num_steps": self._num_steps, **self._own_state()}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state; tensors move to the device of their parameters, and the given dict is left as it is.

        Args:
            state_dict: What :meth:`state_dict` returned.

        Raises:
            ValueError: If it is of another optimizer or another model; nothing has changed then.
        """  # noqa: DOC502
        own = self._own_part(state_dict)
        self._check_own_state(own)
        self._check_param_states(state_dict["state"], self._check_groups(state_dict["param_groups"]))
        super().load_state_dict({**state_dict, "state": deepcopy(state_dict["state"])})
        self._load_own_state(own)
        if self._capture is not None:
            self._capture.drop()
        self._num_steps = own["num_steps"]
        self._schedule_by_interval()

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to be pickled or copied."""
        kind = type(self).__name__
        raise TypeError(f"{kind} watches its model and cannot be copied or pickled; build another, load its state_dict")

    def _complete_gradients(self) -> None:  # noqa: B027
        """Look at the gradients as ``backward`` left them, before anything else does; a method may change them here."""

    @abstractmethod
    def _refresh(self, level: int) -> None:
        """Bring the curvature up to date, as far as a level >= 1 asks."""

    @abstractmethod
    def _new_state(self, param: Tensor) -> dict[str, Any]:
        """Return what the method keeps of a parameter before its first update."""

    @abstractmethod
    def _update(self, param: nn.Parameter, group: dict[str, Any]) -> None:
        """Move one parameter that has a gradient and a state."""

    def _precondition(self, reached: Sequence[tuple[nn.Parameter, dict[str, Any]]]) -> None:  # noqa: B027
        """Look at all parameters that have a gradient, with their groups, before any is moved."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return what the method keeps beside the state by parameter."""

    @abstractmethod
    def _check_own_state(self, own: Mapping[str, Any]) -> None:
        """Raise ValueError unless ``own`` is what :meth:`_own_state` returned for a model and options like these."""

    @abstractmethod
    def _load_own_state(self, own: Mapping[str, Any]) -> None:
        """Take over what :meth:`_check_own_state` accepts."""

    def _refuse_sparse_gradients(self) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    require(not param.grad.is_sparse, "a gradient", "dense", param.grad.layout)

    def _schedule_by_interval(self) -> None:
        self.schedule_refresh(sum(self._num_steps % interval == 0 for interval in self.refresh_intervals))

    def _warn_of_identities(self) -> None:
        """Name, once, the parameters without curvature because no layer with a rule was captured using them."""
        if self._capture is None:
            return
        reached = [param for param in self._unchecked if param.grad is not None]
        self._unchecked = [param for param in self._unchecked if param.grad is None]
        names = [self._names.get(param, "(not of the model)") for param in reached if not self._capture.has_seen(param)]
        if names:
            reason = "as their layers have no rule for what they are called with or are used functionally"
            warnings.warn(f"these parameters take the identity factor, {reason}: {', '.join(names)}", stacklevel=5)

    def _own_part(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what belongs to no parameter; raise ValueError where a part is missing."""
        if isinstance(state_dict, Mapping) and {"state", "param_groups", self.state_key} <= state_dict.keys():
            own: Mapping[str, Any] = state_dict[self.state_key]
            is_whole = isinstance(own, Mapping) and own.keys() == {"num_steps", *self._own_state()}
            if is_whole and isinstance(own["num_steps"], int):
                return own
        raise ValueError(f"the state dict is not one of {type(self).__name__}")

    def _check_groups(self, groups: Any) -> list[Any]:  # noqa: ANN401
        """Raise ValueError unless loaded groups are as here and their options keep the rules; return their ids."""
        is_list = isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)
        is_whole = is_list and all(isinstance(group.get("params"), list) for group in groups)
        require(is_whole, "the loaded groups", "dicts with a list of params each", groups)
        sizes = [len(group["params"]) for group in self.param_groups]
        loaded_sizes = [len(group["params"]) for group in groups]
        require(loaded_sizes == sizes, "numbers of parameters in the loaded groups", f"{sizes}", loaded_sizes)
        for group in groups:
            missing = [name for name in self._group_options if name not in group]
            require(not missing, "a loaded group", "complete", f"none of its {', '.join(missing)}")
            replace(self._config, **{name: group[name] for name in self._group_options})
        return [index for group in groups for index in group["params"]]

    def _check_param_states(self, states: Any, ids: list[Any]) -> None:  # noqa: ANN401
        """Raise ValueError unless each loaded state of a parameter is empty or like a new one."""
        require(isinstance(states, Mapping), "the loaded state", "a dict by parameter", type(states).__name__)
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(ids, params, strict=True):
            if index in states:
                expected = _shapes(self._new_state(param.detach().to("meta")))
                loaded = _shapes(states[index])
                require(loaded == expected, f"shapes of the loaded state {index}", f"{expected}", loaded)


def _require_initialized(param: nn.Parameter) -> None:
    require(not is_lazy(param), "a parameter", "initialized by a first forward", type(param).__name__)


def _shapes(state: object) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a parameter's state by name, () for numbers; None for what is no state."""
    if not isinstance(state, Mapping):
        return None
    return {name: tuple(value.shape) if isinstance(value, Tensor) else () for name, value in state.items()}
