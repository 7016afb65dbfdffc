"""The Monte-Carlo Fisher: statistics of gradients for labels that are drawn from the network's own predictions."""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .base import require
from .capture import Capture, WeakHook, attach
from .comm import resolve_group
from .draws import generator_of
from .factors import accumulation_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SampledLabels:
    """Draws labels in every forward that counts, and shows the capture their gradients in place of the loss's.

    Where a refresh is due, the forward of the whole model is followed by a backward pass of the summed log likelihood
    of labels drawn from its output. It reaches the outputs of layers, no parameter; the graph stays for the loss. A
    label depends on the seed, the step, the forward's number within it, and the row's number among those of all
    workers, so that two workers draw what one with their batches would.

    Args:
        model: The bare network; its output are logits of shape ``[..., classes]``.
        capture: The statistics' collector.
        seed: None for ``torch.initial_seed()``.
        process_group: See :func:`optimizers.comm.resolve_group`.

    Attributes:
        seed: Of all draws.
    """

    def __init__(
        self,
        model: nn.Module,
        capture: Capture[Any],
        seed: int | None,
        process_group: "ProcessGroup | Literal[False] | None",
    ) -> None:
        self.seed = torch.initial_seed() if seed is None else seed
        self._capture = capture
        self._process_group = process_group
        self._step = self._num_forwards = 0
        capture.is_deaf = True
        attach(self, [(model, WeakHook(self.draw))])

    def begin_step(self, step: int) -> None:
        """Say which step the next forwards belong to."""
        self._step, self._num_forwards = step, 0

    def draw(self, inputs: object, logits: object) -> None:
        """Show the capture the gradients for labels drawn from a model's output, if this forward counts.

        Args:
            inputs: Of the model.
            logits: Its output.

        Raises:
            ValueError: If the output is no logits.
        """  # noqa: DOC502
        if not self._capture.counts():
            return
        is_logits = isinstance(logits, Tensor) and logits.is_floating_point() and logits.dim() > 1
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        require(is_logits, "the model's output", "logits of shape [..., classes] where labels are sampled", what)
        assert isinstance(logits, Tensor)
        rows = logits.flatten(0, -2).to(accumulation_dtype(logits.dtype))
        self._capture.attend(F.cross_entropy(rows, self._labels(rows.detach()), reduction="sum"))
        self._num_forwards += 1

    def _labels(self, rows: Tensor) -> Tensor:
        """Return a label for each row of logits, by inverting the distribution function."""
        group = resolve_group(self._process_group)
        rank, num_workers = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        generator = generator_of("cpu", self.seed, self._step, self._num_forwards)
        uniform = torch.rand(num_workers, len(rows), 1, dtype=rows.dtype, generator=generator)[rank].to(rows.device)
        return (rows.softmax(-1).cumsum(-1) < uniform).sum(-1).clamp(max=rows.shape[-1] - 1)
