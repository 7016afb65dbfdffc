"""The exact ledger of a training step's memory: every block that torch's allocator gave out, and what it was for.

torch's profiler reports each block of the allocator when it is given out and when it comes back: address and bytes, as
requested on the CPU, as granted (multiples of 512) on CUDA. The ledger replays these events and says, of the instant at
which most bytes are out, what they are:

parameters        the model's parameters and buffers
gradients         what is, or will be by the end of the backward, a parameter's ``grad``
optimizer_state   what ``optimizer.state`` holds, by parameter
factors           all other tensors an optimizer holds: running factors, inverses, the statistics of a step at work
activations       all else that was allocated before the backward begins and is alive when it does: what the graph
                  saves, the batch, the loss
temporaries       the rest: what is freed within the forward, and what backward and optimizer work with, the graph of a
                  gradient that is differentiated again included

A storage that several tensors share counts once. What does not come from torch's allocator is not in the ledger:
``docs/memory.md`` has the parts of a process that are beside it.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch._C._profiler import _EventType
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile, record_function

from optimizers import Refreshing, level_shares

CATEGORIES = ("parameters", "gradients", "optimizer_state", "factors", "activations", "temporaries")
MARK = "fisherbench.ledger/"
ENGINE = "autograd::engine::evaluate_function"
STEP, FORWARD, LOSS, LOOK = "step", "forward", "loss", "look"  # kinds of marks

Held = dict[int, str]  # category by address


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Bytes at the instant of the peak, by what they are for; see the module's docstring.

    Args:
        parameters: Parameters and buffers.
        gradients: Gradients.
        optimizer_state: State by parameter.
        factors: What else the optimizer holds.
        activations: What lives through the forward, the batch included.
        temporaries: The rest.
        by_level: The peaks of steps by what they refresh (:class:`optimizers.Refreshing`), of those that were taken: 0
            is a plain step.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    factors: int
    activations: int
    temporaries: int
    by_level: Mapping[int, "Ledger"] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Bytes of all categories together."""
        return sum(getattr(self, name) for name in CATEGORIES)

    def as_metrics(self) -> dict[str, float]:
        """Return the bytes by the names of the table ``metrics``: ``memory/parameters_bytes``, ….

        Returns:
            Seven values; ``memory/peak_bytes`` is their sum.
        """
        return {f"memory/{name}_bytes": float(getattr(self, name)) for name in (*CATEGORIES, "peak")}


def measure(
    model: nn.Module,
    optimizer: Optimizer,
    step: Callable[[], object],
    *,
    levels: Sequence[int] | None = None,
    batch: Sequence[Tensor] = (),
) -> Ledger:
    """Take training steps and return the ledger of the one with the highest peak.

    The steps are real ones: give a model and an optimizer that are thrown away afterwards. Their tensors keep their
    values but move to other addresses. The profiler's own records grow meanwhile, so read the peak of the process
    before.

    Args:
        model: The bare network, on the device whose memory is counted.
        optimizer: Its optimizer.
        step: One whole training step: clears the gradients, forward, backward, ``optimizer.step()``.
        levels: What each step refreshes, step after step. ``None``: the first refreshes all, and then one step of each
            level that the optimizer's intervals have; two steps where nothing is refreshed.
        batch: The tensors that ``step`` trains on, where it does not make them itself; each storage counts whole.

    Returns:
        The ledger.

    Raises:
        ValueError: If a level is given that the optimizer does not have.
    """  # noqa: DOC502
    levels = _levels(optimizer, levels)
    watch = _Watch(model, optimizer, batch)
    fixed, kept = watch.fixed(), watch.give_back()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it tells the terminal when it starts and stops
    with watch.attached(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        values = _allocate_anew(kept)
        for level in levels:
            if isinstance(optimizer, Refreshing):
                optimizer.schedule_refresh(level)
            watch.mark(STEP)
            step()
            watch.mark(LOOK)
    del values  # not earlier: their blocks are unknown to the profiler, which warns of such
    replay = _Replay(watch.marks, fixed)
    for event in _events(profiler, watch.device):
        replay.take(event)
    peaks = [replay.peak(number) for number in range(len(levels))]
    pairs = list(zip(levels, peaks, strict=True))[::-1]  # of equal peaks the last, when all state is there
    highest = max(peaks[::-1], key=_peak_of)
    by_level = {each: max((one for level, one in pairs if level == each), key=_peak_of) for each in sorted(set(levels))}
    return replace(highest, by_level=by_level)


def _allocate_anew(kept: list[tuple[UntypedStorage, UntypedStorage]]) -> list[UntypedStorage]:
    """Give storages their blocks and values back, and forget them; return what the values were kept in."""
    for storage, values in kept:
        storage.resize_(values.nbytes()).copy_(values)
    values_alone = [values for _, values in kept]
    kept.clear()
    return values_alone


def _peak_of(ledger: Ledger) -> int:
    return ledger.peak


def _levels(optimizer: Optimizer, levels: Sequence[int] | None) -> Sequence[int]:
    """Return what each step refreshes; the first makes the optimizer's state."""
    intervals = optimizer.refresh_intervals if isinstance(optimizer, Refreshing) else ()
    if levels is None:
        return len(intervals), *level_shares(intervals)
    if not levels or not all(0 <= level <= len(intervals) for level in levels):
        raise ValueError(f"levels must be some, of 0 to {len(intervals)} for this optimizer, but got {levels!r}")
    return levels


class _Watch:
    """Marks the moments of a step among the profiler's events, and says which addresses are held for what.

    Args:
        model: The bare network.
        optimizer: Its optimizer.
        batch: What it trains on.

    Attributes:
        marks: Kind and addresses held of each mark, in order.
        device: Whose memory is counted.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, batch: Sequence[Tensor]) -> None:
        self._model, self._optimizer, self._batch = model, optimizer, batch
        self.marks: list[tuple[str, Held]] = []
        self.device = next((param.device for param in model.parameters()), torch.device("cpu"))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Mark forwards and the optimizer's steps for as long as this lasts."""
        handles = [
            self._model.register_forward_pre_hook(lambda *_: self.mark(FORWARD)),
            self._model.register_forward_hook(lambda *_: self.mark(LOSS)),
            self._optimizer.register_step_pre_hook(lambda *_: self.mark(LOOK)),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def mark(self, kind: str) -> None:
        """Leave a mark among the events."""
        self.marks.append((kind, self._held() if kind in {STEP, LOOK} else {}))
        with record_function(f"{MARK}{len(self.marks) - 1}"):
            pass

    def give_back(self) -> list[tuple[UntypedStorage, UntypedStorage]]:
        """Free what was allocated before the profiler could see it; return each storage with its values."""
        storages = [s for s in self._storages() if s.resizable() and s.nbytes()]
        kept = [(storage, storage.clone()) for storage in storages]
        for storage in storages:
            storage.resize_(0)
        return kept

    def fixed(self) -> dict[int, int]:
        """Return the bytes by address of what cannot be allocated anew, as it belongs to a file or another library."""
        return {s.data_ptr(): s.nbytes() for s in self._storages() if not s.resizable()}

    def _storages(self) -> list[UntypedStorage]:
        """Return each storage held, once."""
        tensors = (tensor for _, tensor in self._tensors() if tensor.device == self.device)
        return list({s.data_ptr(): s for s in (tensor.untyped_storage() for tensor in tensors)}.values())

    def _held(self) -> Held:
        """Return for what each address is held."""
        return {tensor.untyped_storage().data_ptr(): category for category, tensor in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all tensors that are held, by category; where two share a storage, the last one decides."""
        yield from (("activations", tensor) for tensor in self._batch)
        others = {name: value for name, value in vars(self._optimizer).items() if name not in {"state", "param_groups"}}
        yield from (("factors", tensor) for tensor in _reachable(others, set()))
        yield from (("optimizer_state", tensor) for tensor in _reachable(dict(self._optimizer.state), set()))
        owned = [*self._model.parameters(), *self._model.buffers()]
        optimized = [param for group in self._optimizer.param_groups for param in group["params"]]
        yield from (("gradients", each.grad) for each in (*owned, *optimized) if each.grad is not None)
        yield from (("parameters", each.detach()) for each in (*owned, *optimized))


def _reachable(value: object, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors that hang on a value, but for modules and parameters, which are not the optimizer's."""
    if id(value) in seen or isinstance(value, nn.Module | nn.Parameter | type):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    parts: Iterable[object] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = value
    elif type(value).__module__.partition(".")[0] not in sys.stdlib_module_names:
        slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
        parts = (*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots))
    for part in parts:
        yield from _reachable(part, seen)


def _events(profiler: profile, device: torch.device) -> Iterator[tuple[str, int, int]]:
    """Yield what happened on a device in the order of time: ``("block", address, bytes)``, negative where it is freed.

    Between them ``("mark", number, 0)``, and ``("backward", 0, 0)`` for each node that the autograd engine runs.
    """
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    pending, found = list(profiler.profiler.kineto_results.experimental_event_tree()), []
    while pending:
        event = pending.pop()
        pending.extend(event.children)
        if event.tag == _EventType.Allocation:
            block: Any = event.extra_fields
            if block.device == device:
                found.append((event.start_time_ns, ("block", block.ptr, block.alloc_size)))
        elif event.name.startswith(MARK):
            found.append((event.start_time_ns, ("mark", int(event.name.removeprefix(MARK)), 0)))
        elif event.name.startswith(ENGINE):
            found.append((event.start_time_ns, ("backward", 0, 0)))
    yield from (event for _, event in sorted(found, key=lambda each: each[0]))


@dataclass(kw_only=True, slots=True, eq=False)
class _Block:
    """A block of the allocator: its bytes, its category as far as known, and the events between which it was out."""

    num_bytes: int
    born: int
    category: str | None = None
    is_of_forward: bool = False
    freed: float = math.inf


class _Replay:
    """The allocator's events, one after the other.

    Args:
        marks: See :class:`_Watch`.
        fixed: Bytes by address of what is held all the time without an event.
    """

    def __init__(self, marks: Sequence[tuple[str, Held]], fixed: Mapping[int, int]) -> None:
        self._marks = marks
        self._out = {address: _Block(num_bytes=size, born=0) for address, size in fixed.items()}
        self._blocks = list(self._out.values())
        self._totals = [sum(fixed.values())]  # bytes out after each event
        self._starts: list[int] = []  # by step, its first event
        self._phase = STEP

    def take(self, event: tuple[str, int, int]) -> None:
        """Replay an event."""
        kind, number, num_bytes = event
        self._totals.append(self._totals[-1])
        if kind == "block" and num_bytes > 0:
            self._give(number, num_bytes)
        elif kind == "block":
            self._take_back(number)
        elif kind == "mark":
            self._pass(*self._marks[number])
        elif self._phase == LOSS:  # the first node since a forward ended
            self._phase = "backward"
            for block in self._out.values():
                if block.is_of_forward and block.category is None:
                    block.category = "activations"

    def peak(self, step: int) -> Ledger:
        """Return the ledger of the highest instant of a step."""
        start, end = self._starts[step], [*self._starts, len(self._totals)][step + 1]
        instant = max(range(start, end), key=self._totals.__getitem__)
        sums: dict[str, Any] = dict.fromkeys(CATEGORIES, 0)
        for block in self._blocks:
            if block.born <= instant < block.freed:
                sums[block.category or "temporaries"] += block.num_bytes
        return Ledger(**sums)

    def _give(self, address: int, num_bytes: int) -> None:
        block = _Block(num_bytes=num_bytes, born=len(self._totals) - 1, is_of_forward=self._phase != "backward")
        self._out[address] = block
        self._blocks.append(block)
        self._totals[-1] += num_bytes

    def _take_back(self, address: int) -> None:
        block = self._out.pop(address, None)
        if block is not None:  # else it was given out before the profiler started
            block.freed = len(self._totals) - 1
            self._totals[-1] -= block.num_bytes

    def _pass(self, kind: str, held: Held) -> None:
        if kind == STEP:
            self._starts.append(len(self._totals) - 1)
        if kind != LOOK:
            self._phase = kind
        for address, category in held.items():
            block = self._out.get(address)
            if block is not None and block.category in {None, "activations"}:
                block.category = category
