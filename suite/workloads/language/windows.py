"""Windows of a stream of tokens: what a language model trains on.

N tokens of the stream, n windows, T tokens of a window.
"""

from torch import Tensor

from suite.errors import UsageError
from suite.workloads.base import TensorSplit


def windows(tokens: Tensor, length: int, *, source: str) -> TensorSplit:
    """Cut a stream into windows that do not overlap, each with its targets: the same tokens one further on.

    Every token but the first is predicted once, up to the N - 1 - nT at the end that fill no window. Inputs and targets
    are views of the stream, which is int64 as models take it: half the memory in int32 would cost a copy of each batch.

    Args:
        tokens: int64, shape ``[N]``.
        length: T, >= 1.
        source: Which text this is, for the error.

    Returns:
        n = (N - 1) // T windows, inputs and targets each int64 ``[n, T]``.

    Raises:
        UsageError: If the stream fills no window.
    """
    if length < 1:
        raise UsageError(f"windows of {length} tokens: must be >= 1")
    num_windows = (len(tokens) - 1) // length
    if num_windows < 1:
        need = f"one window of {length} takes {length + 1}"
        raise UsageError(f"{source} has {len(tokens)} tokens, but {need}; get the whole text")
    end = num_windows * length
    return TensorSplit(tokens[:end].view(-1, length), tokens[1 : end + 1].view(-1, length))
