"""What an optimizer sees of a network's layers: inputs and output gradients, reduced to small statistics on the way.

A :class:`Capture` hooks every supported layer of a model. The layer's input is reduced in the forward hook, so that no
activation is held; the result is committed together with the output gradient's statistic when that gradient arrives.
So forwards without grad, in eval mode, or whose output never gets a gradient (one of the two passes of activation
checkpointing) count for nothing, and a layer used twice counts twice. The hook on the output is a tensor hook: it sees
the gradient of the layer's own output even where an in-place activation follows.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

Pair = tuple[Tensor, Tensor]
NO_BACKWARD = -1  # the id of the graph that a thread differentiates, where it differentiates none


def _any_input(module: nn.Module, h: Tensor) -> bool:
    return True


class Counts(NamedTuple):
    """What the sums over a layer's uses are divided by: rows are samples × positions."""

    rows: int
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How a layer type gives its factors: an entry of a method's layer-support table.

    Args:
        sizes: ``sizes(module) -> (I, O)``: the dimensions of the input side, a bias's included, and the output side.
        input_sum: ``input_sum(module, h)``: the statistic of one use's input that adds up over uses.
        grad_sum: ``grad_sum(module, s)``: the same of the output gradient.
        finish: ``finish(input_sum, grad_sum, counts, I) -> (H, S)``, from the sums over all uses.
        fits: ``fits(module, h)``: whether it holds for this input; a use that it does not hold for counts for nothing.
    """

    sizes: Callable[[Any], tuple[int, int]]
    input_sum: Callable[[Any, Tensor], Tensor]
    grad_sum: Callable[[Any, Tensor], Tensor]
    finish: Callable[[Tensor, Tensor, Counts, int], Pair]
    fits: Callable[[Any, Tensor], bool] = _any_input


R = TypeVar("R", bound=Rule)


@dataclass(kw_only=True, slots=True, eq=False)
class Layer(Generic[R]):
    """A supported layer and the statistics of its uses since the last :meth:`take`.

    Args:
        name: Qualified name in the model.
        module: The layer.
        rule: The entry of the layer-support table that applies.
        params: Its own parameters by name (``weight``, ``bias``).
    """

    name: str
    module: nn.Module
    rule: R
    params: dict[str, nn.Parameter]
    input_size: int = field(init=False)
    grad_size: int = field(init=False)
    has_fired: bool = field(init=False, default=False)
    _input_sum: Tensor | None = field(init=False, default=None)
    _grad_sum: Tensor | None = field(init=False, default=None)
    _counts: Counts = field(init=False, default=Counts(0, 0))

    def __post_init__(self) -> None:
        self.input_size, self.grad_size = self.rule.sizes(self.module)

    @property
    def is_trainable(self) -> bool:
        """Whether any of its parameters takes gradients."""
        return any(param.requires_grad for param in self.params.values())

    @property
    def has_no_grad(self) -> bool:
        """Whether none of its parameters has a gradient."""
        return all(param.grad is None for param in self.params.values())

    def commit(self, input_sum: Tensor, grad: Tensor) -> None:
        """Add one use: the statistic of its input, and the gradient of its output."""
        grad_sum = self.rule.grad_sum(self.module, grad)
        self._input_sum = _add(self._input_sum, input_sum)
        self._grad_sum = _add(self._grad_sum, grad_sum)
        rows, samples = self._counts
        self._counts = Counts(rows + grad.numel() // self.grad_size, samples + (grad.shape[0] if grad.dim() > 1 else 1))
        self.has_fired = True

    def take(self) -> tuple[Tensor, Tensor, Counts] | None:
        """Return and forget H, S and their counts, over all uses committed; None if none came with a gradient."""
        counts = self._counts
        if self._input_sum is None or self._grad_sum is None or counts.rows == 0 or self.has_no_grad:
            self.drop()
            return None
        factors = self.rule.finish(self._input_sum, self._grad_sum, counts, self.input_size)
        self.drop()
        return *factors, counts

    def drop(self) -> None:
        """Forget the uses committed since the last :meth:`take`."""
        self._input_sum = self._grad_sum = None
        self._counts = Counts(0, 0)


class Capture(Generic[R]):
    """Collects the statistics of a model's supported layers while it trains.

    The hooks live as long as this object, and stay silent on deep copies of the model.

    Args:
        model: The bare network; its own ``training`` flag says whether a forward counts. A layer held in eval mode
            inside a training model (a BatchNorm with frozen statistics) counts.
        rules: The layer-support table; the first entry whose type the module is an instance of applies.

    Attributes:
        layers: The supported layers, in the order of ``model.named_modules()``.
        is_enabled: Whether hooks collect; they return at once where not.
        is_deaf: Whether gradients count only while :meth:`attend` computes them.
    """

    def __init__(self, model: nn.Module, rules: Mapping[type[nn.Module], R]) -> None:
        self.layers = tuple(_supported_layers(model, rules))
        self.is_enabled = True
        self.is_deaf = False
        self._model = model
        self._edges: list[GradientEdge] = []  # of the outputs that a deaf capture waits for
        attach(self, [(layer.module, WeakHook(self.observe, layer)) for layer in self.layers])
        torch.compiler.reset()  # graphs compiled before would run on without the hooks

    def has_seen(self, param: nn.Parameter) -> bool:
        """Return whether a supported layer that uses this parameter has trained so far."""
        return any(param is own and layer.has_fired for layer in self.layers for own in layer.params.values())

    def drop(self) -> None:
        """Forget all pending statistics."""
        self._edges = []
        for layer in self.layers:
            layer.drop()

    def counts(self) -> bool:
        """Return whether a forward counts now."""
        return self.is_enabled and self._model.training and torch.is_grad_enabled()

    def observe(self, layer: Layer[R], h: object, output: object) -> None:
        """Reduce the input of one use, and commit it when the gradient of its output arrives.

        Args:
            layer: The layer used.
            h: Its input.
            output: What it returned, before any in-place operation.
        """
        if not (isinstance(h, Tensor) and isinstance(output, Tensor)):
            return
        if not (self.counts() and output.requires_grad and layer.is_trainable):
            return
        if torch._C._current_graph_task_id() == NO_BACKWARD and layer.has_no_grad:
            layer.drop()  # what it has was left by gradients that are cleared, by model.zero_grad() for one
        if not layer.rule.fits(layer.module, h):
            return
        input_sum = layer.rule.input_sum(layer.module, h.detach())

        def on_grad(grad: Tensor) -> None:
            if self.is_enabled and not self.is_deaf:
                layer.commit(input_sum, grad.detach())

        output.register_hook(on_grad)
        if self.is_deaf:
            self._edges.append(get_gradient_edge(output))

    def attend(self, loss: Tensor) -> None:
        """Let a capture that is deaf hear the backward pass of a loss, which ends at the outputs of the layers.

        Args:
            loss: Of the model's last forward, whose graph stays.
        """
        edges, self._edges = self._edges, []
        if not edges:
            return
        self.is_deaf = False
        try:
            torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
        finally:
            self.is_deaf = True


def count_uses(model: nn.Module) -> dict[nn.Parameter, int]:
    """Return how many modules hold each parameter of a model as their own: more than one where it is shared."""
    num_uses: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for param in module.parameters(recurse=False):
            num_uses[param] = num_uses.get(param, 0) + 1
    return num_uses


def _supported_layers(model: nn.Module, rules: Mapping[type[nn.Module], R]) -> Iterator[Layer[R]]:
    for name, module in model.named_modules():
        rule = next((rule for kind, rule in rules.items() if isinstance(module, kind)), None)
        params = dict(module.named_parameters(recurse=False))
        if rule is not None and params:
            yield Layer(name=name, module=module, rule=rule, params=params)


def attach(owner: object, hooks: Iterable[tuple[nn.Module, "WeakHook"]]) -> None:
    """Register forward hooks for as long as an object lives.

    Args:
        owner: The object.
        hooks: Modules with the hooks that call its methods.
    """
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks]
    weakref.finalize(owner, _remove, handles)


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


class WeakHook:
    """A forward hook that calls a method of an object which it does not keep alive; copies of the model carry none.

    Args:
        method: ``method(*first, h, output)``, h the module's first input.
        *first: What it is called with besides.
    """

    def __init__(self, method: Callable[..., None], *first: object) -> None:
        self._method = weakref.WeakMethod(method)
        self._first = first

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        """Call the method, if its object still lives."""
        method = self._method()
        if method is not None:
            method(*self._first, next(iter((*args, *kwargs.values())), None), output)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _NoHook, ()


class _NoHook:
    """What stands for a hook in a copy of the model."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        pass


def _add(total: Tensor | None, value: Tensor) -> Tensor:
    """Return the sum of two statistics; sequences of different lengths give some of different lengths."""
    if total is None:
        return value
    if total.shape == value.shape:
        return total + value
    size = max(total.numel(), value.numel())
    return F.pad(total, (0, size - total.numel())) + F.pad(value, (0, size - value.numel()))
