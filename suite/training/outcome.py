"""What a training takes beside its task, and what it comes to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

Watch = Callable[[float, float], bool]


class Probe(Protocol):
    """Measures something about curvature at evaluations, on rank 0 and outside the clock."""

    def __call__(
        self, model: nn.Module, optimizer: Optimizer, *, step: int, frac: float, frac_before: float
    ) -> tuple[Mapping[str, float], Mapping[str, Tensor]]:
        """Measure.

        Args:
            model: The bare network; left as it is.
            optimizer: Its optimizer; left as it is.
            step: Training steps taken.
            frac: Of the budget that is used.
            frac_before: The same at the evaluation before; 0 at the first.

        Returns:
            Numbers by name, and arrays of one or two dimensions by name.
        """
        ...


class Checkpoints(Protocol):
    """Where a run's checkpoint is kept."""

    def read(self) -> bytes | None:
        """Return the last checkpoint, or ``None``."""
        ...

    def write(self, content: bytes) -> None:
        """Replace the last checkpoint, whole or not at all."""
        ...


@dataclass(kw_only=True)
class Outcome:
    """What a run came to.

    Args:
        status: As in the schema.
        columns: Values for columns of the table ``runs``.
        epochs: Rows of the table ``epochs``.
        steps: Rows of the table ``steps``.
        metrics: Rows of the table ``metrics``.
        arrays: Rows of the table ``arrays``.
    """

    status: str = "completed"
    columns: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    arrays: list[dict[str, Any]] = field(default_factory=list)


def entries_of(name: str, array: Tensor, step: int) -> Iterator[dict[str, Any]]:
    """Return the rows of the table ``arrays`` that hold an array.

    Args:
        name: Of the array.
        array: Shape ``[rows]`` or ``[rows, columns]``.
        step: Training steps taken.

    Yields:
        A row an entry.
    """
    for row, values in enumerate(array.double().reshape(len(array), -1).tolist()):
        for column, value in enumerate(values):
            yield {"step": step, "name": name, "row": row, "column": column, "value": value}
