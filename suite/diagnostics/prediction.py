"""What a training step needs, predicted without the hardware: nothing is allocated, and no value is computed.

Model, optimizer and steps run on torch's fake tensors, which have shapes and lifetimes but no memory. Each storage is
counted from the operation that makes it until nothing refers to it any more, and the sum at its highest is the
prediction, by the same categories as the ledger's:

parameters        the model's parameters and buffers
gradients         the parameters' ``grad`` as the backward leaves them
optimizer_state   the tensors in ``optimizer.state``
factors           what outlives a backward or a step besides: running factors, inverses, a step's own statistics
activations       all else that the forward made and that is alive when the backward begins; the batch
temporaries       the rest

Two things are assumed. Code that asks is told that tensors are on the meta device, which has no values; where it reads
one all the same that only the computation would tell, it finds 1, or true. And what an operation allocates for itself
is known of convolutions on the CPU alone: oneDNN works on copies in layouts of its own. For CUDA the shapes and
lifetimes are those of the CPU's operations, as autograd asks for a real card where fake tensors lie on one. Blocks are
multiples of 512 bytes there, optimizers of torch take their ``foreach`` form, and ``is_cuda`` is true; workspaces of
cuDNN and cuBLAS are not in it.
"""

import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optimizers import Refreshing, level_shares

GRANULARITY = {"cpu": 1, "cuda": 512}  # of a block, in bytes
LARGEST_BATCH = 1 << 30
ONES = {torch.bool: True, torch.int32: 1, torch.int64: 1}  # what code finds that reads a value
IS_META, IS_CUDA = Tensor.is_meta.__get__, Tensor.is_cuda.__get__  # type: ignore[attr-defined]
BLOCK = 16  # channels of a block of oneDNN's with AVX-512
NARROW = 3  # channels that it reads as they lie
aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Bytes at the instant of the peak, by what they are for; see the module's docstring.

    Args:
        parameters: Parameters and buffers.
        gradients: Gradients.
        optimizer_state: State by parameter.
        factors: What else the optimizer keeps.
        activations: What lives through the forward, the batch included.
        temporaries: The rest.
        by_level: The peaks of steps by what they refresh (:class:`optimizers.Refreshing`); 0 is a plain step.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    factors: int
    activations: int
    temporaries: int
    by_level: Mapping[int, "Prediction"] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Bytes of all categories together."""
        return sum(self._bytes().values())

    def as_metrics(self) -> dict[str, float]:
        """Return the bytes by the names of the table ``metrics``: ``predicted_memory/parameters_bytes``, ….

        Returns:
            Seven values; ``predicted_memory/peak_bytes`` is their sum.
        """
        values = {**self._bytes(), "peak": self.peak}
        return {f"predicted_memory/{name}_bytes": float(value) for name, value in values.items()}

    def _bytes(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if name != "by_level"}


def never(optimizer: Optimizer) -> bool:
    """Return False: what ``needs_graph`` is where no backward creates a graph."""
    return False


def predict(
    build_model: Callable[[], nn.Module],
    build_optimizer: Callable[[nn.Module], Optimizer],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    *,
    needs_graph: Callable[[Optimizer], bool] = never,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Prediction:
    """Predict the memory of training steps, at their highest: the first one, and one of each kind that follows.

    Args:
        build_model: Returns the model; its weights take no memory.
        build_optimizer: Returns the optimizer of a model.
        loss: ``loss(outputs, targets)``, a scalar.
        inputs: Of one batch; shape and dtype are looked at alone, so ``torch.empty(…, device="meta")`` is enough.
        targets: Of the batch, likewise.
        needs_graph: Whether the next backward creates a graph, as ``OptimizerSpec.needs_graph``.
        device: Whose rules of allocation hold.

    Returns:
        The prediction.

    Raises:
        ValueError: If an operation of model, loss or optimizer gives shapes that hang on the values of tensors, or has
            no shapes without values.
    """
    storages = _Storages(GRANULARITY[device], _CONVOLUTIONS if device == "cpu" else {})
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(action="ignore"),  # which the real run will give
            _Answers(is_cuda=device == "cuda"),
            FakeTensorMode(),
            storages,
        ):
            model = build_model().train()
            storages.label("parameters", [*model.parameters(), *model.buffers()])
            optimizer = build_optimizer(model)
            if device == "cuda":
                _fuse(optimizer)
            batch = torch.empty(inputs.shape, dtype=inputs.dtype), torch.empty(targets.shape, dtype=targets.dtype)
            storages.label("activations", batch)
            storages.label_rest("factors", but=batch)
            levels = optimizer.refresh_intervals if isinstance(optimizer, Refreshing) else ()
            steps = []
            for level in (len(levels), *level_shares(levels)):
                if isinstance(optimizer, Refreshing):
                    optimizer.schedule_refresh(level)
                steps.append((level, _step(model, optimizer, loss, batch, needs_graph, storages)))
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
        operation = getattr(error, "func", error)
        raise ValueError(f"memory cannot be predicted: {operation} needs the values of tensors") from error
    steps.reverse()  # of equal peaks the last counts, when all state is there
    highest = max((one for _, one in steps), key=lambda one: one.peak)
    by_level: dict[int, Prediction] = {}
    for level, one in steps:
        by_level[level] = max(by_level.get(level, one), one, key=lambda each: each.peak)
    return replace(highest, by_level=dict(sorted(by_level.items())))


def largest_batch(predict_at: Callable[[int], int], capacity_bytes: int, *, multiple_of: int = 1) -> int:
    """Return the largest batch that fits, by doubling and bisection.

    Args:
        predict_at: Bytes that a batch of so many samples needs, which grow with it.
        capacity_bytes: What there is for them: of a card, less what its driver and the gaps between blocks take.
        multiple_of: Samples by which batches differ, >= 1; the more, the fewer predictions.

    Returns:
        Samples, a multiple; 0 where not even the smallest fits.

    Raises:
        ValueError: If any batch would fit, as the bytes do not grow.
    """

    def is_within(multiple: int) -> bool:
        return predict_at(multiple * multiple_of) <= capacity_bytes

    fits, too_many = 0, 1
    while is_within(too_many):
        if too_many * multiple_of > LARGEST_BATCH:
            raise ValueError(f"bytes must grow with the batch, but any batch fits {capacity_bytes=}")
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if is_within(middle) else (fits, middle)
    return fits * multiple_of


def _step(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    batch: tuple[Tensor, Tensor],
    needs_graph: Callable[[Optimizer], bool],
    storages: "_Storages",
) -> Prediction:
    """Take a step, and tell what storages are for where this shows; its own names end with it, as a real step's do."""
    inputs, targets = batch
    storages.begin()
    optimizer.zero_grad()
    has_graph = needs_graph(optimizer)
    with sdpa_kernel(SDPBackend.MATH) if has_graph else nullcontext():  # as training does
        value = loss(model(inputs), targets)
        storages.label_rest("activations")
        value.backward(create_graph=has_graph)
        params = [param for group in optimizer.param_groups for param in group["params"]]
        storages.label("gradients", [param.grad for param in params if param.grad is not None])
        if not has_graph:  # of which all else would be
            storages.label_rest("factors", but=[value, inputs, targets])
        optimizer.step()
    storages.label("optimizer_state", tree_leaves(list(optimizer.state.values())))
    del value
    optimizer.zero_grad()
    storages.label_rest("factors", but=[inputs, targets])
    return storages.prediction()


def _fuse(optimizer: Optimizer) -> None:
    """Have torch's optimizers take all parameters at once, as they do by default where these are on CUDA."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True


class _Answers(TorchFunctionMode):
    """Has tensors say that they have no values, and where they lie: code may have a way of its own for it.

    Args:
        is_cuda: Whether they lie on CUDA.
    """

    def __init__(self, is_cuda: bool) -> None:
        super().__init__()
        self._is_cuda = is_cuda

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Answer for ``is_meta`` and ``is_cuda``; call everything else."""
        if func == IS_META:
            return True
        return self._is_cuda if func == IS_CUDA else func(*args, **(kwargs or {}))


@dataclass(kw_only=True, slots=True, eq=False)
class _Storage:
    """A storage of fake tensors: its bytes, and its category as far as known."""

    num_bytes: int
    category: str | None = None


class _Storages(TorchDispatchMode):
    """Follows all storages from the operation that makes them until nothing refers to them.

    Args:
        granularity: Of the allocator, in bytes.
        scratch: By operation: ``scratch(arguments, outputs)``, bytes that it takes for itself.
    """

    def __init__(self, granularity: int, scratch: Mapping[Any, Callable[[Any, Any], int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._granularity = granularity
        self._scratch = scratch
        self._live: dict[int, tuple[_Storage, weakref.ref[Any]]] = {}
        self._total = 0
        self.begin()

    def begin(self) -> None:
        """Forget the peak so far."""
        self._peak = self._peak_scratch = 0
        self._at_peak: list[_Storage] = []

    def label(self, category: str, tensors: Iterable[object]) -> None:
        """Say what the storages of tensors are for."""
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._follow(tensor).category = category

    def label_rest(self, category: str, but: Iterable[Tensor] = ()) -> None:
        """Say what all storages are for that live and are not yet told apart, tensors that are named excepted.

        What was an activation becomes a factor where it lives on.
        """
        kept = {id(self._follow(tensor)) for tensor in but}
        for storage, _ in self._live.values():
            if storage.category in {None, "activations"} and id(storage) not in kept:
                storage.category = category

    def prediction(self) -> Prediction:
        """Return what lived at the peak."""
        sums: dict[str, Any] = dict.fromkeys(Prediction.__dataclass_fields__.keys() - {"by_level"}, 0)
        for storage in self._at_peak:
            sums[storage.category or "temporaries"] += storage.num_bytes
        sums["temporaries"] += self._peak_scratch
        return Prediction(**sums)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operation and follow what it returns."""
        try:
            outputs = func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            if func is not aten._local_scalar_dense.default:
                raise
            return ONES.get(args[0].dtype, 1.0)
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor):
                self._follow(tensor)
        scratch = self._scratch[func](args, outputs) if func in self._scratch else 0
        if self._total + scratch > self._peak:
            self._peak, self._peak_scratch = self._total + scratch, scratch
            self._at_peak = [storage for storage, _ in self._live.values()]
        return outputs

    def _follow(self, tensor: Tensor) -> _Storage:
        """Return the record of a tensor's storage; it goes when the storage does."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._live:
            num_bytes = -(-storage.nbytes() // self._granularity) * self._granularity
            self._live[key] = _Storage(num_bytes=num_bytes), weakref.ref(storage, lambda _: self._forget(key))
            self._total += num_bytes
        return self._live[key][0]

    def _forget(self, key: int) -> None:
        self._total -= self._live.pop(key)[0].num_bytes


def _num_bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


def _copies(*tensors: Tensor) -> int:
    """Return the bytes of copies of the tensors that are not dense in the order of their dimensions."""
    return sum(_num_bytes(tensor) for tensor in tensors if not tensor.is_contiguous())


def _blocked(tensor: Tensor, *dims: int) -> int:
    """Return the bytes of a copy in oneDNN's layout, in which dimensions of channels are whole blocks."""
    blocks = math.prod(-(-tensor.shape[dim] // BLOCK) * BLOCK for dim in dims)
    return _num_bytes(tensor) * blocks // max(1, math.prod(tensor.shape[dim] for dim in dims))


def _blocked_input(x: Tensor) -> int:
    return _blocked(x, 1) if x.shape[1] > NARROW else 0


def _blocked_weight(weight: Tensor, groups: int) -> int:
    is_dense = groups == 1 and weight.shape[1] > NARROW
    return _blocked(weight, *((0, 1) if is_dense else (0,)))


def _convolution(args: Any, output: Tensor) -> int:  # noqa: ANN401
    """Input and weight are copied to oneDNN's layout; then the output from it."""
    x, weight, groups = args[0], args[1], args[8]
    own = _blocked(output, 1)
    return max(_blocked_input(x) + _blocked_weight(weight, groups) + own - _num_bytes(output), own) + _copies(x, weight)


def _convolution_backward(args: Any, outputs: tuple[Tensor | None, ...]) -> int:  # noqa: ANN401
    """Gradients are computed in oneDNN's layout, the input's first; its copy from there is made twice."""
    grad, x, weight, groups = args[0], args[1], args[2], args[9]
    of_input, of_weight = (_num_bytes(each) for each in outputs[:2])
    own, own_grad, own_weight = _blocked(x, 1), _blocked(grad, 1), _blocked_weight(weight, groups)
    by_input = max(own_grad + own_weight + own, own + 2 * of_input) if of_input else 0
    by_weight = of_input + own_grad + _blocked_input(x) + own_weight if of_weight else 0
    return max(by_input, by_weight) - of_input - of_weight + _copies(grad, x)


_CONVOLUTIONS: Mapping[Any, Callable[[Any, Any], int]] = {
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
}
