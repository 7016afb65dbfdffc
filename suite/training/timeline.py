"""What a training step does when: a row of marks, each of which says what begins there.

The step itself turns from part to part; hooks, refreshes and collectives interrupt it and hand back to what they
interrupted. So the parts add up to the step, and what one part does for another is counted once.
"""

import functools
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers import Refreshing, capture, linalg

PARTS = ("data", "forward", "backward", "factors", "step", "communication")
COLLECTIVES = (
    *("all_gather", "all_gather_into_tensor", "all_reduce", "all_to_all", "all_to_all_single", "barrier", "broadcast"),
    *("gather", "reduce", "reduce_scatter", "reduce_scatter_tensor", "scatter"),
)
_PAYLOADS = ("input_tensor", "input_tensor_list", "input", "input_list", "tensor")  # what a worker hands over
_REFRESHES = ("_complete_gradients", "_refresh")  # methods that the step of a curvature optimizer calls


@dataclass(kw_only=True, slots=True)
class Record:
    """A watched step.

    Args:
        seconds: By part; they add up to the step.
        num_collectives: That this worker took part in.
        num_bytes: That it handed to them.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    num_collectives: int = 0
    num_bytes: int = 0


class Timeline:
    """What a step does when: the step itself turns from part to part, and others interrupt it for a while.

    Between steps nothing is noted, and what is watched runs as ever.

    Args:
        device: Where the model trains.
        now: Monotonic time in seconds.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._is_cuda = device.type == "cuda"
        self._parts: list[str] = []  # what is going on: the step itself first, then what interrupts it
        self._marks: list[tuple[str, Any]] = []
        self._record = Record()
        self._is_refresh = False

    def begin(self, part: str, *, is_refresh: bool) -> None:
        """Begin a step.

        Args:
            part: What it does first.
            is_refresh: Whether a refresh is due in it.
        """
        self._parts, self._marks, self._record = [part], [], Record()
        self._is_refresh = is_refresh
        self._mark()

    def turn_to(self, part: str) -> None:
        """Say what the step itself does from now on, if there is one.

        Args:
            part: One of :data:`PARTS`.
        """
        if self._parts:
            self._parts[0] = part
            self._mark()

    def end(self) -> Record:
        """End the step.

        Returns:
            What it did.
        """
        self._mark()
        self._parts = []
        if self._is_cuda:
            torch.cuda.synchronize()
        seconds: dict[str, float] = {}
        for (part, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            duration = start.elapsed_time(end) / 1e3 if self._is_cuda else end - start
            seconds[part] = seconds.get(part, 0.0) + duration
        self._record.seconds = seconds
        return self._record

    def watched(self, part: str, function: Callable[..., Any], *, in_refresh_only: bool = False) -> Callable[..., Any]:
        """Return a function that is a part of the step wherever it is called.

        Args:
            part: One of :data:`PARTS`.
            function: What to call.
            in_refresh_only: Whether it belongs to what calls it where no refresh is due.

        Returns:
            What does the same.
        """

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if not self._parts or (in_refresh_only and not self._is_refresh):
                return function(*args, **kwargs)
            self._parts.append(part)
            self._mark()
            try:
                return function(*args, **kwargs)
            finally:
                self._parts.pop()
                self._mark()

        return call

    def followed_by(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function after which the step turns to a part; arguments as of :meth:`watched`."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            result = function(*args, **kwargs)
            self.turn_to(part)
            return result

        return call

    def counted(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        """Return a collective that is a part of the step, and counted with what it is handed."""
        signature = inspect.signature(collective)
        wait = self.watched("communication", collective)

        @functools.wraps(collective)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if self._parts:
                given = signature.bind(*args, **kwargs).arguments
                payload: Any = next((given[name] for name in _PAYLOADS if name in given), [])
                tensors = [payload] if isinstance(payload, Tensor) else payload
                self._record.num_collectives += 1
                self._record.num_bytes += sum(tensor.nbytes for tensor in tensors)
            return wait(*args, **kwargs)

        return call

    def _mark(self) -> None:
        if self._is_cuda:
            mark: Any = torch.cuda.Event(enable_timing=True)
            mark.record()
        else:
            mark = self._now()
        self._marks.append((self._parts[-1], mark))


@contextmanager
def watching(timeline: Timeline, optimizers: Sequence[object]) -> Iterator[None]:
    """Have a timeline told of collectives and of what optimizers compute for curvature; undone in the end.

    Args:
        timeline: Is told.
        optimizers: Whose refreshes are watched; hooks of all are.
    """
    factors = functools.partial(timeline.watched, "factors")
    with ExitStack() as undo:
        for name in COLLECTIVES:
            _replace(undo, dist, name, timeline.counted(getattr(dist, name)))
        for kind, name in ((capture.WeakHook, "__call__"), (capture.Layer, "commit")):
            _replace(undo, kind, name, factors(vars(kind)[name], in_refresh_only=True))  # else they return at once
        for module, name, function in _uses_of(linalg.__name__):
            _replace(undo, module, name, factors(function))
        for optimizer in optimizers:
            for name in _REFRESHES:
                if isinstance(optimizer, Refreshing) and hasattr(optimizer, name):
                    _replace(undo, optimizer, name, factors(getattr(optimizer, name), in_refresh_only=True))
        yield


def _uses_of(source: str) -> list[tuple[object, str, Callable[..., Any]]]:
    """Return where the functions of a module of ours are used: modules beside it, with the names they have there."""
    package = source.rpartition(".")[0]
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    return [
        (module, name, value)
        for module in modules
        for name, value in list(vars(module).items())
        if inspect.isfunction(value) and value.__module__ == source and not name.startswith("_")
    ]


def _replace(undo: ExitStack, owner: object, name: str, value: object) -> None:
    """Set an attribute until the stack unwinds."""
    if name in vars(owner):
        undo.callback(setattr, owner, name, vars(owner)[name])
    else:
        undo.callback(delattr, owner, name)
    setattr(owner, name, value)
